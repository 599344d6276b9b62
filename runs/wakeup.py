"""How an idle worker learns that something changed, within milliseconds. Only a hint: polling stays the truth."""

import contextlib
import os
import select
import sqlite3
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import psycopg
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

_SQLITE_POLL_SECONDS = 0.01  # one `PRAGMA data_version` costs some microseconds
# Most commits are those of the worker's own runs: their nodes and log lines. Asking SQLite what a commit was about costs some
# microseconds too; going round the worker's loop for each of them costs more than executing small runs does.
_CANCELS = "EXISTS (SELECT 1 FROM runs_run WHERE status = 'running' AND cancel_requested_at IS NOT NULL)"
# Parked runs are left to the poll: while one waits, every commit would be news. (Times are texts that sort.)
_WAITING_RUNS = (
    "EXISTS (SELECT 1 FROM runs_run WHERE status = 'pending' AND (not_before IS NULL OR not_before <= strftime('%Y-%m-%d %H:%M:%f', 'now')))"
)


class _Source(Protocol):
    """Watches the database for commits of others."""

    def wait(self, pipe: int, seconds: float, *, for_runs: bool) -> None:
        """Return when something changed, `pipe` became readable, or the time is over. Errors: database errors."""

    def close(self) -> None: ...


class Wakeup:
    """Waits for news from the database or from this process. `wake` may be called from any thread and from signal handlers."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._source: _Source | None = None
        self._closed = False
        self._closing = threading.RLock()  # a signal handler may come while its own thread holds it

    def wake(self) -> None:
        with self._closing, contextlib.suppress(BlockingIOError):  # the pipe is full of wakes already
            if not self._closed:  # else it comes late: nobody waits any more, and the descriptor may be another file's by now
                os.write(self._write, b"x")

    def wait(self, seconds: float, *, for_runs: bool = True) -> None:
        """Sleep until something may have changed, at most `seconds`. A database that is away is waited for, not raised.

        `for_runs`: whether a run that waits for a worker is reason to wake; for a worker that has no place for one it is not.
        """
        try:
            if self._source is None:
                self._source = _open_source(connection)
            self._source.wait(self._read, seconds, for_runs=for_runs)
        except (sqlite3.Error, psycopg.Error, OSError):
            self._drop_source()
            select.select([self._read], [], [], min(seconds, 0.5))
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def _drop_source(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._drop_source()
        with self._closing:
            self._closed = True
            os.close(self._read)
            os.close(self._write)


def _open_source(database: BaseDatabaseWrapper) -> _Source:
    if database.vendor == "postgresql":
        return _Notifications(database)
    return _DataVersion(str(database.settings_dict["NAME"]))


class _DataVersion:
    """SQLite: `PRAGMA data_version` changes when any other connection, of any process, commits."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=1)
        self._version = -1  # whatever was committed before the first look is news

    def wait(self, pipe: int, seconds: float, *, for_runs: bool) -> None:
        end = time.monotonic() + seconds
        while True:
            version = self._read_version()
            if version != self._version:
                self._version = version
                if self._is_news(for_runs):
                    return
            left = end - time.monotonic()
            if left <= 0 or select.select([pipe], [], [], min(left, _SQLITE_POLL_SECONDS))[0]:
                return

    def close(self) -> None:
        self._connection.close()

    def _read_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _is_news(self, for_runs: bool) -> bool:
        question = f"SELECT {_WAITING_RUNS} OR {_CANCELS}" if for_runs else f"SELECT {_CANCELS}"
        return bool(self._connection.execute(question).fetchone()[0])


class _Notifications:
    """PostgreSQL: `LISTEN` on a connection of its own."""

    def __init__(self, database: BaseDatabaseWrapper) -> None:
        parameters = database.get_connection_params()
        # Those that libpq knows; the others are Django's and psycopg's own.
        known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
        self._connection = psycopg.connect(**{key: value for key, value in parameters.items() if key in known}, autocommit=True)
        self._connection.execute("LISTEN brokoli_runs")

    def wait(self, pipe: int, seconds: float, *, for_runs: bool) -> None:
        if select.select([pipe, self._connection.fileno()], [], [], seconds)[0]:
            for _ in self._connection.notifies(timeout=0):
                pass

    def close(self) -> None:
        self._connection.close()
