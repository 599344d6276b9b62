"""When a pipeline runs by itself: five cron fields and a time zone; and by when it should have. Pure.

A schedule names times of the wall clock. Where daylight saving time begins, a time that the clock skips stands for the next one that
exists, and several such for one; where it ends, a time that comes twice is its first occurrence. A schedule of every hour (`30 * * * *`,
`*/5 * * * *`) follows elapsed time instead, so that it neither pauses in the repeated hour nor hurries.
"""

import datetime as dt
import functools
import re
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cronsim import CronSim, CronSimError

from pipelines.problems import Problem, broken, shortened

Overlap = Literal["queue", "skip", "cancel_running"]
MissedRuns = Literal["latest", "all", "none"]

# What cron(8) and the older Brokoli call them.
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class SlaDeadline:
    """By this time of each day, in this zone, a run should have succeeded."""

    time: dt.time
    zone: str


_ANY_MOMENT = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
_EXAMPLE = "An example: '0 6 * * 1-5'."
# By cronsim's names of the fields.
_ACCEPTED = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31 (a day that one of the months has), L for the last day or LW for the last working day",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT (0 and 7 are Sunday), 5L for the last Friday of a month or MON#2 for its second Monday",
}


def cron_fields(schedule: str) -> str:
    """The five fields that a schedule stands for: `0 0 * * *` of `@daily`."""
    return _NAMED.get(schedule.strip().lower(), schedule.strip())


def schedule_fault(schedule: str) -> str:
    """What is wrong with a schedule, as a sentence; "" when nothing is."""
    if len(schedule.split()) != 5 and schedule.strip().lower() not in _NAMED:
        aliases = ", ".join(_NAMED)
        return f"A schedule has five cron fields: minute, hour, day of month, month, day of week, such as '0 6 * * 1-5'; or it is one of {aliases}."
    try:
        CronSim(cron_fields(schedule), _ANY_MOMENT)
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        if field not in _ACCEPTED:
            return f"The schedule cannot be read: {str(error).lower()}. {_EXAMPLE}"
        return (
            f"The schedule's {field.replace('-', ' ')} cannot be read: it takes {_ACCEPTED[field]}; lists (1,2), ranges (1-5) and steps (*/5) "
            f"of them; or * for each. {_EXAMPLE}"
        )
    return ""


def zone_fault(zone: Any) -> str:
    """What is wrong with the name of a time zone, as a sentence; "" when nothing is."""
    return "" if _is_zone(zone) else f"There is no time zone '{shortened(str(zone))}'; use an IANA name such as 'Europe/Berlin', or 'UTC'."


def in_words(schedule: str) -> str:
    """What a readable schedule says: `At 06:00 on Monday through Friday`."""
    return CronSim(cron_fields(schedule), _ANY_MOMENT).explain()


@functools.cache
def zone_names() -> frozenset[str]:
    """Every IANA time zone that this machine knows."""
    return frozenset(zoneinfo.available_timezones())


# --- ticks --------------------------------------------------------------------------------------------------------


def ticks(schedule: str, zone: str, after: dt.datetime) -> Iterator[dt.datetime]:
    """The times of a readable schedule later than `after`, in order and each once, in UTC; they end when none comes for decades."""
    place = zoneinfo.ZoneInfo(zone)
    last = after.astimezone(dt.UTC)
    for moment in _moments(cron_fields(schedule), place, last):
        if moment > last:
            last = moment
            yield moment


def next_tick(schedule: str, zone: str, after: dt.datetime) -> dt.datetime | None:
    """The first tick later than `after`; None when there is none for decades."""
    return next(ticks(schedule, zone, after), None)


def ticks_between(schedule: str, zone: str, after: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
    """Ticks later than `after` and not later than `until`."""
    for moment in ticks(schedule, zone, after):
        if moment > until:
            return
        yield moment


def latest_ticks(schedule: str, zone: str, after: dt.datetime, until: dt.datetime, most: int) -> list[dt.datetime]:
    """The last `most` ticks later than `after` and not later than `until`, oldest first. Cost: that of some `most` ticks, however long the time."""
    look_back = dt.timedelta(hours=1)
    while True:
        start = max(after, until - look_back) if until - after > look_back else after
        found = list(ticks_between(schedule, zone, start, until))
        if len(found) >= most or start == after:
            return found[-most:]
        look_back *= 2


def previous_tick(schedule: str, zone: str, before: dt.datetime) -> dt.datetime | None:
    """The last tick earlier than `before`; None when there was none for decades."""
    earliest = before - dt.timedelta(days=50 * 366)
    found = latest_ticks(schedule, zone, earliest, before - dt.timedelta(microseconds=1), 1)
    return found[-1] if found else None


def clock_notes(schedule: str, zone: str, found: Iterable[dt.datetime]) -> Iterator[str]:
    """A sentence for each of these ticks that is not when the wall clock first shows its time: the time is skipped there, or comes twice."""
    place, fields = zoneinfo.ZoneInfo(zone), cron_fields(schedule)
    if len(CronSim(fields, _ANY_MOMENT).hours) == 24:
        return  # it follows elapsed time
    for tick in found:
        local = tick.astimezone(place)
        clock = local.replace(tzinfo=None)
        if next(CronSim(fields, clock - dt.timedelta(seconds=1)), None) != clock:
            yield f"{clock:%Y-%m-%d}: the clock skips a time of the schedule; the run is made at {clock:%H:%M}, the first time after it."
        elif local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
            yield f"{clock:%Y-%m-%d}: {clock:%H:%M} comes twice; the run is made at the first of them."


def _moments(fields: str, place: zoneinfo.ZoneInfo, after: dt.datetime) -> Iterator[dt.datetime]:
    """Ticks around and after `after` in UTC, never going back; some may be earlier, or come twice."""
    local = after.astimezone(place).replace(tzinfo=None)
    simulation = CronSim(fields, local)  # of the wall clock: cronsim's own ideas of zones miss ticks where clocks move by half an hour
    if len(simulation.hours) == 24:
        return _elapsed(fields, place, after)
    return (instant(moment, place) for moment in simulation)


def _elapsed(fields: str, place: zoneinfo.ZoneInfo, after: dt.datetime) -> Iterator[dt.datetime]:
    """Each moment at which the wall clock shows a time of the schedule: none in a gap, both in a repeat."""
    local = after.astimezone(place)
    clock, offset = local.replace(tzinfo=None), local.utcoffset() or dt.timedelta()
    while True:
        for wanted in CronSim(fields, clock):
            moment = (wanted - offset).replace(tzinfo=dt.UTC)
            if moment.astimezone(place).utcoffset() != offset:
                break  # the clock moved on the way there: go on from that moment, by its new time
            after = moment
            yield moment
        else:
            return
        after = _change(after, moment, place)
        local = after.astimezone(place)
        clock, offset = local.replace(tzinfo=None) - dt.timedelta(seconds=1), local.utcoffset() or dt.timedelta()


def instant(local: dt.datetime, place: zoneinfo.ZoneInfo) -> dt.datetime:
    """The moment, in UTC, of a time of the wall clock: the first of two, or the end of the gap that it lies in."""
    first = local.replace(tzinfo=place, fold=0).astimezone(dt.UTC)
    if first.astimezone(place).replace(tzinfo=None) == local:
        return first
    # In a gap: the offset before it and the one after it give two moments, and the clock jumps between them.
    second = local.replace(tzinfo=place, fold=1).astimezone(dt.UTC)
    return _change(min(first, second), max(first, second), place)


def _change(earlier: dt.datetime, later: dt.datetime, place: zoneinfo.ZoneInfo) -> dt.datetime:
    """The second between two moments, of which each has another offset from UTC, at which the clock was moved."""
    before = earlier.astimezone(place).utcoffset()
    while later - earlier > dt.timedelta(seconds=1):
        middle = earlier + (later - earlier) / 2
        earlier, later = (middle, later) if middle.astimezone(place).utcoffset() == before else (earlier, middle)
    return later.replace(microsecond=0)


# --- what a document says besides -----------------------------------------------------------------------------------


def read_overlap(document: Mapping[str, Any], problems: list[Problem]) -> Overlap:
    """`overlap_policy`: what the schedule does while an earlier run is active."""
    found = _choice(document, "overlap_policy", get_args(Overlap), problems)
    return found or "queue"


def read_missed_runs(document: Mapping[str, Any], problems: list[Problem]) -> MissedRuns:
    """`missed_runs`, or the SDK's `catchup: true`, which means all."""
    catchup = document.get("catchup")
    if catchup is not None and not isinstance(catchup, bool):
        problems.append(broken("'catchup' must be true or false.", "/catchup", field="catchup"))
    found = _choice(document, "missed_runs", get_args(MissedRuns), problems)
    return found or ("all" if catchup is True else "latest")


def _choice(document: Mapping[str, Any], key: str, choices: tuple[str, ...], problems: list[Problem]) -> Any:
    found = document.get(key)
    if found is None or found == "":
        return None
    if not isinstance(found, str) or found not in choices:
        problems.append(broken(f"'{key}' must be one of {', '.join(choices)}.", f"/{key}", field=key))
        return None
    return found


# --- deadlines ----------------------------------------------------------------------------------------------------

_DEADLINE = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?:\s+(\S+))?")


def read_sla(document: Mapping[str, Any], problems: list[Problem]) -> SlaDeadline | None:
    """`sla_deadline` ("07:30", or "07:30 Europe/Berlin") and `sla_timezone`; without a zone, that of the schedule."""
    text, zone = document.get("sla_deadline"), document.get("sla_timezone")
    if zone not in (None, "") and not _is_zone(zone):
        problems.append(_no_zone(zone, "sla_timezone"))
        return None
    if text is None or text == "":
        return None
    parts = _DEADLINE.fullmatch(text.strip()) if isinstance(text, str) else None
    if parts is None:
        message = "'sla_deadline' must be a time of day, such as '07:30' or '07:30 Europe/Berlin'."
        problems.append(broken(message, "/sla_deadline", field="sla_deadline"))
        return None
    if parts[3] and not _is_zone(parts[3]):
        problems.append(_no_zone(parts[3], "sla_deadline"))
        return None
    own = document.get("schedule_timezone")
    return SlaDeadline(dt.time(int(parts[1]), int(parts[2])), str(parts[3] or zone or (own if _is_zone(own) else "UTC")))


def deadline_on(sla: SlaDeadline, day: dt.date) -> dt.datetime:
    """The moment of that day's deadline, in UTC."""
    return instant(dt.datetime.combine(day, sla.time), zoneinfo.ZoneInfo(sla.zone))


def next_deadline(sla: SlaDeadline, after: dt.datetime) -> dt.datetime:
    """The first deadline later than `after`, in UTC."""
    day = local_date(after, sla.zone)
    while (found := deadline_on(sla, day)) <= after:
        day += dt.timedelta(days=1)
    return found


def local_date(moment: dt.datetime, zone: str) -> dt.date:
    """The day that the wall clock of the zone shows."""
    return moment.astimezone(zoneinfo.ZoneInfo(zone)).date()


def start_of_day(day: dt.date, zone: str) -> dt.datetime:
    """The first moment of a day in a zone, in UTC: where midnight is skipped, a later one."""
    return instant(dt.datetime.combine(day, dt.time()), zoneinfo.ZoneInfo(zone))


def _is_zone(value: Any) -> bool:
    return isinstance(value, str) and value in zone_names()


def _no_zone(value: Any, key: str) -> Problem:
    return broken(zone_fault(value), f"/{key}", field=key)
