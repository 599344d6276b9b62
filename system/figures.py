"""The figures of the whole that are read off the rows: a bounded number of queries, each by an index, however long the history is."""

import datetime as dt
from dataclasses import dataclass

from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone

from runs.models import LogEntry, Notification, Run
from runs.querysets import LONGEST_PARK
from runs.states import RunStatus


@dataclass(frozen=True, slots=True)
class Queue:
    """The runs that have not ended. `waiting` for a worker; `parked` until their time comes."""

    waiting: int
    parked: int
    running: int
    oldest_seconds: float  # that the longest waiting one has waited; 0 without one


@dataclass(frozen=True, slots=True)
class Events:
    """The newest entry of the event log; 0 and None of an empty one."""

    newest_seq: int
    newest_at: dt.datetime | None


def queue() -> Queue:
    """Three queries. Their cost grows with the runs that have not ended, not with those that have."""
    now = timezone.now()
    due = Q(not_before__isnull=True) | Q(not_before__lte=now) | Q(not_before__gt=now + 2 * LONGEST_PARK)
    pending = Run.objects.filter(status=RunStatus.PENDING).order_by()
    counts = pending.aggregate(waiting=Count("id", filter=due), parked=Count("id", filter=~due))
    oldest = pending.filter(due).order_by("id").values_list("created_at", "not_before").first()
    since = (oldest[1] or oldest[0]) if oldest else now
    return Queue(
        waiting=counts["waiting"],
        parked=counts["parked"],
        running=Run.objects.filter(status=RunStatus.RUNNING).order_by().count(),
        oldest_seconds=max(0.0, (now - since).total_seconds()),
    )


def events() -> Events:
    """One query."""
    found = LogEntry.objects.order_by("-seq").values_list("seq", "timestamp").first()
    return Events(*found) if found else Events(0, None)


def oldest_write_seconds() -> float:
    """For how long the oldest open transaction that has written is open: the event stream waits for it.

    One query; none, and 0, on SQLite, which has one writer.
    """
    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM max(clock_timestamp() - xact_start)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_xid IS NOT NULL"
        )
        (seconds,) = cursor.fetchone()
    return max(0.0, float(seconds or 0.0))


def notifications_waiting() -> int:
    """Messages that nobody has taken yet. One query, whose cost grows with what waits."""
    return Notification.objects.filter(status=Notification.Status.PENDING).order_by().count()
