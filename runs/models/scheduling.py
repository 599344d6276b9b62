"""What makes runs by itself: the clock, and the ends of other runs."""

from typing import ClassVar

from django.db import models

from pipelines.models import Pipeline
from runs.models.runs import Run


class ScheduleState(models.Model):
    """When a pipeline's schedule, or its deadline, is to be looked at next. Kept in step with the pipeline by those who save it."""

    pipeline = models.OneToOneField(Pipeline, primary_key=True, on_delete=models.CASCADE, related_name="schedule_state")
    schedule = models.CharField(max_length=200, blank=True, default="")
    zone = models.CharField(max_length=64, default="UTC")
    next_tick_at = models.DateTimeField(null=True, blank=True, help_text="Null: disabled, or no schedule.")
    last_tick_at = models.DateTimeField(null=True, blank=True, help_text="The last tick that was dealt with, by a run or by skipping it.")
    next_deadline_at = models.DateTimeField(null=True, blank=True, help_text="Null: no `sla_deadline`.")

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
