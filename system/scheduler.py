"""What the schedules will do: of the pipelines that there are, and of one that somebody is about to write."""

import datetime as dt
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db.models import F, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce, NullIf
from django.utils import timezone

from brokoli_site.common.time import iso
from pipelines import schedules
from pipelines.models import Pipeline
from runs.models import Run

MOST_PREVIEWED = 100
# A schedule for the 29th of February on a Sunday comes every 28 years. Ticks later than this are not looked for.
FURTHEST = dt.timedelta(days=100 * 365.25)


def status(now: dt.datetime | None = None) -> list[dict[str, Any]]:
    """Every pipeline with a schedule, the next to run first; those that will not run by themselves last. One query, however long the history."""
    now = now or timezone.now()
    newest = Run.objects.filter(pipeline=OuterRef("id")).order_by("-id")
    rows = (
        Pipeline.objects.live()
        .exclude(schedule="")
        .order_by()
        .values_list(
            "id",
            "name",
            "schedule",
            Coalesce(NullIf("schedule_timezone", Value("")), Value("UTC")),
            "enabled",
            F("schedule_state__next_tick_at"),
            F("schedule_state__schedule"),
            F("schedule_state__zone"),
            Subquery(newest.values(at=Coalesce("started_at", "created_at"))[:1]),
        )
    )
    found = []
    for pipeline_id, name, schedule, zone, enabled, planned, kept, kept_zone, last_run in rows:
        if not schedule.strip():
            continue
        upcoming = None
        if enabled:
            # What the workers have not brought into step yet (a pipeline of before an upgrade) is what they will make of it.
            upcoming = planned if (kept, kept_zone) == (schedule, zone) else _next(schedule, zone, now)
        entry = {"pipeline_id": pipeline_id, "pipeline_name": name, "schedule": schedule, "timezone": zone, "next_run": iso(upcoming)}
        found.append((upcoming is None, upcoming or now, name, entry | {"last_run": iso(last_run), "enabled": enabled}))
    found.sort(key=lambda row: row[:3])
    return [entry for *_, entry in found]


def _next(schedule: str, zone: str, now: dt.datetime) -> dt.datetime | None:
    """The next tick; None also of a schedule that cannot be read."""
    if schedules.schedule_fault(schedule) or schedules.zone_fault(zone):
        return None
    return schedules.next_tick(schedule, zone, now)


@dataclass(frozen=True, slots=True)
class Preview:
    """The next ticks of a readable schedule, in UTC, oldest first: fewer than were asked for when no more come within a hundred years."""

    schedule: str
    zone: str
    ticks: tuple[dt.datetime, ...]

    @property
    def description(self) -> str:
        return schedules.in_words(self.schedule)

    @property
    def local(self) -> list[str]:
        """What the wall clock shows then, with its offset: `2024-03-10T03:00:00-04:00`."""
        place = zoneinfo.ZoneInfo(self.zone)
        return [tick.astimezone(place).isoformat() for tick in self.ticks]

    @property
    def notes(self) -> Iterator[str]:
        return schedules.clock_notes(self.schedule, self.zone, self.ticks)


def preview(schedule: str, zone: str, after: dt.datetime, count: int) -> Preview:
    """Call with a readable schedule and a known zone."""
    coming = schedules.ticks_between(schedule, zone, after, after + FURTHEST)
    return Preview(schedule, zone, tuple(islice(coming, count)))
