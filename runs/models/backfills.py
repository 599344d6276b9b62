"""Runs over a range of dates, as one object."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from brokoli_site.common.ids import new_id
from pipelines.models import Pipeline


class Backfill(models.Model):
    """One request for runs over a range: a run a date, or a run an interval of the schedule. Its progress is that of its runs."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    pipeline = models.ForeignKey(Pipeline, on_delete=models.PROTECT, related_name="backfills")
    # Both ends as they were asked for: dates, both included, or instants, the end excluded.
    start = models.CharField(max_length=40)
    end = models.CharField(max_length=40)
    only = models.CharField(max_length=10, default="all", help_text="Which of the dates: all, missing, failed, or unfinished (missing and failed).")
    max_active = models.PositiveIntegerField(null=True, blank=True, help_text="Runs of it that execute at the same time. Empty: any number.")
    run_count = models.PositiveIntegerField(default=0, help_text="Runs that it made; those that were purged count too.")
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    cancelled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (models.CheckConstraint(condition=Q(max_active__isnull=True) | Q(max_active__gte=1), name="backfill_max_active_positive"),)

    def __str__(self) -> str:
        return f"{self.start}..{self.end}"
