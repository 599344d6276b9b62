"""Databases and their connections as attackers make them: other hosts in options, texts that stall, words of servers that hold secrets."""

import json
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from django.conf import settings as django_settings

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.errors import NodeError
from pipelines.databases import failures, portions, statements
from pipelines.databases.places import Place, of_connection, place_of
from pipelines.databases.queries import parse
from pipelines.expressions import ExpressionError
from pipelines.vault import ConnectionDetails, StoredConnection, Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop
from tests.servers import Database

pytestmark = pytest.mark.any_database
CANARY = "c4nary-of-the-warehouse"


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[str]]]:
    """A server on loopback, and who called. Each caller is served in a thread."""
    callers: list[str] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer(connection: socket.socket) -> None:
            with closing(connection):
                try:
                    serve(connection)
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    connection, caller = listener.accept()
                except OSError:
                    return
                callers.append(str(caller))
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], callers
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def vault_of(type_name: str, extra: dict[str, Any] | None = None, **fields: Any) -> Vault:
    identity = "connection:db"
    secrets = django_settings.KEYRING.seal(json.dumps({"password": CANARY, "extra": extra or {}}), identity)
    return Vault(connections={"db": StoredConnection("db", type_name, secrets=secrets, identity=identity, **fields)})


# --- where a connection leads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["postgresql://192.0.2.1/db", "mysql://192.0.2.1/db", "oracle+oracledb://192.0.2.1/db"])
@pytest.mark.parametrize("name", ["hostaddr", "host", "service", "passfile", "options", "unix_socket", "read_default_file", "odbc_connect"])
def test_options_of_a_generic_connection_are_judged(url: str, name: str) -> None:
    with pytest.raises(NodeError, match="cannot be set"):
        of_connection(ConnectionDetails("db", "generic", host=url, login="u", password=CANARY, extra={name: "127.0.0.1"}))


def test_an_option_does_not_lead_past_the_guard(workshop: Workshop, settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed.read("192.0.2.0/24")  # loopback is not
    with listening(lambda connection: None) as (port, callers):
        vault = vault_of("generic", {"hostaddr": "127.0.0.1"}, host=f"postgresql://192.0.2.1:{port}/db", login="u")
        with pytest.raises(NodeError):
            workshop.run("source_db", Given({"conn_id": "db", "query": "SELECT 1"}, vault=vault))
    assert callers == []


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "postgres:///db?host=/var/run/postgresql",
            "postgres://%2Fvar%2Frun%2Fpostgresql/db",
            "postgres://192.0.2.1,127.0.0.1/db",
            "postgres:///db",
        ),
        *("postgres://192.0.2.1/db?hostaddr=127.0.0.1", "postgres://192.0.2.1/db?service=x", "postgres://192.0.2.1/db?passfile=/etc/passwd"),
        *("postgresql+psycopg_async://%2Ftmp/db", "mysql://192.0.2.1/db?unix_socket=/run/mysqld/mysqld.sock", "mysql://192.0.2.1/db?local_infile=1"),
        *("mysql://192.0.2.1/db?read_default_file=/etc/passwd", "sqlite+pysqlite:///brokoli.sqlite3", "sqlite+pysqlite:////etc/passwd"),
        *("sqlite:///:memory:", "sqlite:///file:/etc/passwd?mode=ro", "sqlite:////proc/self/environ", "sqlite:///../x.db", "sqlite:///link.db"),
        *(
            "duckdb:////etc/passwd",
            "postgres://2130706433/db",
            "postgres://0x7f.1/db",
            "mysql://[::ffff:127.0.0.1]/db",
            "postgres://metadata.google.internal/db",
        ),
    ],
)
def test_a_uri_reaches_neither_sockets_nor_files_nor_other_hosts(workshop: Workshop, uri: str) -> None:
    (workshop.folder / "link.db").symlink_to("/etc/passwd")
    with pytest.raises(NodeError) as caught:
        workshop.run("source_db", Given({"uri": uri, "query": "SELECT 1"}))
    assert not caught.value.retryable or "not known" in caught.value.message


# --- texts that stall -----------------------------------------------------------------------------------------------


STALLING: dict[str, tuple[str, Callable[[int], str]]] = {
    "dollars": ("postgres", lambda count: " ".join(f"$a{number}$" for number in range(count))),
    "comments": ("postgres", lambda count: "/* " * count),
    "escapes": ("mysql", lambda count: "`" + "'\\" * count),
    "quotes": ("mysql", lambda count: '"\\' * count),
    "spaces": ("sqlite", lambda count: " " * count + "1"),
    "dashes": ("sqlite", lambda count: "-" * count + "\n1"),
    "comments that end": ("sqlite", lambda count: "/**/" * count + "1"),
}


@pytest.mark.parametrize("name", STALLING)
def test_statements_are_taken_apart_in_one_go(name: str) -> None:
    """A regular expression keeps the whole worker waiting, heartbeat too."""
    dialect, text = STALLING[name]
    started = time.process_time()
    for statement in statements.split(text(30_000), dialect):
        statements._WORD.match(statement)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["connection " * 100_000, "\n " * 500_000, 'connection to server at "' * 50_000, "x" * 50_000_000])
def test_words_of_servers_without_end_are_read_quickly(text: str) -> None:
    place, started = Place("postgres", "the connection 'db'"), time.process_time()
    for told in (failures.of_query(Exception(text), place), failures.of_connecting(Exception(text), place)):
        assert len(told.message) < 1000
    assert time.process_time() - started < 2


def test_secrets_are_taken_out_before_words_are_cut() -> None:
    vault = vault_of("postgres", host="192.0.2.1")
    place = place_of("db", "", vault)
    for length in range(560, 601, 5):
        error = Exception("x" * length + CANARY)
        for told in (failures.of_query(error, place), failures.of_connecting(error, place)):
            assert CANARY[:6] not in told.message
    alone = of_connection(ConnectionDetails("db", "postgres", host="192.0.2.1", password=CANARY))
    assert CANARY[:6] not in failures.of_query(Exception("x" * 590 + CANARY), alone).message


# --- values that would be statements --------------------------------------------------------------------------------


def test_a_value_stays_a_value_where_backslashes_escape(workshop: Workshop, postgres_database: Database) -> None:
    """Old databases have `standard_conforming_strings` off."""
    postgres_database.execute(
        f'ALTER DATABASE "{postgres_database.name}" SET standard_conforming_strings = off', "CREATE TABLE t (v text)", "CREATE TABLE kept (v text)"
    )
    evil = r"\'); DROP TABLE kept; --"
    generated = workshop.run("sql_generate", Given({"table": "t", "dialect": "postgres"}, [f"SELECT '{evil.replace(chr(39), chr(39) * 2)}' AS v"]))
    workshop.run("sink_db", Given({"uri": postgres_database.uri, "table": ""}, [f"FROM {generated.sql}"]), node_id="sink")
    assert [tuple(row) for row in postgres_database.rows("SELECT v FROM t")] == [(evil,)]
    assert postgres_database.rows("SELECT count(*) FROM kept")[0][0] == 0


def test_a_value_stays_a_value_where_they_do_not(workshop: Workshop, mariadb_database: Database) -> None:
    mariadb_database.execute("CREATE TABLE t (v text)", "CREATE TABLE kept (v text)")
    evil = r"\'); DROP TABLE kept; -- \\' ` 縗'"
    generated = workshop.run("sql_generate", Given({"table": "t", "dialect": "mysql"}, [f"SELECT '{evil.replace(chr(39), chr(39) * 2)}' AS v"]))
    workshop.run("sink_db", Given({"uri": mariadb_database.uri, "table": ""}, [f"FROM {generated.sql}"]), node_id="sink")
    assert [tuple(row) for row in mariadb_database.rows("SELECT v FROM t")] == [(evil,)]


# --- rows of any size -----------------------------------------------------------------------------------------------


def test_portions_are_small_where_rows_are_large(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "MOST_BYTES", 1000)
    rows = iter([("x" * 10,)] * 3 + [("x" * 990,)] * 3)
    sizes = []
    while found := portions.portion(rows, 4, [0]):
        sizes.append(len(found))
    assert sizes == [4, 2]
    with closing(sqlite3.connect(workshop.folder / "a.db")) as connection:
        connection.execute("CREATE TABLE t (v)")
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT CAST(zeroblob(500) AS TEXT) AS v FROM n"
    assert workshop.run("source_db", Given({"uri": "sqlite:///a.db", "query": query})).result.row_count == 100


def test_a_value_of_a_gigabyte_is_refused(workshop: Workshop) -> None:
    sqlite3.connect(workshop.folder / "a.db").close()
    (workshop.folder / "a.db").touch()
    with pytest.raises(NodeError, match="too big"):
        workshop.run("source_db", Given({"uri": "sqlite:///a.db", "query": "SELECT zeroblob(900000000) AS v"}))


def _endless(connection: socket.socket) -> None:
    """A MariaDB server whose first packet has no end."""
    number = 0
    while True:
        connection.sendall(struct.pack("<HBB", 0xFFFF, 0xFF, number % 256))
        for _ in range(255):
            connection.sendall(b"x" * 65793)
        number += 1


def test_a_server_whose_packet_has_no_end_is_left(workshop: Workshop, loopback_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.databases.mysql.LARGEST_VALUE", 20 * 1024**2)
    with listening(_endless) as (port, callers), pytest.raises(NodeError, match="larger than"):
        vault = vault_of("mysql", host="127.0.0.1", port=port, login="u")
        workshop.run("source_db", Given({"conn_id": "db", "query": "SELECT 1"}, vault=vault))
    assert len(callers) == 1


@pytest.mark.parametrize(
    "query", ["SELECT 1 /*! INTO OUTFILE '/tmp/x' */", "SELECT 1 /*M!100100 INTO OUTFILE '/tmp/x' */", "/*!50000 SELECT */ SELECT 1"]
)
def test_comments_that_a_database_executes_are_refused(query: str) -> None:
    with pytest.raises(ExpressionError, match="comment that the database executes"):
        parse(query, "mysql")
    assert parse("SELECT '/*! text */', 1 /* ! said */ -- !\n", "mysql").values == []
