"""What makes runs by itself: the clock, and the ends of other runs."""

import datetime as dt
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from pipelines import schedules
from pipelines.models import Pipeline
from pipelines.schedules import SlaDeadline
from pipelines.spec import PipelineSpec
from runs.models.runs import Run


class ScheduleStateQuerySet(models.QuerySet["ScheduleState"]):
    def ticking(self, now: dt.datetime) -> "ScheduleStateQuerySet":
        """Those with a tick to deal with, the longest overdue first."""
        return self.filter(next_tick_at__lte=now).order_by("next_tick_at")

    def at_deadline(self, now: dt.datetime) -> "ScheduleStateQuerySet":
        """Those with a deadline to look at."""
        return self.filter(next_deadline_at__lte=now).order_by("next_deadline_at")

    def stop(self, pipeline: Pipeline) -> None:
        """Nothing is made or expected of the pipeline: it has no schedule and no deadline, is disabled, or was deleted."""
        self.filter(pipeline=pipeline).update(schedule="", next_tick_at=None, next_deadline_at=None)

    def keep_in_step(self, pipeline: Pipeline, spec: PipelineSpec, now: dt.datetime | None = None) -> None:
        """What is to be looked at next, after a pipeline was saved. Call in that transaction, after the pipeline's row was written.

        A schedule that stays the same keeps its next tick; a new or changed one, or one that is enabled, begins with the first tick to come.
        """
        now = now or timezone.now()
        schedule, zone = pipeline.schedule.strip() and pipeline.schedule, pipeline.schedule_timezone or "UTC"
        if not pipeline.enabled or not (schedule or spec.sla):
            if pipeline.version > 1:
                self.stop(pipeline)
            return
        state = self.select_for_update(no_key=True).filter(pipeline=pipeline).first() or ScheduleState(pipeline=pipeline)
        if not schedule:
            state.next_tick_at = None
        elif state.next_tick_at is None or (state.schedule, state.zone) != (schedule, zone):
            state.next_tick_at = schedules.next_tick(schedule, zone, now)
        state.schedule, state.zone = schedule, zone
        state.next_deadline_at = _next_deadline(state.next_deadline_at, spec.sla, now)
        state.save()

    def forgotten(self) -> "models.QuerySet[Pipeline]":
        """Pipelines whose schedule is not in step: they were saved before there were schedules, or by other means."""
        scheduled = Pipeline.objects.live().filter(enabled=True).exclude(schedule="")
        return scheduled.exclude(schedule_state__schedule=F("schedule"), schedule_state__zone=F("schedule_timezone"))


def _next_deadline(current: dt.datetime | None, sla: SlaDeadline | None, now: dt.datetime) -> dt.datetime | None:
    if sla is None:
        return None
    coming = schedules.next_deadline(sla, now)
    # One that has come and that nobody has looked at yet is not lost by a save.
    still = current is not None and current < coming and schedules.deadline_on(sla, schedules.local_date(current, sla.zone)) == current
    return current if still else coming


class ScheduleState(models.Model):
    """When a pipeline's schedule, or its deadline, is to be looked at next. Kept in step with the pipeline by those who save it."""

    pipeline = models.OneToOneField(Pipeline, primary_key=True, on_delete=models.CASCADE, related_name="schedule_state")
    schedule = models.CharField(max_length=200, blank=True, default="")
    zone = models.CharField(max_length=64, default="UTC")
    next_tick_at = models.DateTimeField(null=True, blank=True, help_text="Null: disabled, or no schedule.")
    last_tick_at = models.DateTimeField(null=True, blank=True, help_text="The last tick that was dealt with, by a run or by skipping it.")
    next_deadline_at = models.DateTimeField(null=True, blank=True, help_text="Null: no `sla_deadline`.")

    objects: ClassVar[ScheduleStateQuerySet] = ScheduleStateQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["next_tick_at"], name="schedule_state_tick"),
            models.Index(fields=["next_deadline_at"], name="schedule_state_deadline"),
        ]

    def __str__(self) -> str:
        return str(self.pipeline_id)


class UpstreamEnd(models.Model):
    """A run ended on which other pipelines wait. Written with the end, removed in the transaction that made their runs."""

    run = models.OneToOneField(Run, primary_key=True, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.run_id)


class SchedulerLook(models.Model):
    """When a scheduler last looked at the clock, whichever it was: one row for all. See `runs.scheduler_looks`."""

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    looked_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="scheduler_look_one_row")]

    def __str__(self) -> str:
        return str(self.looked_at)
