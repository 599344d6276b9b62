"""What a backfill would do: one slot a date, or one an interval of the schedule, and which of them are left out and why. Writes nothing."""

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from brokoli_site.common.errors import BadRequest, BrokoliError
from pipelines import schedules
from pipelines.models import Pipeline
from runs.models import Run
from runs.querysets import RunQuerySet
from runs.states import ACTIVE, RunStatus

MOST_SLOTS = 1_000
EARLIEST, LATEST = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (1900, 9000))  # a clock that is set back by a zone stays in the calendar

Only = Literal["all", "missing", "failed", "unfinished"]
ONLY: tuple[Only, ...] = ("all", "missing", "failed", "unfinished")
_GOOD = sorted({RunStatus.SUCCESS, *ACTIVE})


class NoSchedule(BrokoliError):
    """The pipeline has no schedule, so it has no intervals; give start_date and end_date for a run a date."""

    status, code = 422, "no_schedule"


@dataclass(frozen=True, slots=True)
class Slot:
    """What one run is for: a date, and the interval where the backfill is one of intervals. `skipped` says why it gets no run."""

    date: dt.date
    interval_start: dt.datetime | None = None
    interval_end: dt.datetime | None = None
    skipped: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.date,) if self.interval_start is None else (self.interval_start, self.interval_end)


def dates(start: dt.date, end: dt.date) -> list[Slot]:
    """One slot a date, both ends included, oldest first. Errors: `BadRequest` naming the field."""
    if end < start:
        raise BadRequest(f"The end, {end}, is before the start, {start}.", "/end_date")
    count = (end - start).days + 1
    if count > MOST_SLOTS:
        raise BadRequest(f"From {start} to {end} are {count:,} dates; a backfill has at most {MOST_SLOTS:,}. Split it.", "/end_date")
    return [Slot(start + dt.timedelta(days=day)) for day in range(count)]


def intervals(pipeline: Pipeline, start: dt.datetime, end: dt.datetime) -> list[Slot]:
    """The intervals of the schedule, `[tick, next tick)`, that lie within `[start, end)`, oldest first.

    Errors: `NoSchedule`; `BadRequest` naming the field.
    """
    if not pipeline.schedule:
        raise NoSchedule
    if end <= start:
        raise BadRequest("The end must be later than the start.", "/end")
    for moment, pointer in ((start, "/start"), (end, "/end")):
        if not EARLIEST <= moment <= LATEST:
            raise BadRequest(f"The years from {EARLIEST.year} to {LATEST.year - 1} can be backfilled.", pointer)
    found = list(itertools.islice(_intervals(pipeline, start, end), MOST_SLOTS + 1))
    if not found:
        raise BadRequest(f"No interval of the schedule '{pipeline.schedule}' ({pipeline.schedule_timezone}) lies between start and end.", "/end")
    if len(found) > MOST_SLOTS:
        raise BadRequest(f"The schedule has more than {MOST_SLOTS:,} intervals between start and end, the most of a backfill. Split it.", "/end")
    return found


def _intervals(pipeline: Pipeline, start: dt.datetime, end: dt.datetime) -> Iterator[Slot]:
    zone = pipeline.schedule_timezone or "UTC"
    ticks = schedules.ticks(pipeline.schedule, zone, start - dt.timedelta(microseconds=1))
    for tick, following in itertools.pairwise(ticks):
        if following > end:
            return
        yield Slot(schedules.local_date(tick, zone), tick, following)


def decide(pipeline: Pipeline, slots: Sequence[Slot], only: Only) -> list[Slot]:
    """The slots with those marked that get no run. Two queries at most, whatever the history."""
    if only == "all":
        return list(slots)
    past = _past(pipeline, slots)
    found = _latest(past, slots)
    good = _latest(past.filter(status__in=_GOOD), slots) if only == "unfinished" else {}
    return [replace(slot, skipped=_reason(only, found.get(slot.key), good.get(slot.key))) for slot in slots]


def _reason(only: Only, latest: str | None, good: str | None) -> str:
    """Why a slot with this history gets no run; "" when it does."""
    if only == "missing":
        return f"it has a run, which is {latest}" if latest else ""
    if only == "failed":
        return "" if latest == RunStatus.FAILED else f"its latest run is {latest}" if latest else "it has no run"
    return "" if good is None else "a run of it succeeded" if good == RunStatus.SUCCESS else f"a run of it is {good}"


def _past(pipeline: Pipeline, slots: Sequence[Slot]) -> RunQuerySet:
    """The runs that may be for one of the slots. What was cancelled does not count: it did nothing."""
    # Found by their dates, which an index holds. A date is that of the schedule's zone when the run was made, which may have changed.
    slack = dt.timedelta(days=2 if slots[0].interval_start else 0)
    runs = Run.objects.of_pipeline(pipeline.id).exclude(status=RunStatus.CANCELLED).order_by()
    runs = runs.filter(logical_date__isnull=False, logical_date__gte=slots[0].date - slack, logical_date__lte=slots[-1].date + slack)
    return runs.filter(interval_start__isnull=False, interval_end__isnull=False) if slots[0].interval_start else runs


def _latest(runs: RunQuerySet, slots: Sequence[Slot]) -> dict[tuple[Any, ...], str]:
    """The status of the latest run by `Slot.key`."""
    key = ("interval_start", "interval_end") if slots[0].interval_start else ("logical_date",)
    newest = Window(RowNumber(), partition_by=[F(name) for name in key], order_by=F("id").desc())
    rows = runs.annotate(place=newest).filter(place=1).values_list(*key, "status")
    return {tuple(row[:-1]): row[-1] for row in rows}
