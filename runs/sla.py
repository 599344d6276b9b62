"""Deadlines: by a time of each day a run should have succeeded; who is to know that none has, is told once.

A run counts for a day when it succeeded by that day's deadline and either ended on that day (a backfill does not count so), or has that
day as its logical date, or was made by the last tick of the schedule before the deadline.
"""

import datetime as dt
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from brokoli_site.common.time import iso
from pipelines import schedules, spec
from pipelines.models import Pipeline, PipelineVersion
from pipelines.schedules import SlaDeadline
from runs import notifications
from runs.models import Run, ScheduleState, SlaMiss
from runs.scheduler import Clock
from runs.states import RunStatus, Trigger

logger = structlog.get_logger(__name__)

_AT_ONCE = 100
_STALE = dt.timedelta(hours=24)  # a deadline that nobody was there to look at for longer is let go
_LOOK_BACK = 50  # runs of a schedule among which is that of the last tick


def look(clock: Clock = timezone.now) -> int:
    """Look at every deadline that has come. Returns how many were missed, as noted here."""
    now = clock()
    missed = 0
    for state in ScheduleState.objects.at_deadline(now).select_related("pipeline")[:_AT_ONCE]:
        try:
            missed += _look_at(state, now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("deadline failed", pipeline_id=str(state.pipeline_id))
            _move(state, now + dt.timedelta(days=1))
    return missed


def _look_at(state: ScheduleState, now: dt.datetime) -> bool:
    pipeline = state.pipeline
    version = PipelineVersion.objects.get(pipeline=pipeline, number=pipeline.version)
    definition, _ = spec.read(version.document)
    if pipeline.deleted_at is not None or not pipeline.enabled or definition.sla is None:
        ScheduleState.objects.filter(pipeline=pipeline, next_deadline_at=state.next_deadline_at).update(next_deadline_at=None)
        return False
    sla = definition.sla
    day, deadline = _last_deadline(sla, now)
    with transaction.atomic():
        if not _move(state, schedules.next_deadline(sla, now)) or now - deadline > _STALE or _has_succeeded(state, sla, day, deadline):
            return False
        run = Run.objects.of_pipeline(pipeline.id).filter(created_at__lte=deadline).exclude(trigger=Trigger.BACKFILL).recent().first()
        found = _state_of(run, schedules.start_of_day(day, sla.zone))
        noted = {"deadline": deadline, "state": found, "noted_at": now}
        _, is_new = SlaMiss.objects.get_or_create(pipeline=pipeline, date=day, defaults=noted)
        if is_new:
            seen = None if found == "not_started" else run
            notifications.sla_missed(pipeline, definition.hooks, date=day, deadline=deadline, state=found, run=seen)
            logger.warning("deadline missed", pipeline_id=str(pipeline.id), deadline=iso(deadline), state=found)
        return is_new


def _last_deadline(sla: SlaDeadline, now: dt.datetime) -> tuple[dt.date, dt.datetime]:
    day = schedules.local_date(now, sla.zone)
    deadline = schedules.deadline_on(sla, day)
    if deadline > now:
        day -= dt.timedelta(days=1)
        deadline = schedules.deadline_on(sla, day)
    return day, deadline


def _move(state: ScheduleState, following: dt.datetime) -> bool:
    """Go on to the next deadline; False when another worker did."""
    unchanged = ScheduleState.objects.filter(pipeline=state.pipeline_id, next_deadline_at=state.next_deadline_at)
    return unchanged.update(next_deadline_at=following) == 1


def _has_succeeded(state: ScheduleState, sla: SlaDeadline, day: dt.date, deadline: dt.datetime) -> bool:
    in_time: dict[str, Any] = {"pipeline": state.pipeline_id, "status": RunStatus.SUCCESS, "finished_at__lte": deadline}
    midnight = schedules.start_of_day(day, sla.zone)
    if Run.objects.filter(**in_time, finished_at__gte=midnight).exclude(trigger=Trigger.BACKFILL).order_by().exists():
        return True
    if Run.objects.filter(**in_time, logical_date=day).order_by().exists():
        return True
    if not state.schedule.strip():
        return False
    tick = schedules.previous_tick(state.schedule, state.zone, deadline)
    newest = Run.objects.filter(pipeline=state.pipeline_id, trigger=Trigger.SCHEDULE).recent()[:_LOOK_BACK]
    return any(
        run.interval_end == tick and run.status == RunStatus.SUCCESS and run.finished_at is not None and run.finished_at <= deadline
        for run in newest.only("interval_end", "status", "finished_at")
    )


def _state_of(run: Run | None, midnight: dt.datetime) -> str:
    """What there was of a run: not_started, waiting, running or failed."""
    if run is None or (run.finished_at is not None and run.finished_at < midnight):
        return "not_started"
    if run.status == RunStatus.PENDING:
        return "waiting"
    # One that has succeeded meanwhile was too late: it was running at the deadline.
    return "running" if run.status in (RunStatus.RUNNING, RunStatus.SUCCESS) else "failed"


def misses(pipeline: Pipeline, most: int) -> list[SlaMiss]:
    """The newest days on which the deadline passed without a success."""
    return list(SlaMiss.objects.filter(pipeline=pipeline).order_by("-id")[:most])
