"""Breaking off what blocks on a database, and closing what is still in use."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import duckdb
import pytest

from brokoli_site.common.errors import NodeCancelled, NodeError
from pipelines.databases.interruption import Interruption
from pipelines.databases.opening import Opening
from pipelines.databases.places import of_connection
from pipelines.databases.queries import Statement
from pipelines.databases.streaming import Stream, query_of
from pipelines.nodes.base import Stop
from pipelines.nodes.testing import Log
from tests.contracts.workshop import Workshop
from tests.patience import within
from tests.programs import wait_for
from tests.servers import Database

LONG = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 40000000) SELECT count(*) FROM s"


def test_a_query_that_begins_just_after_it_was_cancelled_is_cancelled_again() -> None:
    connection, stop, asked = sqlite3.connect(":memory:", check_same_thread=False), Stop(), threading.Event()

    def interrupt() -> None:
        connection.interrupt()
        asked.set()

    interruption = Interruption(stop)
    interruption.arm(interrupt, None)
    stop.stop(NodeCancelled("The run was cancelled."))
    wait_for(asked.is_set)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        connection.execute(LONG).fetchone()
    interruption.close(connection.close)


def test_rows_are_not_asked_for_once_their_connection_is_closed() -> None:
    connection, interruption = sqlite3.connect(":memory:", check_same_thread=False), Interruption(Stop())
    interruption.arm(connection.interrupt, None)
    rows = interruption.reading(iter(connection.execute("VALUES (1), (2), (3)")))
    assert next(rows) == (1,)
    interruption.close(connection.close)
    with pytest.raises(NodeError, match="closed before all rows were read"):
        next(rows)


def test_what_another_thread_reads_is_broken_off_before_its_connection_is_closed() -> None:
    connection, interruption, ends = sqlite3.connect(":memory:", check_same_thread=False), Interruption(Stop()), list[str]()
    interruption.arm(connection.interrupt, None)
    began = threading.Event()

    def rows() -> Iterator[int]:
        began.set()
        with suppress(sqlite3.OperationalError):
            connection.execute(LONG).fetchone()
        ends.append("interrupted")
        yield 1

    thread = threading.Thread(target=lambda: next(interruption.reading(rows())))
    thread.start()
    wait_for(began.is_set)
    interruption.close(lambda: ends.append("closed"))
    thread.join()
    connection.close()
    assert ends == ["interrupted", "closed"]


def test_a_cancellation_under_way_is_over_before_the_connection_is_closed() -> None:
    stop, may_end, ends = Stop(), threading.Event(), list[str]()
    asked = threading.Event()

    def cancel() -> None:
        asked.set()
        may_end.wait()
        ends.append("asked")

    interruption = Interruption(stop)
    interruption.arm(cancel, None)
    stop.stop(NodeCancelled("The run was cancelled."))
    wait_for(asked.is_set)
    interruption.close(lambda: ends.append("closed"))  # which does not wait for a server that does not answer
    assert ends == []
    may_end.set()
    wait_for(lambda: ends == ["asked", "closed"])


@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_a_server_s_rows_may_be_let_go_of_while_another_thread_reads_them(server: str, workshop: Workshop, request: pytest.FixtureRequest) -> None:
    database: Database = request.getfixturevalue(f"{server}_database")
    series = {"postgres": "SELECT generate_series(1, 100000000) AS id", "mariadb": "SELECT seq AS id FROM seq_1_to_100000000"}[server]
    place = of_connection(database.vault().connection("db"))
    for _ in range(5):
        stream = Stream(place, Opening(Stop(), workshop.engine.folders), Statement((series,)), Log())
        reader = Reader(stream)
        reader.start()
        wait_for(reader.began.is_set)
        stream.close()
        reader.join(within(5))
        assert reader.failure is not None
    wait_for(lambda: database.others() == 0)


def test_a_stop_between_a_query_and_its_view_leaves_no_session(workshop: Workshop, postgres_database: Database) -> None:
    """The data engine is interrupted as often as it takes: also while it makes the view."""
    place, kept = of_connection(postgres_database.vault().connection("db")), list[Stream]()
    over = threading.Event()
    with duckdb.connect() as engine:
        interrupting = threading.Thread(target=interrupt_until, args=(engine, over))
        interrupting.start()
        try:
            with pytest.raises(duckdb.InterruptException):
                while True:
                    kept.append(Stream(place, Opening(Stop(), workshop.engine.folders), Statement(("SELECT 1 AS a",)), Log()))
                    query_of(kept[-1], SimpleNamespace(connection=engine))  # type: ignore[arg-type]
                    kept.pop().close()
        finally:
            over.set()
            interrupting.join()
    wait_for(lambda: postgres_database.others() == 0, what="the session to end, although the stream is kept")


def interrupt_until(engine: duckdb.DuckDBPyConnection, over: threading.Event) -> None:
    while not over.is_set():
        engine.interrupt()


class Reader(threading.Thread):
    """Reads to the end, as the data engine's threads do. `failure`: what it met."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.began = threading.Event()
        self.failure: NodeError | None = None
        self._rows = stream.reader()

    def run(self) -> None:
        try:
            for _ in self._rows:
                self.began.set()
        except NodeError as error:
            self.failure = error
