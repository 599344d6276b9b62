"""Real database servers as the *targets* of nodes: not the one that keeps Brokoli's own rows.

`postgres_target` and `mariadb_target` start with their first use in a pytest process and end with it. A test asks for
`postgres_database` or `mariadb_database`, an empty database of its own on them, which nodes may reach although it is on loopback.
"""

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
import pymysql
import pytest
from django.conf import settings as django_settings

from brokoli_site.common.addresses import Allowed
from pipelines.vault import StoredConnection, Vault
from tests import mariadb, postgres
from tests.programs import wait_for

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """A database on a server of the tests. `type` is the connection type: `postgres` or `mysql`."""

    type: str
    name: str
    port: int
    password: str
    host: str = "127.0.0.1"
    login: str = "brokoli"

    @property
    def uri(self) -> str:
        return f"{self.type}://{self.login}:{self.password}@{self.host}:{self.port}/{self.name}"

    def connection(self, conn_id: str = "db", **changes: Any) -> StoredConnection:
        """A stored connection that leads here. Changes: any of its fields, `password` too."""
        password = changes.pop("password", self.password)
        identity = f"connection:{conn_id}"
        secrets = django_settings.KEYRING.seal(json.dumps({"password": password, "extra": {}}), identity)
        given: dict[str, Any] = {"host": self.host, "port": self.port, "schema": self.name, "login": self.login}
        return StoredConnection(conn_id, self.type, secrets=secrets, identity=identity, **(given | changes))

    def vault(self, conn_id: str = "db", **changes: Any) -> Vault:
        """A vault that holds that connection alone."""
        return Vault(connections={conn_id: self.connection(conn_id, **changes)})

    def connect(self) -> Any:
        """A plain driver's connection (psycopg, PyMySQL), in autocommit."""
        if self.type == "postgres":
            return psycopg.connect(self.uri, autocommit=True)
        return pymysql.connect(
            host=self.host, port=self.port, user=self.login, password=self.password, database=self.name, autocommit=True, charset="utf8mb4"
        )

    def execute(self, *statements: str) -> None:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, sql: str) -> Sequence[tuple[Any, ...]]:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def others(self) -> int:
        """How many sessions there are on this database now, that of the question not counted."""
        if self.type == "postgres":
            return int(self.rows("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")[0][0])
        return int(self.rows("SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()")[0][0])

    def end_reader(self) -> None:
        """End the session that has been reading rows for a moment, as a restart of the server would; it is waited for."""
        reading = {
            "postgres": "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND query LIKE 'COPY%' AND query_start < now() - interval '0.3 s'",
            "mysql": "SELECT id FROM information_schema.processlist WHERE db = database() "
            "AND id <> connection_id() AND info LIKE 'SELECT%' AND time_ms > 300",
        }[self.type]
        ((number,), *_) = wait_for(lambda: self.rows(reading))
        self.rows(f"SELECT pg_terminate_backend({number})") if self.type == "postgres" else self.execute(f"KILL {number}")


class Target(Protocol):
    """A server on which databases can be made."""

    def database(self, name: str) -> Database: ...
    def drop(self, name: str) -> None: ...


@dataclass(frozen=True)
class PostgresTarget:
    server: postgres.Server

    def database(self, name: str) -> Database:
        self._execute(f'CREATE DATABASE "{name}"')
        return Database("postgres", name, self.server.port, self.server.password)

    def drop(self, name: str) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, sql: str) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(sql.encode())


@dataclass(frozen=True)
class MariadbTarget:
    server: mariadb.Server

    def database(self, name: str) -> Database:
        self._execute(f"CREATE DATABASE `{name}`")
        return Database("mysql", name, self.server.port, self.server.password)

    def drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS `{name}`")

    def _execute(self, sql: str) -> None:
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql)


def require_mariadb() -> None:
    """Skip the test where there is no MariaDB, but where the servers are required."""
    if not mariadb.is_installed() and os.environ.get("BROKOLI_TESTS_REQUIRE_SERVERS") != "1":
        pytest.skip("MariaDB is not installed here (Debian's package mariadb-server-core)")


@pytest.fixture(scope="session")
def postgres_target() -> Iterator[PostgresTarget]:
    with postgres.running() as server:
        yield PostgresTarget(server)


@pytest.fixture(scope="session")
def mariadb_target() -> Iterator[MariadbTarget]:
    require_mariadb()
    with mariadb.running() as server:
        yield MariadbTarget(server)


@pytest.fixture
def loopback_allowed(settings: Any) -> None:
    """Nodes may reach servers on this machine."""
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.0/8, ::1")


@contextmanager
def fresh(target: Target) -> Iterator[Database]:
    """An empty database for as long as the block lasts."""
    name = f"target_{next(_numbers)}"
    try:
        yield target.database(name)
    finally:
        target.drop(name)


@pytest.fixture
def postgres_database(postgres_target: PostgresTarget, loopback_allowed: None) -> Iterator[Database]:
    with fresh(postgres_target) as database:
        yield database


@pytest.fixture
def mariadb_database(mariadb_target: MariadbTarget, loopback_allowed: None) -> Iterator[Database]:
    with fresh(mariadb_target) as database:
        yield database
