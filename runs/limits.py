"""How many runs of a pipeline, and of a backfill, may execute at the same time.

What a query finds claimable was so when the query began; two workers may find the last free place at the same moment. So whoever
starts a run that has a limit holds the row that says the limit, and counts after it has got it: see `queue.claim`.
"""

import datetime as dt
import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, OuterRef, Subquery
from django.utils import timezone

from pipelines.models import Pipeline
from runs.models import Backfill, Run
from runs.querysets import LONGEST_PARK
from runs.states import RunStatus

_SOME_TIME = dt.datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that waits, and whose limits it is under; None where there is none."""

    run_id: UUID
    pipeline_id: UUID | None
    backfill_id: UUID | None


def candidates(limit: int, *, lock: bool = False) -> list[Candidate]:
    """The first runs of the queue that are not behind a limit. `lock`: held until the transaction ends, without those that others hold."""
    sql, parameters = _statement(connection.vendor, limit, lock).at(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [Candidate(_id(run), _id(pipeline), _id(backfill)) for run, pipeline, backfill in cursor.fetchall()]


def _id(value: Any) -> Any:
    """SQLite has no UUIDs: they are texts there."""
    return UUID(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class _Statement:
    """SQL, and values for it that hold whenever it is executed but for the times, which were made for `_SOME_TIME`."""

    sql: str
    parameters: tuple[Any, ...]

    def at(self, now: dt.datetime) -> tuple[str, tuple[Any, ...]]:
        moved = {_stored(_SOME_TIME + offset): _stored(now + offset) for offset in (dt.timedelta(0), 2 * LONGEST_PARK)}
        return self.sql, tuple(moved.get(value, value) for value in self.parameters)


def _stored(moment: dt.datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


@functools.lru_cache(maxsize=256)
def _statement(vendor: str, limit: int, lock: bool) -> _Statement:
    """Django makes this statement of some thirty parts, which took a third of a worker's time in a burst of small runs; so it makes it once."""
    limited_pipeline = Pipeline.objects.filter(id=OuterRef("pipeline_id"), max_active_runs__isnull=False).values("id")
    limited_backfill = Backfill.objects.filter(id=OuterRef("backfill_id"), max_active__isnull=False).values("id")
    runs = Run.objects.claimable(_SOME_TIME)
    if lock:
        # no_key: a plain FOR UPDATE would skip runs whose rows an open foreign-key insert holds.
        runs = runs.select_for_update(skip_locked=True, no_key=True)
    found = runs.values_list("id", Subquery(limited_pipeline), Subquery(limited_backfill))[:limit]
    return _Statement(*found.query.sql_with_params())


class Places:
    """The free places of some pipelines and backfills, held for the rest of the transaction: nobody else starts a run of theirs."""

    def __init__(self, wanted: Collection[Candidate]) -> None:
        """Waits for others that hold them. Pipelines before backfills, each in the order of their ids: nobody waits in a circle."""
        self._of_pipelines = _free_of_pipelines({candidate.pipeline_id for candidate in wanted if candidate.pipeline_id})
        self._of_backfills = _free_of_backfills({candidate.backfill_id for candidate in wanted if candidate.backfill_id})

    def take(self, candidate: Candidate) -> bool:
        """True when the run may start, and its places are taken. False where a limit is reached, or is not held by us."""
        free = [
            (places, key)
            for places, key in ((self._of_pipelines, candidate.pipeline_id), (self._of_backfills, candidate.backfill_id))
            if key is not None
        ]
        if any(places.get(key, 0) < 1 for places, key in free):
            return False
        for places, key in free:
            places[key] -= 1
        return True


def _free_of_pipelines(ids: Collection[UUID]) -> dict[UUID, int]:
    if not ids:
        return {}
    limited = Pipeline.objects.select_for_update(no_key=True).filter(id__in=ids, max_active_runs__isnull=False).order_by("id")
    limits = dict(limited.values_list("id", "max_active_runs"))
    # A statement of its own: it sees what was committed while this waited for the rows.
    running = Run.objects.filter(status=RunStatus.RUNNING, pipeline_id__in=ids).order_by().values_list("pipeline_id").annotate(Count("id"))
    return _left(limits, dict(running))


def _free_of_backfills(ids: Collection[UUID]) -> dict[UUID, int]:
    if not ids:
        return {}
    limited = Backfill.objects.select_for_update(no_key=True).filter(id__in=ids, max_active__isnull=False).order_by("id")
    limits = dict(limited.values_list("id", "max_active"))
    running = Run.objects.filter(status=RunStatus.RUNNING, backfill_id__in=ids).order_by().values_list("backfill_id").annotate(Count("id"))
    return _left(limits, dict(running))


def _left(limits: dict[UUID, int | None], running: dict[UUID, int]) -> dict[UUID, int]:
    return {key: limit - running.get(key, 0) for key, limit in limits.items() if limit is not None}
