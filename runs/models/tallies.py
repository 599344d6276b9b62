"""What is counted of the past, for metrics."""

from typing import ClassVar

from django.db import models


class Tally(models.Model):
    """A histogram of what has ended since Brokoli counts it. It is only ever added to, so no purge takes anything from it. See `runs.tallies`."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=40, help_text="What is counted.")
    label = models.CharField(max_length=100, blank=True, default="", help_text="Of which kind: a node's type.")
    status = models.CharField(max_length=10, help_text="How it ended.")
    buckets = models.JSONField(help_text="How many fell into each bucket (not into those below too), the last without a bound.")
    total = models.FloatField(default=0.0, help_text="The sum of what was measured.")

    class Meta:
        verbose_name_plural = "tallies"
        constraints: ClassVar = [models.UniqueConstraint(fields=["name", "label", "status"], name="tally_unique")]

    def __str__(self) -> str:
        return f"{self.name} {self.label} {self.status}"
