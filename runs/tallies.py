"""How many runs and nodes have ended, how, and how long they took: counted since there are metrics, and never less.

The rows of runs cannot tell: old ones are purged, and counting all of them would take longer with each. So each process counts what it
commits and adds it to `Tally` every few seconds. A process that is killed takes the last seconds with it, and where the answer to a commit
is lost they may count twice: these are figures to watch, not to settle accounts with.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

from django.db import transaction

from pipelines.nodes import registry
from runs.models import Tally

EVERY_SECONDS = 5.0
# Upper bounds in seconds; the last bucket has none.
BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
UNKNOWN_TYPE = "unknown"

RUN, NODE, UNSTARTED = "run", "node", "run_unstarted"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Whose histogram."""

    name: str
    label: str
    status: str


@dataclass(slots=True)
class Histogram:
    """How many took how long. `buckets` are not cumulative; `total` in seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.buckets)

    @property
    def cumulative(self) -> list[int]:
        """How many took no longer than each bound; the last is how many there are."""
        return list(accumulate(self.buckets))

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add(self, other: "Histogram") -> None:
        self.buckets = [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total


@dataclass
class _Unwritten:
    """What this process has counted and not yet written."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _histograms: dict[Key, Histogram] = field(default_factory=dict)

    def observe(self, key: Key, seconds: float) -> None:
        with self._lock:
            self._histograms.setdefault(key, Histogram()).observe(seconds)

    def take(self) -> dict[Key, Histogram]:
        with self._lock:
            taken, self._histograms = self._histograms, {}
        return taken

    def give_back(self, taken: dict[Key, Histogram]) -> None:
        with self._lock:
            for key, histogram in taken.items():
                self._histograms.setdefault(key, Histogram()).add(histogram)


_unwritten = _Unwritten()


def run_ended(status: str, milliseconds: int | None) -> None:
    """Count a run, once the transaction in which it ended is committed. `milliseconds` is None of one that never started."""
    key = Key(UNSTARTED if milliseconds is None else RUN, "", status)
    transaction.on_commit(partial(_unwritten.observe, key, (milliseconds or 0) / 1000))


def node_ended(node_type: str, status: str, milliseconds: int | None) -> None:
    """Count an attempt of a node, once it is committed; one that never started is none."""
    if milliseconds is not None:
        transaction.on_commit(partial(_unwritten.observe, Key(NODE, node_type, status), milliseconds / 1000))


def flush() -> int:
    """Write what was counted. Returns how many histograms were added to. What cannot be written is kept, and the error raised."""
    taken = _unwritten.take()
    if not taken:
        return 0
    try:
        with transaction.atomic():
            _add(_bounded(taken))
    except BaseException:
        _unwritten.give_back(taken)
        raise
    return len(taken)


def read() -> dict[Key, Histogram]:
    """All that was ever written. One query; as many rows as there are kinds of what ended."""
    return {
        Key(row.name, row.label, row.status): Histogram(row.buckets, row.total)
        for row in Tally.objects.order_by("name", "label", "status")
        if len(row.buckets) == len(BOUNDS) + 1  # else it was counted with other bounds, by another version
    }


def _bounded(taken: dict[Key, Histogram]) -> dict[Key, Histogram]:
    """By the names of node types that there are: a pipeline can say anything for a type, and fail by it."""
    known, bounded = set(registry.names()), dict[Key, Histogram]()
    for key, histogram in taken.items():
        named = key if key.name != NODE or key.label in known else Key(NODE, UNKNOWN_TYPE, key.status)
        bounded.setdefault(named, Histogram()).add(histogram)
    return bounded


def _add(counted: dict[Key, Histogram]) -> None:
    rows = _locked(counted)
    missing = [key for key in sorted(counted) if key not in rows]
    if missing:
        empty = Histogram().buckets
        new = [Tally(name=key.name, label=key.label, status=key.status, buckets=empty) for key in missing]
        Tally.objects.bulk_create(new, ignore_conflicts=True)  # another process may be making it, too
        rows = _locked(counted)
    for key, histogram in counted.items():
        row = rows[key]
        sum_of = Histogram(row.buckets if len(row.buckets) == len(histogram.buckets) else Histogram().buckets, row.total)
        sum_of.add(histogram)
        row.buckets, row.total = sum_of.buckets, sum_of.total
    Tally.objects.bulk_update(rows.values(), ["buckets", "total"])


def _locked(keys: Iterable[Key]) -> dict[Key, Tally]:
    """The rows, held in one order by all who add: none waits for another that waits for it."""
    wanted = set(keys)
    names, labels = {key.name for key in wanted}, {key.label for key in wanted}
    found = Tally.objects.select_for_update().filter(name__in=names, label__in=labels).order_by("id")
    return {key: row for row in found if (key := Key(row.name, row.label, row.status)) in wanted}
