"""Follows the log for the clients of one process: a thread reads, their event loop gets what is new. Idle while nobody is connected."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from runs.events.frames import Row
from runs.events.ring import Listener, Ring
from runs.events.source import PAGE, Pipelines, Source, open_source, rendered
from runs.hints import HintedWatch, Watch

_log = logging.getLogger(__name__)
_SQLITE_POLL_SECONDS = 0.01  # one `PRAGMA data_version` costs some microseconds
_POSTGRES_POLL_SECONDS = 0.02  # one look at an index; NOTIFY would make all commits of the log wait for one another
# Between two looks while there is news, so that a hundred clients get a few larger writes and not a thousand small ones.
_GATHER_SECONDS = 0.02
_RETRY_SECONDS = 0.5
_LINGER_SECONDS = 10.0  # a client that connects again soon finds its events in memory


class _DataVersion:
    """SQLite: `PRAGMA data_version` changes when any other connection, of any process, commits."""

    seconds = _SQLITE_POLL_SECONDS

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=1)
        self._version = -1

    def changed(self) -> bool:
        before, (self._version,) = self._version, self._connection.execute("PRAGMA data_version").fetchone()
        return before != self._version

    def close(self) -> None:
        self._connection.close()


class _Always:
    """PostgreSQL: the look itself costs as little as any question."""

    seconds = _POSTGRES_POLL_SECONDS

    def changed(self) -> bool:
        return True

    def close(self) -> None:
        pass


def _watch() -> Watch:
    watch: Watch = _Always() if connection.vendor == "postgresql" else _DataVersion(str(connection.settings_dict["NAME"]))
    return HintedWatch(settings.REDIS_URL, watch) if settings.REDIS_URL else watch


class _Following:
    """One thread that fills one ring, until it is told to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipelines: Pipelines) -> None:
        self.ring = Ring()
        self._loop, self._pipelines = loop, pipelines
        self._stop = threading.Event()
        self._untold: tuple[list[Row], int] | None = None  # the source has passed on, and the ring has not got yet
        # A daemon: a server that ends does not wait for it, and it only reads.
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            source: Source | None = None
            while not self._stop.is_set():
                try:
                    source = source or self._opened()
                    if source is not None:
                        self._follow(source)
                except (DatabaseError, InterfaceError, sqlite3.Error) as error:
                    _log.warning("the event stream waits for the database: %s", error)
                    connection.close()
                    self._stop.wait(_RETRY_SECONDS)
        finally:
            connection.close()
            self._tell(self.ring.close)

    def _opened(self) -> Source | None:
        """The source, once it can say where it begins; None when it is told to stop before."""
        source = open_source()
        while (frontier := source.open()) is None:
            if self._stop.wait(_POSTGRES_POLL_SECONDS):
                return None
        self._tell(self.ring.open, frontier)
        return source

    def _follow(self, source: Source) -> None:
        """Until told to stop. Errors: database errors; the next call goes on where this one was."""
        watch = _watch()
        try:
            stale = True  # what came since the source was opened, or was last read
            while not self._stop.is_set():
                if not (stale or watch.changed()):
                    self._stop.wait(watch.seconds)
                    continue
                rows, frontier = self._untold = self._untold or source.news()
                if rows:
                    self._tell(self.ring.extend, rendered(rows, self._pipelines), frontier)  # asks the database, which may be away
                self._untold = None
                stale = len(rows) == PAGE
                if not stale:
                    self._stop.wait(_GATHER_SECONDS if rows else watch.seconds)
        finally:
            watch.close()

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has ended, and all clients with it
            self._stop.set()


class Tailer:
    """What the clients of one event loop share. Belongs to that loop."""

    def __init__(self) -> None:
        self.pipelines = Pipelines()
        self._clients = 0
        self._following: _Following | None = None
        self._end: asyncio.TimerHandle | None = None

    @property
    def clients(self) -> int:
        return self._clients

    def join(self, listener: Listener) -> Ring:
        """The ring that is filled from now on; it may not be `ready` yet."""
        self._clients += 1
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._following is None or self._following.ring.closed:
            self._following = _Following(asyncio.get_running_loop(), self.pipelines)
        self._following.ring.listeners.add(listener)
        return self._following.ring

    def leave(self, ring: Ring, listener: Listener) -> None:
        ring.listeners.discard(listener)
        self._clients -= 1
        if self._clients == 0:
            self._end = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._rest)

    def close(self) -> None:
        """End for good, and wait until it has."""
        if self._end is not None:
            self._end.cancel()
        if (following := self._following) is not None:
            self._rest()
            following.join()

    def _rest(self) -> None:
        if self._following is not None:
            self._following.stop()
            self._following = None


_tailers: "WeakKeyDictionary[asyncio.AbstractEventLoop, Tailer]" = WeakKeyDictionary()


def tailer() -> Tailer:
    """That of the running event loop: a web process has one."""
    loop = asyncio.get_running_loop()
    if loop not in _tailers:
        _tailers[loop] = Tailer()
    return _tailers[loop]


def clients() -> int:
    """How many there are in this process, of all its event loops."""
    return sum(each.clients for each in list(_tailers.values()))
