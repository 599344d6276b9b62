"""Runs over a range of dates or intervals: start, watch and stop them as one object. REST and the admin call these."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.errors import BadRequest, Conflict, NotFound
from brokoli_site.common.ids import new_id
from brokoli_site.common.time import iso
from pipelines.models import Pipeline
from runs import backfill_plans, transitions, triggers
from runs.backfill_plans import Only, Slot
from runs.models import Backfill, Run
from runs.querysets import RunQuerySet
from runs.states import ACTIVE, RunStatus, Trigger

MOST_NODE_RUNS = 50_000
MOST_LISTED = 50
_CANCELLED_AT_ONCE = 50

Status = Literal["running", "cancelled", "failed", "completed"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill does, or would do. `start` and `end` as they were asked for."""

    pipeline: Pipeline
    start: str
    end: str
    only: Only
    slots: Sequence[Slot]
    params: Mapping[str, Any]
    priority: int = 0
    max_active: int | None = None

    @property
    def due(self) -> list[Slot]:
        """The slots that get a run."""
        return [slot for slot in self.slots if not slot.skipped]

    @property
    def concurrency(self) -> int | None:
        """Runs that execute at the same time at most; None: as many as the workers take."""
        limits = [limit for limit in (self.max_active, self.pipeline.max_active_runs) if limit is not None]
        return min(limits, default=None)


def over_dates(pipeline: Pipeline, start: dt.date, end: dt.date, *, only: Only = "all", params: Mapping[str, Any] | None = None, **rest: Any) -> Plan:
    """A run a date. Each gets the date as its logical date and as the param `date`. Errors: `BadRequest` naming the field."""
    if params and "date" in params:
        raise BadRequest("Each run of a backfill gets its own date; leave it out.", "/params/date")
    return Plan(pipeline, start.isoformat(), end.isoformat(), only, backfill_plans.dates(start, end), params or {}, **rest)


def over_intervals(
    pipeline: Pipeline, start: dt.datetime, end: dt.datetime, *, only: Only = "unfinished", params: Mapping[str, Any] | None = None, **rest: Any
) -> Plan:
    """A run an interval of the schedule within `[start, end)`. Errors: `NoSchedule`; `BadRequest` naming the field."""
    return Plan(pipeline, str(iso(start)), str(iso(end)), only, backfill_plans.intervals(pipeline, start, end), params or {}, **rest)


def rehearse(plan: Plan) -> Plan:
    """The plan with what would be left out marked, after all checks of a real start; nothing is written. Errors: as `start`."""
    decided, _, _ = _prepared(plan, backfill=None)
    return decided


def start(plan: Plan, *, user: Any = None) -> tuple[Plan, Backfill, list[UUID]]:
    """Queue the runs, all or none, committed when this returns: the plan as decided, the backfill, the runs' ids, oldest first.

    Errors: `MayNotName`; `NotFound` when the pipeline was deleted; `InvalidPipeline`; `InvalidParams`; `BadRequest` for too many node runs.
    """
    backfill = Backfill(pipeline=plan.pipeline, start=plan.start, end=plan.end, only=plan.only, max_active=plan.max_active, created_at=timezone.now())
    backfill.created_by_id = getattr(user, "pk", None)
    if plan.params:
        triggers.refuse_params(triggers.current_version(plan.pipeline), plan.params, user)
    # Checking the definition and making the rows may take seconds: before the transaction, which keeps others waiting.
    decided, runs, node_runs = _prepared(plan, backfill)
    with transaction.atomic():
        if not Pipeline.objects.live().select_for_update(no_key=True).filter(id=plan.pipeline.id).exists():
            raise NotFound("The pipeline was deleted.")
        # Two backfills of what is missing, at the same moment: the second sees what the first made.
        if plan.only != "all" and backfill_plans.decide(plan.pipeline, plan.slots, plan.only) != decided.slots:
            decided, runs, node_runs = _prepared(plan, backfill)
        backfill.run_count = len(runs)
        backfill.save(force_insert=True)
        transitions.create_runs(runs, node_runs)
        names = ("start", "end", "only", "max_active", "run_count")
        made = {name: getattr(backfill, name) for name in names} | {"params": dict(plan.params), "priority": plan.priority}
        audit.record("backfill.created", "backfill", backfill.id, plan.pipeline.name, after=made)
    return decided, backfill, [run.id for run in runs]


def _prepared(plan: Plan, backfill: Backfill | None) -> tuple[Plan, list[Run], Iterable[Any]]:
    """The plan with what is left out marked, and the unsaved rows."""
    triggers.check_priority(plan.priority)
    version = triggers.current_version(plan.pipeline)
    slots = backfill_plans.decide(plan.pipeline, plan.slots, plan.only)
    decided = Plan(plan.pipeline, plan.start, plan.end, plan.only, slots, plan.params, plan.priority, plan.max_active)
    nodes = triggers.node_count(version)
    if len(decided.due) * nodes > MOST_NODE_RUNS:
        pointer = "/end" if slots[0].interval_start else "/end_date"
        most = f"{MOST_NODE_RUNS:,} node runs; this one would make {len(decided.due) * nodes:,}"
        raise BadRequest(f"A backfill makes at most {most} ({len(decided.due):,} runs of {nodes} nodes). Split it.", pointer)
    runs = [
        Run(
            id=new_id(),  # ids ascend, also within a millisecond, and the queue serves by id: the oldest date comes first
            pipeline=plan.pipeline,
            version=version,
            params=dict(plan.params) if slot.interval_start else {**plan.params, "date": slot.date.isoformat()},
            priority=plan.priority,
            trigger=Trigger.BACKFILL,
            logical_date=slot.date,
            interval_start=slot.interval_start,
            interval_end=slot.interval_end,
            backfill=backfill,
        )
        for slot in decided.due
    ]
    return decided, runs, triggers.prepare(version, runs)


def cancel(backfill_id: UUID, *, running: bool = False) -> Backfill:
    """Cancel the runs that have not started; `running`: ask those that execute to end, too. Doing it again changes nothing.

    Errors: `NotFound`; `Conflict` when all its runs had ended before anybody cancelled it.
    """
    backfill = Backfill.objects.select_related("pipeline").filter(id=backfill_id).first()
    if backfill is None:
        raise NotFound("There is no backfill with this id.")
    runs = Run.objects.filter(backfill_id=backfill_id)
    is_first = backfill.cancelled_at is None
    if is_first:
        if not runs.active().exists():
            raise Conflict("All runs of the backfill have ended; there is nothing to cancel.")
        with transaction.atomic():
            if Backfill.objects.filter(id=backfill_id, cancelled_at__isnull=True).update(cancelled_at=timezone.now()):
                _tell_cancelled(backfill, running=running)
        backfill.refresh_from_db()
    # From the newest: workers claim from the oldest. What they claim first is running then.
    while waiting := list(runs.filter(status=RunStatus.PENDING).order_by("-id")[:_CANCELLED_AT_ONCE]):
        with transaction.atomic():  # some at a time, so that no other writer waits long
            for run in waiting:
                transitions.cancel_pending_run(run)
    if running:
        with transaction.atomic():
            asked = [transitions.request_cancel(run, force=False) for run in runs.filter(status=RunStatus.RUNNING, cancel_requested_at__isnull=True)]
            if any(asked) and not is_first:
                _tell_cancelled(backfill, running=True)
    return backfill


def _tell_cancelled(backfill: Backfill, *, running: bool) -> None:
    audit.record("backfill.cancelled", "backfill", backfill.id, backfill.pipeline.name, after={"running": running})


# --- progress -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is. A run that was resumed stands for no more: the run that resumed it does."""

    total: int
    counts: Mapping[str, int]
    is_cancelled: bool

    @property
    def active(self) -> int:
        return sum(self.counts[status] for status in ACTIVE)

    @property
    def finished(self) -> int:
        """Purged runs had ended."""
        return max(0, self.total - self.active)

    @property
    def status(self) -> Status:
        if self.active:
            return "running"
        if self.is_cancelled:
            return "cancelled"
        return "failed" if self.counts[RunStatus.FAILED] else "completed"


def current_runs(backfill_ids: Sequence[UUID]) -> RunQuerySet:
    """The run that stands for each slot: the last one, where runs were resumed."""
    runs = Run.objects.filter(backfill_id__in=backfill_ids).order_by()
    return runs.exclude(Exists(Run.objects.filter(resumed_from=OuterRef("pk")).order_by()))


def progress(backfills: Sequence[Backfill]) -> dict[UUID, Progress]:
    """Of each of them, by id. One query."""
    counts: dict[UUID, dict[str, int]] = {backfill.id: dict.fromkeys(RunStatus, 0) for backfill in backfills}
    for backfill_id, status, count in current_runs(list(counts)).values_list("backfill_id", "status").annotate(count=Count("id")):
        counts[backfill_id][status] = count
    return {backfill.id: Progress(backfill.run_count, counts[backfill.id], backfill.cancelled_at is not None) for backfill in backfills}


def newest(pipeline: Pipeline) -> list[Backfill]:
    """The last `MOST_LISTED` of a pipeline, newest first."""
    return list(Backfill.objects.filter(pipeline=pipeline).select_related("pipeline").order_by("-id")[:MOST_LISTED])
