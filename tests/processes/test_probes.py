"""The probes of a real server whose database is frozen, or locked by somebody else: answered at once, or within two seconds."""

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import psutil
import pytest
import requests
from django.db import connection

from tests import postgres
from tests.conftest import StartServer, StartWorker
from tests.patience import within
from tests.programs import Server, wait_for

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-prometheus"
AT_ONCE, BOUNDED = 0.8, 2.5  # seconds


def ask(server: Server, path: str, **headers: str) -> tuple[int, Any, float]:
    """Status, body and seconds."""
    began = monotonic()
    response = requests.get(f"{server.url}{path}", headers=headers, timeout=30)
    return response.status_code, response.json(), monotonic() - began


def alive(server: Server) -> None:
    """Many ask at the same time, and no one waits for the database."""
    with ThreadPoolExecutor(8) as pool:
        for status, body, seconds in pool.map(lambda _: ask(server, "/livez"), range(16)):
            assert (status, body) == (200, {"status": "ok"})
            assert seconds < within(AT_ONCE * 4)  # of eight that share a machine
    assert ask(server, "/livez")[2] < within(AT_ONCE)


def not_ready(server: Server, sentence: str) -> None:
    """Within a second or two, because what was seen before may be told that long, and bounded from the first answer on."""
    answers = [ask(server, "/readyz")]
    while answers[-1][0] == 200 and len(answers) < 300:
        answers.append(ask(server, "/readyz"))
    status, body, _ = answers[-1]
    assert (status, body) == (503, {"status": "not ready", "problems": [sentence]})
    assert max(seconds for _, _, seconds in answers) < within(BOUNDED)


def down(server: Server) -> None:
    for headers in ({}, {"authorization": "Basic c29tZWJvZHk6c29tZXRoaW5n"}, {"host": "10.0.0.1"}):
        status, body, seconds = ask(server, "/health", **headers)
        assert (status, body["status"]) == (503, "down")
        assert seconds < within(BOUNDED)


def measured(server: Server, database_up: int = 1) -> str | None:
    """None, or what is wrong: metrics are there within their time, whether or not the database answers."""
    began = monotonic()
    response = requests.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30)
    assert (response.status_code, monotonic() - began < within(BOUNDED + 2)) == (200, True)
    whole = f"brokoli_database_up {database_up}.0" in response.text and ("brokoli_runs{" in response.text) == bool(database_up)
    return None if whole else response.text


def until_ready(server: Server) -> None:
    wait_for(lambda: ask(server, "/readyz")[0] == 200, 20, "the server to be ready again")


@contextlib.contextmanager
def frozen(server: postgres.Server) -> Iterator[None]:
    """SIGSTOP of PostgreSQL and of all its children."""
    main = psutil.Process(server.process_id)
    stopped = [main, *main.children(recursive=True)]
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):  # as that of a connection that was just closed
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@pytest.mark.any_database
def test_postgresql_is_frozen(start_program: StartWorker, start_server: StartServer) -> None:
    with postgres.running() as database:
        url = database.url()
        assert start_program("migrate", DATABASE_URL=url).wait(60) == 0
        server = start_server("--workers", "0", DATABASE_URL=url, BROKOLI_METRICS_TOKEN=TOKEN)
        assert ask(server, "/readyz")[:2] == (200, {"status": "ready", "problems": []})
        assert ask(server, "/health")[1]["checks"]["database"]["vendor"] == "postgresql"
        with frozen(database):
            alive(server)
            not_ready(server, "The database does not answer.")
            down(server)
            assert measured(server, database_up=0) is None
            alive(server)
        until_ready(server)
        wait_for(lambda: measured(server) is None, what="the metrics to be whole again")
        assert ask(server, "/health")[1]["status"] == "degraded"  # no worker, all else well


def test_sqlite_is_locked(start_server: StartServer) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no lock that all writers, or readers, share")
    server = start_server("--workers", "0")
    until_ready(server)
    name = str(connection.settings_dict["NAME"])
    connection.close()
    with contextlib.closing(sqlite3.connect(name, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        alive(server)
        not_ready(server, "Somebody else holds the database's write lock, so nothing can be accepted.")
        status, body, _ = ask(server, "/health")  # it can still be read, so whoever may sees more
        assert (status, body["checks"]["database"]["status"], body["checks"]["migrations"]["status"]) == (503, "down", "ok")
        other.execute("ROLLBACK")
        until_ready(server)

        other.execute("PRAGMA locking_mode=EXCLUSIVE")  # readers have to wait, too
        wait_for(lambda: _taken(other), 15, "the exclusive lock")
        alive(server)
        not_ready(server, "The database does not answer.")
        down(server)
    until_ready(server)


def _taken(other: sqlite3.Connection) -> bool:
    try:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE held (x)")
        other.execute("ROLLBACK")
    except sqlite3.OperationalError:
        with contextlib.suppress(sqlite3.OperationalError):
            other.execute("ROLLBACK")
        return False
    return True
