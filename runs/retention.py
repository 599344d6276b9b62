"""What may be deleted: runs that ended long ago, and files that no output names."""

import datetime as dt
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.ids import parse_id
from runs import day_counts, freed_pages
from runs.artifacts import ArtifactStore, Pruned
from runs.models import LogEntry, NodeOutput, NodeRun, Run, UpstreamEnd
from runs.querysets import RunQuerySet

logger = structlog.get_logger(__name__)
T = TypeVar("T")

_RECENT_SECONDS = 7 * 24 * 3600.0
# SQLite has one write lock, and whoever wants to claim or finish a run waits for it.
_TRANSACTION_SECONDS = 0.04
_BATCH = 60
# Runs that are deleted together, unless they have more than one of these statements deletes.
_TOGETHER = 12
_LOOKED_UP = 500
# So many rows a statement, which takes a few milliseconds.
_LOG_ENTRIES, _OUTPUTS, _NODE_RUNS = 500, 50, 500


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge deleted, or would delete."""

    runs: int = 0
    log_entries: int = 0
    files: int = 0
    byte_count: int = 0

    def __add__(self, other: "Purged") -> "Purged":
        return Purged(self.runs + other.runs, self.log_entries + other.log_entries, self.files + other.files, self.byte_count + other.byte_count)


def purgeable(ended_before: dt.datetime) -> RunQuerySet:
    """Runs that ended before then and that nothing needs any more.

    Only what ended has `finished_at` (a constraint says so). A run that is being resumed still lends its outputs; one whose end has not
    been passed on may still make runs of other pipelines.
    """
    resumes = Run.objects.active().filter(resumed_from=OuterRef("pk")).order_by()
    waits = UpstreamEnd.objects.filter(run=OuterRef("pk"))
    return Run.objects.filter(~Exists(resumes), ~Exists(waits), finished_at__lt=ended_before)


def purge(
    days: int, store: ArtifactStore, *, seconds: float = float("inf"), tell: Callable[[Purged], object] | None = None, audited: bool = True
) -> Purged:
    """Delete the runs that ended more than `days` days ago, with all that is theirs, and the artifacts that no other run's output names.

    Works beside running runs, in short transactions with pauses between, for `seconds` at most; `tell` is called with the sum so far
    after each. Files go after the commit; killed in between, they are strays, which a worker collects within a day.
    `audited`: somebody asked for it, so the audit log has an entry with the first run that goes, and one of the sum.
    """
    end = time.monotonic() + seconds
    purged = _purge(_days_ago(days), store, end, tell, days if audited else None)
    if purged.runs and audited:
        told = {"days": days, "runs": purged.runs, "log_entries": purged.log_entries, "files": purged.files}
        audit.note("runs.purged", "runs", "", after=told)
    if purged.runs:
        logger.info("runs purged", days=days, runs=purged.runs, log_entries=purged.log_entries, files=purged.files, bytes=purged.byte_count)
    freed_pages.give_back(max(0.0, end - time.monotonic()))
    return purged


def _purge(ended_before: dt.datetime, store: ArtifactStore, end: float, tell: Callable[[Purged], object] | None, audited_days: int | None) -> Purged:
    purged = Purged()
    for batch in _batches(ended_before):
        ids = batch
        while ids:
            if time.monotonic() >= end:
                return purged
            step = _Step(ended_before, None if purged.runs else audited_days)
            ids = ids[step.take(ids) :]
            files = _prune(store, step)
            purged += Purged(step.runs, step.log_entries, files.files, files.byte_count)
            if tell is not None:
                tell(purged)
            time.sleep(min(step.seconds, max(0.0, end - time.monotonic())))  # as long as others had to wait
    return purged


def preview(days: int, store: ArtifactStore) -> Purged:
    """What `purge` would delete now; nothing is written."""
    found = Purged()
    going: set[UUID] = set()
    files: dict[str, int] = {}
    for ids in _batches(_days_ago(days)):
        going.update(ids)
        found += Purged(runs=len(ids), log_entries=LogEntry.objects.filter(run_id__in=ids).count())
        for key in NodeOutput.objects.filter(run_id__in=ids).values_list("artifact", flat=True):
            if store.exists(key):
                files[key] = store.size(key)
    for keys in _chunks(list(files)):
        for key, run_id in NodeOutput.objects.filter(artifact__in=keys).values_list("artifact", "run_id"):
            if run_id not in going:
                files.pop(key, None)
    return found + Purged(files=len(files), byte_count=sum(files.values()))


def collect_strays(store: ArtifactStore) -> Pruned:
    """Delete drafts, artifacts that a killed worker wrote but never registered, and what dead processes spilled.

    Runs that have not ended are left alone: a worker may have renamed a file and not yet registered it. So is what is no run's.
    Folders of runs that nothing was written to for a week are not looked into, so that the work does not grow with history; those of
    purged runs are.
    """
    oldest = time.time() - _RECENT_SECONDS
    gone = _gone(store.run_ids())

    def keep(run_id: str, keys: frozenset[str]) -> Collection[str] | None:
        known = parse_id(run_id)
        if known is None:
            return None
        if known not in gone and (_written_at(store.run_folder(run_id)) < oldest or Run.objects.active().filter(id=known).exists()):
            return None
        return _named(keys)

    pruned = store.prune(keep)
    if pruned.files:
        logger.info("strays deleted", files=pruned.files, bytes=pruned.byte_count)
    return pruned


# --- a purge, step by step ----------------------------------------------------------------------------------------


def _days_ago(days: int) -> dt.datetime:
    try:
        return timezone.now() - dt.timedelta(days=days)
    except OverflowError:  # nothing is as old as that
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _batches(ended_before: dt.datetime) -> Iterator[list[UUID]]:
    """Ids, oldest end first; each run once, whatever becomes of it."""
    runs = purgeable(ended_before).order_by("finished_at", "id").values_list("id", "finished_at")
    page = list(runs[:_BATCH])
    while page:
        yield [run_id for run_id, _ in page]
        last, finished_at = page[-1]
        page = list(runs.filter(finished_at__gte=finished_at).exclude(finished_at=finished_at, id__lte=last)[:_BATCH])


@dataclass
class _Step:
    """One short transaction."""

    ended_before: dt.datetime
    audited_days: int | None = None  # the audit log is told with the first run that goes
    runs: int = 0
    log_entries: int = 0
    ended: list[UUID] = field(default_factory=list)  # runs that are gone
    freed: set[str] = field(default_factory=set)  # artifacts that one output less names
    seconds: float = 0.0  # that it held its locks

    def take(self, ids: Sequence[UUID]) -> int:
        """Delete as much of these runs as fits. Returns how many of them, from the first, are dealt with."""
        started = time.monotonic()
        try:
            with transaction.atomic():
                started = time.monotonic()
                with day_counts.deleting():
                    dealt_with = self._take(ids, started + _TRANSACTION_SECONDS)
                    day_counts.let_go(self.ended)
                if self.runs and self.audited_days is not None:
                    audit.record("runs.purge_started", "runs", "", after={"days": self.audited_days})
                return dealt_with
        finally:
            self.seconds = time.monotonic() - started

    def _take(self, ids: Sequence[UUID], until: float) -> int:
        # First the locks, which a resume, or a sender's line in the log, waits for; then a look at what is true now that they are held.
        locked = Run.objects.select_for_update(skip_locked=True).filter(id__in=ids).order_by("id")
        held = list(locked.values_list("id", flat=True))
        free = set(purgeable(self.ended_before).filter(id__in=held).values_list("id", flat=True))
        done = 0
        while done < len(ids):
            some = ids[done : done + _TOGETHER]
            if not self._delete_together([run_id for run_id in some if run_id in free]):
                some = ids[done : done + 1]
                while some[0] in free and not self._delete_piece(some[0]):
                    if time.monotonic() >= until:
                        return done
            done += len(some)
            if time.monotonic() >= until:
                break
        return done

    def _delete_together(self, ids: list[UUID]) -> bool:
        """Delete these runs with all that is theirs; False, and nothing is, where that is much."""
        if not ids:
            return True
        entries = list(LogEntry.objects.filter(run_id__in=ids).order_by().values_list("seq", flat=True)[:_LOG_ENTRIES])
        outputs = dict(NodeOutput.objects.filter(run_id__in=ids).order_by().values_list("id", "artifact")[:_OUTPUTS])
        attempts = list(NodeRun.objects.filter(run_id__in=ids).order_by().values_list("id", flat=True)[:_NODE_RUNS])
        if len(entries) == _LOG_ENTRIES or len(outputs) == _OUTPUTS or len(attempts) == _NODE_RUNS:
            return False
        LogEntry.objects.filter(seq__in=entries).delete()
        NodeOutput.objects.filter(id__in=list(outputs)).delete()
        NodeRun.objects.filter(id__in=attempts).delete()
        Run.objects.filter(id__in=ids).delete()
        self.log_entries += len(entries)
        self.freed.update(outputs.values())
        self.ended += ids
        self.runs += len(ids)
        return True

    def _delete_piece(self, run_id: UUID) -> bool:
        """The next piece of a run, the run itself last. True when that is done.

        What a resume needs goes with the run, at once, unless it is so much that a transaction would be long. Then a resume may find
        outputs missing; it makes them anew.
        """
        entries = list(LogEntry.objects.filter(run_id=run_id).order_by("seq").values_list("seq", flat=True)[:_LOG_ENTRIES])
        LogEntry.objects.filter(seq__in=entries).delete()
        self.log_entries += len(entries)
        if len(entries) == _LOG_ENTRIES:
            return False
        outputs = dict(NodeOutput.objects.filter(run_id=run_id).order_by().values_list("id", "artifact")[:_OUTPUTS])
        NodeOutput.objects.filter(id__in=list(outputs)).delete()
        self.freed.update(outputs.values())
        if len(outputs) == _OUTPUTS:
            return False
        attempts = list(NodeRun.objects.filter(run_id=run_id).order_by().values_list("id", flat=True)[:_NODE_RUNS])
        NodeRun.objects.filter(id__in=attempts).delete()
        if len(attempts) == _NODE_RUNS:
            return False
        Run.objects.filter(id=run_id).delete()  # with the little that is left: notifications, tickets, what points at it
        self.ended.append(run_id)
        self.runs += 1
        return True


def _prune(store: ArtifactStore, step: _Step) -> Pruned:
    """After the commit: what is left in the folders of runs that are gone, and what was freed in those of others, unless somebody names it."""
    freed_in = {key.partition("/")[0] for key in step.freed}
    gone = _gone([*freed_in, *map(str, step.ended)])
    pruned = Pruned()
    for run_id in gone:
        pruned += store.prune_run(str(run_id), lambda _, keys: _named(keys))
    for key in step.freed - _named(step.freed):
        if parse_id(key.partition("/")[0]) not in gone and store.exists(key):
            pruned += Pruned(1, store.size(key))
            store.delete(key)
    return pruned


def _named(keys: Collection[str]) -> set[str]:
    """Those that an output names. Any run's: a resumed run reuses the artifacts of the run before."""
    return {key for chunk in _chunks(list(keys)) for key in NodeOutput.objects.filter(artifact__in=chunk).values_list("artifact", flat=True)}


def _gone(run_ids: Collection[str]) -> set[UUID]:
    """Of these, the ids of runs that are not there any more."""
    known = {found for run_id in run_ids if (found := parse_id(run_id)) is not None}
    present = {run_id for chunk in _chunks(list(known)) for run_id in Run.objects.filter(id__in=chunk).values_list("id", flat=True)}
    return known - present


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _LOOKED_UP):
        yield items[start : start + _LOOKED_UP]


def _written_at(folder: Path) -> float:
    """When something was last put into the folder or removed; 0.0 when another collector removed it meanwhile."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
