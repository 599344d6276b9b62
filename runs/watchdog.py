"""Stops nodes whose time is up, and interrupts the query of every node that was told to stop, until it has ended."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from brokoli_site.common.errors import NodeTimeout
from brokoli_site.common.time import human_duration
from pipelines.nodes.base import Stop

# An interrupt that arrives between two queries of a node is lost on DuckDB, so it is repeated for as long as the node runs.
_REPEAT_SECONDS = 0.02


@dataclass(eq=False, slots=True)
class _Watched:
    stop: Stop
    interrupt: Callable[[], None]


class Watchdog:
    """One thread for all nodes of the process, started with the first of them; it sleeps until a deadline or a stop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: set[_Watched] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def watch(self, stop: Stop, interrupt: Callable[[], None]) -> Iterator[None]:
        """While the block runs: stop it with `NodeTimeout` at its deadline; once stopped, call `interrupt` again and again.

        `interrupt` must not block, and is never called after the block has ended.
        """
        watched = _Watched(stop, interrupt)
        with self._changed:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="watchdog", daemon=True)
                self._thread.start()
            self._changed.notify()
        stop.on_stop(self._wake)
        try:
            yield
        finally:
            with self._changed:
                self._watched.discard(watched)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                if not self._closed:  # else the notification came before this thread waited for it
                    self._changed.wait(self._seconds_to_next())
                if self._closed:
                    return
                for watched in self._watched:
                    if watched.stop.reason is not None:
                        watched.interrupt()
                late = [watched.stop for watched in self._watched if _is_late(watched.stop)]
            # Outside the lock: what was registered with `on_stop` may take its time (ending a process tree does).
            for stop in late:
                stop.stop(NodeTimeout(f"The node took longer than its timeout of {_duration(stop)} and was stopped."))

    def _seconds_to_next(self) -> float | None:
        """None: nothing to do until something changes."""
        if any(watched.stop.reason is not None or _is_late(watched.stop) for watched in self._watched):
            return _REPEAT_SECONDS
        deadlines = [watched.stop.deadline for watched in self._watched if watched.stop.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None


def _is_late(stop: Stop) -> bool:
    return stop.reason is None and stop.deadline is not None and stop.deadline <= time.monotonic()


def _duration(stop: Stop) -> str:
    return human_duration(round((stop.timeout_seconds or 0.0) * 1000))
