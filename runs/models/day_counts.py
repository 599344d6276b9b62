"""What is kept of days that are over, so that looking at a year does not count a year's runs."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from pipelines.models import Pipeline


class DayCount(models.Model):
    """How the runs made on one day (UTC) ended: of one pipeline, or of all (null). See `runs.day_counts`.

    There are rows of a day only when every run made on it has ended. Then there is one of all pipelines, and one of each that had a run.
    """

    id = models.BigAutoField(primary_key=True)
    pipeline = models.ForeignKey(Pipeline, null=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField()
    success = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    cancelled = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("day",)
        indexes: ClassVar = [models.Index(fields=["day"], name="day_count_day")]
        constraints = (
            models.UniqueConstraint(fields=["day"], condition=Q(pipeline__isnull=True), name="day_count_one_of_all"),
            models.UniqueConstraint(fields=["pipeline", "day"], condition=Q(pipeline__isnull=False), name="day_count_one_a_pipeline"),
        )

    def __str__(self) -> str:
        return str(self.day)
