"""When a scheduler last looked at the clock: in any worker, or in `manage.py enqueue_due_runs`.

Workers look each second; that is noted every few seconds, by whichever of them finds the note old. So it costs next to nothing, and it
outlives the workers: somebody who asks why nothing runs learns since when nobody has looked.
"""

import datetime as dt
from dataclasses import dataclass
from time import monotonic

from django.db.models import Q
from django.utils import timezone

from runs.models import SchedulerLook

EVERY = dt.timedelta(seconds=5)


def last() -> dt.datetime | None:
    """The last look that was noted, at most a few seconds older than the last look; None when nobody has ever looked. One query."""
    return SchedulerLook.objects.filter(id=SchedulerLook.ONLY).values_list("looked_at", flat=True).first()


def note() -> None:
    """Somebody looked, now. Writes only where the note is old, or from a future that a clock was set back from."""
    now = timezone.now()
    noted = last()
    if noted is None:
        SchedulerLook.objects.bulk_create([SchedulerLook(looked_at=now)], ignore_conflicts=True)
    elif not now - EVERY < noted <= now:
        SchedulerLook.objects.filter(Q(looked_at__lte=now - EVERY) | Q(looked_at__gt=now), id=SchedulerLook.ONLY).update(looked_at=now)


@dataclass
class Looks:
    """The notes of one process that looks often: it asks the database no more often than the note may be old."""

    _next: float = 0.0

    def note(self) -> None:
        if monotonic() >= self._next:
            note()
            self._next = monotonic() + EVERY.total_seconds()
