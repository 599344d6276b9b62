"""A load whose server dies half-way: the table holds what it held, and the next attempt writes all rows once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.databases.postgres_loading import PostgresSession
from pipelines.nodes.base import Stop
from tests import mariadb, postgres
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop
from tests.programs import wait_for
from tests.servers import Database, MariadbTarget, PostgresTarget, require_mariadb

pytestmark = [pytest.mark.any_database, pytest.mark.slow]
MANY = "SELECT i AS id, 'name ' || i AS name, i * 0.5 AS amount FROM range(1_000_000) t(i)"
TABLE = "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), amount DECIMAL(18, 2))"
OLD = "INSERT INTO t VALUES (-1, 'old', 1)"


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    made.close()


def loads_until_the_server_dies(workshop: Workshop, database: Database, kill: Callable[[], None], **config: Any) -> NodeError:
    """The failure of a load that has come to a third when `kill` is called."""
    given = Given({"uri": database.uri, "table": "t", **config}, [MANY])
    workshop.task("sink_db", given)  # makes the input before anything is counted
    with workshop.running("sink_db", given, Stop()) as running:
        wait_for(lambda: sum(level == "progress" for level, _ in running.log.lines) >= 2 or not running.thread.is_alive(), seconds=60)
        kill()
        running.thread.join(60)
    (error,) = running.errors
    assert isinstance(error, NodeError)
    return error


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_postgresql_is_killed_half_way(workshop: Workshop, loopback_allowed: None, mode: str) -> None:
    """SIGKILL of the process that serves the load: PostgreSQL takes all others down with it and recovers."""
    with postgres.running() as server:
        database = PostgresTarget(server).database("target")
        database.execute(TABLE, OLD)

        def kill() -> None:
            ((pid,),) = database.rows("SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY%' AND pid <> pg_backend_pid()")
            os.kill(pid, signal.SIGKILL)

        error = loads_until_the_server_dies(workshop, database, kill, mode=mode)
        assert isinstance(error, TransientNodeError)
        wait_for(lambda: _answers(database), seconds=60)
        assert database.rows("SELECT * FROM t") == [(-1, "old", 1)]
        retried = workshop.run("sink_db", Given({"uri": database.uri, "table": "t", "mode": mode}, [MANY]))
        assert retried.result.row_count == 1_000_000
        expected = 1_000_001 if mode == "append" else 1_000_000
        assert database.rows("SELECT count(*), count(DISTINCT id) FROM t") == [(expected, expected)]


def _answers(database: Database) -> bool:
    with suppress(psycopg.Error):
        return database.rows("SELECT 1") == [(1,)]
    return False


def test_mariadb_is_killed_half_way(workshop: Workshop, loopback_allowed: None) -> None:
    require_mariadb()
    with mariadb.running() as server:
        database = MariadbTarget(server).database("target")
        database.execute(TABLE, OLD)
        error = loads_until_the_server_dies(workshop, database, server.kill, mode="overwrite")
        assert isinstance(error, TransientNodeError)
        server.restart()
        assert database.rows("SELECT * FROM t") == [(-1, "old", 1)]


def test_a_commit_whose_answer_is_lost_is_found(workshop: Workshop, postgres_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks after the server has committed, before it could say so."""
    postgres_database.execute("CREATE TABLE t (id INT)")
    given = Given({"uri": postgres_database.uri, "table": "t"}, ["SELECT i AS id FROM range(10) t(i)"])
    commit = PostgresSession.commit
    commits: list[int] = []

    def commit_and_lose(self: PostgresSession) -> None:
        commit(self)
        commits.append(1)
        if len(commits) == 2:  # the first was the ledger's table
            raise TransientNodeError("The connection broke.")

    monkeypatch.setattr(PostgresSession, "commit", commit_and_lose)
    with pytest.raises(TransientNodeError):
        workshop.run("sink_db", given, node_id="load")
    assert workshop.run("sink_db", given, node_id="load").result.row_count == 10
    assert postgres_database.rows("SELECT count(*) FROM t") == [(10,)]
