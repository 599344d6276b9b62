"""Answers within a bounded time, whatever has to be asked for them: a database that is frozen, a file system that hangs.

The question is put in a thread, by one asker at a time; the others wait for the same answer, and for no longer than they like. A thread that
never comes back is left behind, and after a while another one tries, a few times at most.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

_GIVEN_UP_AFTER = 10.0  # seconds, until a new thread may try
_MOST_LEFT_BEHIND = 3


class NoAnswer(Exception):
    """It did not come within the time."""


@dataclass
class _Attempt(Generic[T]):
    began: float = field(default_factory=monotonic)
    ended: threading.Event = field(default_factory=threading.Event)
    ended_at: float = 0.0
    value: T | None = None
    error: Exception | None = None


@dataclass
class Flight(Generic[T]):
    """Asks `ask`, and keeps what it said for `fresh_seconds`: however many are interested, it is asked no more often than that. Thread-safe."""

    name: str
    ask: Callable[[], T]
    fresh_seconds: float = 1.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _current: _Attempt[T] | None = None
    _left_behind: list[_Attempt[T]] = field(default_factory=list)

    def get(self, seconds: float) -> T:
        """What `ask` gives. Errors: `NoAnswer` after so many seconds; what `ask` raised."""
        attempt = self._attempt()
        if not attempt.ended.wait(max(0.0, seconds)):
            raise NoAnswer(f"{self.name}: no answer within {seconds:.1f} s")
        if attempt.error is not None:
            raise attempt.error
        return attempt.value  # type: ignore[return-value]  # it ended without an error

    def forget(self) -> None:
        """What was said is old news."""
        with self._lock:
            self._current = None

    def _attempt(self) -> _Attempt[T]:
        with self._lock:
            now, current = monotonic(), self._current
            if current is not None and current.ended.is_set():
                if now < current.ended_at + self.fresh_seconds:
                    return current
            elif current is not None:
                self._left_behind = [one for one in self._left_behind if not one.ended.is_set()]
                if now < current.began + _GIVEN_UP_AFTER or len(self._left_behind) >= _MOST_LEFT_BEHIND:
                    return current
                self._left_behind.append(current)
            self._current = _Attempt()
            threading.Thread(target=self._fly, args=(self._current,), name=self.name, daemon=True).start()
            return self._current

    def _fly(self, attempt: _Attempt[T]) -> None:
        try:
            attempt.value = self.ask()
        except Exception as error:
            # It is the askers' to deal with: each gets it.
            attempt.error = error
        finally:
            attempt.ended_at = monotonic()
            attempt.ended.set()
