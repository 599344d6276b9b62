"""What people are to be told of, until it was told."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from pipelines.models import Pipeline
from runs.models.runs import Run


class Notification(models.Model):
    """One message to one receiver: the outbox. Written with the change that it tells of, sent by whichever worker takes it."""

    class Status(models.TextChoices):
        PENDING = "pending"  # to be sent at `next_attempt_at`      -> sent, failed
        SENT = "sent"  # the receiver took it                        final
        FAILED = "failed"  # given up: see `error`                   final

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="+")
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.CASCADE, related_name="notifications")
    event = models.CharField(max_length=20)
    kind = models.CharField(max_length=10)
    hook = models.JSONField(help_text="The receiver as the document names it; references are resolved when it is sent.")
    payload = models.JSONField(help_text="What is told.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    # While somebody sends it, this is when others may think that the sender died.
    next_attempt_at = models.DateTimeField()
    error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [
            models.Index(fields=["status", "next_attempt_at"], name="notification_due"),
            models.Index(fields=["status", "pipeline"], name="notification_waiting"),  # counts what waits, in all and of a pipeline
        ]
        constraints: ClassVar = [models.CheckConstraint(condition=Q(status__in=["pending", "sent", "failed"]), name="notification_status_known")]

    def __str__(self) -> str:
        return f"{self.event} to {self.kind}"


class SlaMiss(models.Model):
    """On that day the pipeline's deadline passed without a success. One row a day, so one alert a day."""

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="sla_misses")
    date = models.DateField()
    deadline = models.DateTimeField()
    state = models.CharField(max_length=20, help_text="What was there of a run by then.")
    noted_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [models.UniqueConstraint(fields=["pipeline", "date"], name="sla_miss_once_a_day")]

    def __str__(self) -> str:
        return f"{self.pipeline_id} {self.date}"
