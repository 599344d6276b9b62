"""Runs that the clock makes: one a tick, however many workers look at it.

A tick is taken by one guarded UPDATE of `ScheduleState.next_tick_at`, in the transaction that makes its run; `run_one_a_tick` stands behind
it. Time only moves that column forward, so a clock that steps back makes nothing twice.
"""

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Literal

import structlog
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from brokoli_site.common.errors import BrokoliError, Conflict
from brokoli_site.common.time import iso
from pipelines import schedules, spec
from pipelines.models import Pipeline, PipelineVersion
from pipelines.schedules import MissedRuns, Overlap
from runs import log, triggers
from runs.models import Run, ScheduleState
from runs.states import EntryKind, Trigger

logger = structlog.get_logger(__name__)

Clock = Callable[[], dt.datetime]
GRACE = dt.timedelta(seconds=60)  # a tick that is looked at later than this was missed
MOST_MADE_UP = 1000  # missed ticks that `missed_runs: all` makes up for: the latest
_AT_ONCE = 100  # pipelines a look
_LOST: Literal["lost"] = "lost"


class TickSkipped(BrokoliError):
    """The tick makes no run."""


def look(clock: Clock = timezone.now, *, seconds: float = float("inf")) -> list[Run]:
    """Deal with the ticks that are due, for so long, and return the runs that were made here. What is left is dealt with by the next look."""
    now, until = clock(), monotonic() + seconds
    made: list[Run] = []
    for state in ScheduleState.objects.ticking(now).select_related("pipeline")[:_AT_ONCE]:
        if monotonic() >= until:
            break
        try:
            made.extend(_deal_with(state, now, until))
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # A bug in one pipeline's definition, or what the database refuses of it, must neither stall the others nor be met every second.
            logger.exception("tick failed", pipeline_id=str(state.pipeline_id))
            _pass_over(state, now)
    return made


def catch_up_with_saves(clock: Clock = timezone.now) -> int:
    """Bring schedules into step that no save has (those of before an upgrade). Returns how many."""
    found = list(ScheduleState.objects.forgotten()[:_AT_ONCE])
    for pipeline in found:
        try:
            _catch_up(pipeline, clock())
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("schedule not read", pipeline_id=str(pipeline.id), schedule=pipeline.schedule)
    return len(found)


def _catch_up(pipeline: Pipeline, now: dt.datetime) -> None:
    document = PipelineVersion.objects.get(pipeline=pipeline, number=pipeline.version).document
    with transaction.atomic():
        unchanged = Pipeline.objects.live().select_for_update(no_key=True).filter(id=pipeline.id, version=pipeline.version)
        if unchanged.first() is not None:
            ScheduleState.objects.keep_in_step(pipeline, spec.read(document)[0], now)


def _deal_with(state: ScheduleState, now: dt.datetime, until: float) -> Iterator[Run]:
    definition = triggers.warm(state.pipeline)  # outside the transactions: checking takes a while
    missed: MissedRuns = definition.missed_runs if definition else "latest"
    ticks = _ticks_to_make_up(state, missed, now)
    following = schedules.next_tick(state.schedule, state.zone, now)
    if not ticks:
        logger.warning("tick skipped", pipeline_id=str(state.pipeline_id), tick=iso(state.next_tick_at), reason="it was missed (missed_runs: none)")
        _move(state, state.next_tick_at, following)
    for tick, after in itertools.pairwise([*ticks, following]):
        assert tick is not None
        taken = _take(state, tick, after, definition.overlap if definition else "queue")
        if taken == _LOST:
            return
        if isinstance(taken, Run):
            yield taken
        if monotonic() >= until:
            return
        state.next_tick_at = after


def _ticks_to_make_up(state: ScheduleState, missed: MissedRuns, now: dt.datetime) -> list[dt.datetime]:
    """Of the ticks from the one that is due to now: which make a run, oldest first."""
    assert state.next_tick_at is not None
    before = state.next_tick_at - dt.timedelta(microseconds=1)
    found = schedules.latest_ticks(state.schedule, state.zone, before, now, MOST_MADE_UP if missed == "all" else 1)
    return [tick for tick in found if missed != "none" or now - tick <= GRACE]


def _take(state: ScheduleState, tick: dt.datetime, following: dt.datetime | None, overlap: Overlap) -> Run | Literal["lost"] | None:
    """Take a tick and make its run, in one transaction; None when the tick makes none, `_LOST` when another scheduler has it."""
    with transaction.atomic():
        # The pipeline's row first, as a save does: so that neither waits for the other, and what runs is what was looked at.
        pipeline = Pipeline.objects.select_for_update(no_key=True).filter(id=state.pipeline_id).first()
        if pipeline is None or pipeline.deleted_at is not None or not pipeline.enabled:
            ScheduleState.objects.stop(state.pipeline)
            return _LOST
        if pipeline.version != state.pipeline.version or not _move(state, tick, following):
            return _LOST
        try:
            _heed_overlap(pipeline, tick, overlap)
            return _make_run(pipeline, state, tick)
        except BrokoliError as error:
            logger.warning("tick skipped", pipeline_id=str(pipeline.id), pipeline=pipeline.pipeline_id, tick=iso(tick), reason=error.message)
            return None


def _move(state: ScheduleState, tick: dt.datetime | None, following: dt.datetime | None) -> bool:
    """Go on to the next tick; False when the schedule is not as it was read."""
    unchanged = ScheduleState.objects.filter(pipeline=state.pipeline_id, next_tick_at=state.next_tick_at, schedule=state.schedule, zone=state.zone)
    return unchanged.update(next_tick_at=following, last_tick_at=tick) == 1


def _make_run(pipeline: Pipeline, state: ScheduleState, tick: dt.datetime) -> Run:
    start = schedules.previous_tick(state.schedule, state.zone, tick)
    try:
        with transaction.atomic():
            return triggers.run(
                pipeline,
                trigger=Trigger.SCHEDULE,
                interval_start=start,
                interval_end=tick,
                logical_date=schedules.local_date(start or tick, state.zone),
            )
    except IntegrityError as error:
        if not Run.objects.filter(pipeline=pipeline, trigger=Trigger.SCHEDULE, interval_end=tick).exists():
            raise
        raise TickSkipped("it has its run already") from error


def _heed_overlap(pipeline: Pipeline, tick: dt.datetime, overlap: Overlap) -> None:
    """What the schedule does about earlier runs that it made and that have not ended. Errors: `TickSkipped`."""
    if overlap == "queue":
        return
    active = list(Run.objects.active().filter(pipeline=pipeline, trigger=Trigger.SCHEDULE).order_by("id").values_list("id", flat=True))
    for run_id in active:
        if overlap == "skip":
            message = f"The schedule made no run for {iso(tick)}: this one is still active (overlap_policy: skip)"
            log.append([log.entry(run_id, EntryKind.LOG, message, level="warning")])
            log.notify()
            raise TickSkipped(f"run {run_id} is still active (overlap_policy: skip)")
        try:
            triggers.cancel(run_id, audited=False)
        except Conflict:
            continue  # it has just ended
        message = f"The schedule asked to cancel this run: the time of the next one has come, {iso(tick)} (overlap_policy: cancel_running)"
        log.append([log.entry(run_id, EntryKind.LOG, message, level="warning")])


def _pass_over(state: ScheduleState, now: dt.datetime) -> None:
    try:
        following = schedules.next_tick(state.schedule, state.zone, now)
    except Exception:
        logger.exception("schedule stopped", pipeline_id=str(state.pipeline_id), schedule=state.schedule)
        following = None
    _move(state, state.next_tick_at, following)
