"""What every worker does besides executing runs: look at the clock, settle what waits, clean up. One thread a worker.

Each chore is safe to do in any number of workers at the same time, and to be killed in the middle of: rows decide who did it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, InterfaceError, connection, connections

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """`act` is called when the worker starts and then every so many seconds; `on_end` too whenever a run has ended here."""

    name: str
    every_seconds: float
    act: Callable[[], object]
    on_end: bool = False


class Ticker:
    """Does the chores, one after the other, until it is told to stop. A chore that fails is tried again at its next turn."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores
        self._due = {chore.name: 0.0 for chore in chores}
        self._changed = threading.Condition()
        self._stopped = False

    def run(self) -> None:
        """In a thread of its own."""
        try:
            while not self._wait():
                for chore in self._take_due():
                    self._do(chore)
        finally:
            connections.close_all()

    def nudge(self) -> None:
        """A run ended here: what follows from that need not wait."""
        with self._changed:
            self._due |= {chore.name: 0.0 for chore in self._chores if chore.on_end}
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _wait(self) -> bool:
        """Until a chore is due. True when told to stop."""
        with self._changed:
            while not self._stopped:
                left = min(self._due.values(), default=float("inf")) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            return self._stopped

    def _take_due(self) -> list[Chore]:
        now = time.monotonic()
        with self._changed:
            due = [chore for chore in self._chores if self._due[chore.name] <= now]
            self._due |= {chore.name: now + chore.every_seconds for chore in due}
        return due

    def _do(self, chore: Chore) -> None:
        if self._stopped:
            return
        try:
            chore.act()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("database away", chore=chore.name, error=str(error).split("\n")[0])
            connection.close()
        except Exception:
            # The clock must go on for the others.
            logger.exception("chore failed", chore=chore.name)
