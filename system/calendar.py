"""The runs of the last days, day by day."""

import datetime as dt
import uuid
from typing import Any

from runs.day_counts import DAY, Counts, by_day, today
from runs.states import RunStatus

MOST_DAYS = 365


def last_days(days: int, now: dt.datetime | None = None) -> list[dt.date]:
    """So many days (UTC), the oldest first, the last one today."""
    return [today(now) - DAY * before for before in reversed(range(days))]


def calendar(days: int, pipeline_id: uuid.UUID | None = None, now: dt.datetime | None = None) -> list[dict[str, Any]]:
    """An entry for each of the last `days` days on which runs were made, the oldest first. Two queries."""
    wanted = last_days(days, now)
    return [entry(day, counts) for day, counts in zip(wanted, by_day(wanted, pipeline_id, now), strict=True) if any(counts.values())]


def entry(day: dt.date, counts: Counts) -> dict[str, Any]:
    """A day as the API shows it. `total` is the sum of the others."""
    return {
        "date": day.isoformat(),
        "success": counts[RunStatus.SUCCESS],
        "failed": counts[RunStatus.FAILED],
        "cancelled": counts[RunStatus.CANCELLED],
        "running": counts[RunStatus.RUNNING],
        "pending": counts[RunStatus.PENDING],
        "total": sum(counts.values()),
    }
