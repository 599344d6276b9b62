"""Reading the log in the order of `seq`, without ever stepping over an entry that is still to come.

SQLite has one writer, so entries become visible in the order of their `seq`. PostgreSQL gives an entry its `seq` before the
transaction commits: a lower one may appear after a higher. `PostgresSource` therefore moves over a `seq` that is missing only
when no transaction that could bring it is alive. Every INSERT into the log locks the table (`ROW EXCLUSIVE`) before it takes
its `seq` and until its transaction has ended and can be seen. So of what is missing below an entry that can be seen, all comes
from transactions that hold that lock now, or never. Readers, such as a backup, do not hold it and hold nobody up.
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from django.db import connection
from django.db.models import Max

from runs.events.filters import EventFilter
from runs.events.frames import Batch, Row, batches
from runs.models import LogEntry, Run

PAGE = 500  # entries that one query loads
_WINDOW = 20_000  # entries that one query of a filtered replay may look at
_KNOWN_RUNS = 10_000
# `transactionid` and `virtualtransaction` name who holds the lock; the second also of transactions that wrote nothing yet.
_WRITERS = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = %s::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Pipelines:
    """Which pipeline each run is of, kept for those asked for last. Safe to use from any thread."""

    def __init__(self, most: int = _KNOWN_RUNS) -> None:
        self._most = most
        self._known: OrderedDict[uuid.UUID, str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, runs: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
        """The pipeline ids; runs that were purged meanwhile are left out."""
        wanted = set(runs)
        with self._lock:
            found = {run: self._known[run] for run in wanted if run in self._known}
        missing = wanted - found.keys()
        if missing:
            asked = {run: str(pipeline) for run, pipeline in Run.objects.filter(id__in=missing).values_list("id", "pipeline_id")}
            found |= asked
            with self._lock:
                self._known |= asked
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
        return found


def read(since: int, upto: int | None = None, limit: int = PAGE, wanted: EventFilter | None = None) -> list[Row]:
    """Entries after `since`, at most `limit`, in order."""
    entries = LogEntry.objects.filter(seq__gt=since).order_by("seq")
    if upto is not None:
        entries = entries.filter(seq__lte=upto)
    if wanted is not None and wanted.run_id is not None:
        entries = entries.filter(run_id=wanted.run_id)
    if wanted is not None and wanted.pipeline_id is not None:
        entries = entries.filter(run__pipeline_id=wanted.pipeline_id)
    if wanted is not None and wanted.types is not None:
        entries = entries.filter(kind__in=wanted.types)
    return [Row(*columns) for columns in entries.values_list(*Row._fields)[:limit]]


def newest() -> int:
    """The highest `seq` that can be seen; 0 for an empty log."""
    return int(LogEntry.objects.aggregate(newest=Max("seq"))["newest"] or 0)


def rendered(rows: Sequence[Row], pipelines: Pipelines) -> list[Batch]:
    """Rows as batches; those of runs that were purged meanwhile are gone, and left out."""
    known = pipelines.of(row.run_id for row in rows)
    return batches((row, known[row.run_id]) for row in rows if row.run_id in known)


def replay(wanted: EventFilter, since: int, frontier: int, pipelines: Pipelines) -> tuple[list[Batch], int]:
    """The next events of a replay that has come to `since`, and how far it has come then; nothing is newer than `frontier`.

    Its cost is bounded, however few of the entries are wanted.
    """
    upto = frontier
    if wanted.run_id is None and not wanted.everything:
        upto = min(frontier, since + _WINDOW)
    rows = read(since, upto, wanted=wanted)
    return rendered(rows, pipelines), rows[-1].seq if len(rows) == PAGE else upto


class Source(Protocol):
    """Follows the log from where it was opened. One thread's."""

    def open(self) -> int | None:
        """Where it begins: every `seq` up to there is settled. None while that cannot be said yet; ask again."""

    def news(self) -> tuple[list[Row], int]:
        """The entries that are settled now and follow the last, and the `seq` up to which all is settled.

        After a database error it is where it was.
        """


def open_source() -> Source:
    return PostgresSource() if connection.vendor == "postgresql" else SqliteSource()


class SqliteSource:
    """Entries appear in the order of their `seq`: there is one writer at a time."""

    def __init__(self) -> None:
        self._frontier = 0

    def open(self) -> int | None:
        self._frontier = newest()
        return self._frontier

    def news(self) -> tuple[list[Row], int]:
        rows = read(self._frontier)
        if rows:
            self._frontier = rows[-1].seq
        return rows, self._frontier


class PostgresSource:
    """Entries appear in any order; see this module's first lines."""

    def __init__(self) -> None:
        self._frontier = 0
        # Below `horizon`, what is missing can come only from the transactions in `_writers`. 0: nothing is missing.
        self._horizon = 0
        self._writers: frozenset[str] = frozenset()

    def open(self) -> int | None:
        if not self._horizon:
            self._horizon = newest()
            self._writers = writers()  # asked after: whoever took a lower `seq` held the lock before the highest could be seen
        else:
            self._writers &= writers()
        if self._writers:
            return None
        self._frontier, self._horizon = self._horizon, 0
        return self._frontier

    def news(self) -> tuple[list[Row], int]:
        # What it keeps changes in one place, after the last question: a database that goes away between two costs nothing.
        left = self._writers & writers() if self._horizon else frozenset()
        if left and left == self._writers:
            return [], self._frontier  # none of them has ended, so what is missing still is
        rows = read(self._frontier)  # after the question who writes: what those who ended have committed is seen
        settled = self._frontier if left else max(self._frontier, self._horizon)
        taken = _settled(rows, self._frontier, settled)
        frontier = max(taken[-1].seq if taken else self._frontier, settled if len(rows) < PAGE else 0)
        horizon, left = (self._horizon, left) if frontier < self._horizon else (0, frozenset())
        if len(taken) < len(rows) and not horizon:
            horizon, left = rows[-1].seq, writers()  # asked after the look, as in `open`
        self._frontier, self._horizon, self._writers = frontier, horizon, left
        return taken, frontier


def _settled(rows: Sequence[Row], since: int, settled: int) -> list[Row]:
    """The rows up to `settled`, and what follows without a gap."""
    taken = []
    for row in rows:
        if row.seq > max(since, settled) + 1:
            break
        since = row.seq
        taken.append(row)
    return taken


def writers() -> frozenset[str]:
    """The transactions that have written to the log, or may at any moment, and have not ended."""
    with connection.cursor() as cursor:
        cursor.execute(_WRITERS, [LogEntry._meta.db_table])
        return frozenset(name for (name,) in cursor.fetchall())
