"""How many runs of a pipeline, and of a backfill, may execute at the same time.

What a query finds claimable was so when the query began; two workers may find the last free place at the same moment. So whoever
starts a run that has a limit holds the row that says the limit, and counts after it has got it: see `queue.claim`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count

from pipelines.models import Pipeline
from runs.models import Backfill, Run
from runs.states import RunStatus


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that waits, and whose limits it is under; None where there is none."""

    run_id: UUID
    pipeline_id: UUID | None
    backfill_id: UUID | None


def candidates(limit: int, *, lock: bool = False) -> list[Candidate]:
    """The first runs of the queue that are not behind a limit. `lock`: held until the transaction ends, without those that others hold."""
    runs = Run.objects.claimable().select_related("pipeline", "backfill").only("pipeline__max_active_runs", "backfill__max_active")
    if lock:
        # no_key: a plain FOR UPDATE would skip runs whose rows an open foreign-key insert holds.
        runs = runs.select_for_update(skip_locked=True, no_key=True, of=("self",))
    return [
        Candidate(
            run.id,
            run.pipeline_id if run.pipeline.max_active_runs is not None else None,
            run.backfill_id if run.backfill is not None and run.backfill.max_active is not None else None,
        )
        for run in runs[:limit]
    ]


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
