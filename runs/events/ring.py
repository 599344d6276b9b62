"""The newest events of this process. Clients keep a place in it and no copy, so that a slow one costs the others nothing."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from runs.events.frames import Batch

# With their bookkeeping, about 10 MiB. At 2,000 events a second a client may be ten seconds late.
RING_BYTES = 6 * 1024 * 1024
RING_EVENTS = 20_000


class Listener(Protocol):
    """Told that there is news: an `asyncio.Event`."""

    def set(self) -> None: ...


class Ring:
    """Batches in order; the oldest go when there are too many. Every event after `start` and up to `frontier` is in it.

    Belongs to one event loop, and is touched by nobody else.
    """

    def __init__(self, most_bytes: int = RING_BYTES, most_events: int = RING_EVENTS) -> None:
        self.most_bytes, self.most_events = most_bytes, most_events
        self.listeners: set[Listener] = set()
        self.start = self.frontier = 0
        self.ready = self.closed = False
        self._batches: deque[Batch] = deque()
        self._first = 0  # the number of the oldest batch; numbers only rise
        self._bytes = self._events = 0

    def open(self, frontier: int) -> None:
        """Say where it begins: everything up to `frontier` is settled, and to be had from the database."""
        self.start = self.frontier = frontier
        self.ready = True
        self._tell()

    def close(self) -> None:
        """There will be no more, for a reason that nobody foresaw; clients are to come again."""
        self.closed = True
        self._tell()

    def extend(self, batches: Sequence[Batch], frontier: int) -> None:
        """Add what came, up to `frontier`."""
        for batch in batches:
            self._batches.append(batch)
            self._bytes += len(batch.blob)
            self._events += len(batch.events)
        while len(self._batches) > 1 and (self._bytes > self.most_bytes or self._events > self.most_events):
            dropped = self._batches.popleft()
            self._first += 1
            self._bytes -= len(dropped.blob)
            self._events -= len(dropped.events)
            self.start = dropped.last
        self.frontier = max(self.frontier, frontier)
        self._tell()

    def place(self, seq: int) -> int | None:
        """The number of the first batch with events after `seq`; None when some of them are gone already."""
        if seq < self.start:
            return None
        return self._first + bisect_right(self._batches, seq, key=lambda batch: batch.last)

    def batch(self, number: int) -> Batch | None:
        """The batch of this number; None when it is still to come. Errors: `LookupError` when it is gone."""
        if number < self._first:
            raise LookupError(number)
        return self._batches[number - self._first] if number < self._first + len(self._batches) else None

    def _tell(self) -> None:
        for listener in self.listeners:
            listener.set()
