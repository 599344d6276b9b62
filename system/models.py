"""The rows of this app."""

from django.db import models
from django.db.models import Q


class OpenLineageCursor(models.Model):
    """How far the log was told to the collector. One row, whose holder tells; the log itself is the outbox."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seq = models.BigIntegerField(help_text="Of the last entry of the log that is settled: told, refused, or nothing to tell of.")
    holder = models.CharField(max_length=64, blank=True, default="")
    held_until = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="Tries in a row that failed.")
    retry_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True, default="", help_text="Why the last try failed, or what was refused last.")
    sent = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0, help_text="Events that the collector did not want.")
    skipped = models.BigIntegerField(default=0, help_text="Entries of the log that were passed over because the collector was away for too long.")

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="openlineage_cursor_single"),)

    def __str__(self) -> str:
        return str(self.seq)
