"""Ticks in zones whose clocks jump, against a look at every minute around the jumps, and over a year; policies and deadlines of a document."""

import datetime as dt
import itertools
import random
import time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from pipelines import schedules
from pipelines.problems import Problem
from pipelines.schedules import SlaDeadline, deadline_on, next_deadline, next_tick, previous_tick, read_missed_runs, read_overlap, read_sla

ZONES = ["America/New_York", "Australia/Lord_Howe", "Africa/Cairo"]
START, END = dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def local(moment: dt.datetime | None, zone: str) -> str:
    assert moment is not None
    return moment.astimezone(ZoneInfo(zone)).isoformat(" ", "minutes")


# Days around which the clocks of a zone jump: forward, and back.
JUMPS = {
    "America/New_York": ("2024-03-10", "2024-11-03"),
    "Australia/Lord_Howe": ("2024-10-05", "2024-04-06"),
    "Africa/Cairo": ("2024-04-25", "2024-10-31"),
}
AROUND = [(zone, utc(day) - dt.timedelta(days=2), utc(day) + dt.timedelta(days=2)) for zone, days in JUMPS.items() for day in days]
IDS = [f"{zone} {start:%m-%d}" for zone, start, _ in AROUND]


def expected(schedule: str, zone: str, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    """What each time of the wall clock that a schedule names stands for, by looking at every minute that there was."""
    place = ZoneInfo(zone)
    shown: dict[dt.datetime, list[dt.datetime]] = {}
    moment = start - dt.timedelta(days=1)
    while moment < end + dt.timedelta(days=1):
        shown.setdefault(moment.astimezone(place).replace(tzinfo=None, fold=0), []).append(moment)
        moment += MINUTE
    found, clock = set(), sorted(shown)
    every_hour = schedule.split()[1] == "*"
    for wanted in itertools.takewhile(lambda wanted: wanted <= clock[-1], CronSim(schedule, clock[0])):
        if wanted in shown:
            found.update(shown[wanted] if every_hour else shown[wanted][:1])
        elif not every_hour:
            found.add(shown[next(time for time in clock if time > wanted)][0])
    return sorted(tick for tick in found if start < tick <= end)


@pytest.mark.parametrize(("zone", "start", "end"), AROUND, ids=IDS)
@pytest.mark.parametrize(
    "schedule",
    [
        "30 2 * * *",
        "30 1 * * *",
        "0 0 * * *",
        "15,45 0,1,2,23 * * *",
        "*/20 2 * * *",
        "0 */6 * * *",
        "0 9 * * 1-5",
        "0 * * * *",
        "45 * * * *",
        "*/7 * * * *",
    ],
)
def test_ticks_around_the_jumps_of_a_clock(schedule: str, zone: str, start: dt.datetime, end: dt.datetime) -> None:
    found = list(schedules.ticks_between(schedule, zone, start, end))

    assert found == expected(schedule, zone, start, end)
    assert len(set(found)) == len(found) > 0


@pytest.mark.parametrize(("zone", "start", "end"), AROUND, ids=IDS)
@pytest.mark.parametrize("schedule", ["30 2 * * *", "*/30 1 * * *", "45 * * * *", "0 0 * * *"])
def test_forward_and_backward_agree_from_any_moment(schedule: str, zone: str, start: dt.datetime, end: dt.datetime) -> None:
    """Wherever one stands, between ticks, on a tick, or in a repeated hour, the next and the previous one are those of the list."""
    ticks = list(schedules.ticks_between(schedule, zone, start, end))
    for earlier, later in itertools.pairwise(ticks):
        moment = earlier
        while moment < later:
            assert next_tick(schedule, zone, moment) == later
            moment += 10 * MINUTE
        assert next_tick(schedule, zone, later - dt.timedelta(microseconds=1)) == later
        assert previous_tick(schedule, zone, later) == earlier


@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_time_comes_once_a_day(zone: str) -> None:
    for schedule in ("30 2 * * *", "0 0 * * *", "45 1 * * *"):
        days = [tick.astimezone(ZoneInfo(zone)).date() for tick in schedules.ticks_between(schedule, zone, START, END)]
        assert len(days) == len(set(days)) == 366, schedule


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "tick"),
    [
        ("30 2 * * *", "America/New_York", "2024-03-10 00:00", "2024-03-10 03:00-04:00"),  # a gap: 2:00 is 3:00
        ("*/15 2 * * *", "America/New_York", "2024-03-10 00:00", "2024-03-10 03:00-04:00"),
        ("30 1 * * *", "America/New_York", "2024-11-03 00:00", "2024-11-03 01:30-04:00"),  # a repeat: the first 1:30
        ("30 1 * * *", "America/New_York", "2024-11-03 06:10", "2024-11-04 01:30-05:00"),  # in the second 1:00 hour
        ("15 2 * * *", "Australia/Lord_Howe", "2024-10-05 12:00", "2024-10-06 02:30+11:00"),  # a gap of half an hour
        ("45 1 * * *", "Australia/Lord_Howe", "2024-04-06 12:00", "2024-04-07 01:45+11:00"),
        ("0 0 * * *", "Africa/Cairo", "2024-04-25 12:00", "2024-04-26 01:00+03:00"),  # a gap at midnight
        ("30 23 * * *", "Africa/Cairo", "2024-10-31 12:00", "2024-10-31 23:30+03:00"),
        ("30 23 * * *", "Africa/Cairo", "2024-10-31 21:00", "2024-11-01 23:30+02:00"),  # in the second 23:00 hour
        ("@daily", "UTC", "2024-02-28 00:00", "2024-02-29 00:00+00:00"),
        ("0 12 L * *", "UTC", "2024-02-01 00:00", "2024-02-29 12:00+00:00"),
        ("0 12 * * MON#1", "UTC", "2024-02-01 00:00", "2024-02-05 12:00+00:00"),
    ],
)
def test_next_tick(schedule: str, zone: str, after: str, tick: str) -> None:
    assert local(next_tick(schedule, zone, utc(after)), zone) == tick


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("0 6 * * MON-FRI", "At 06:00 on Monday through Friday"),
        ("@daily", "At 00:00 every day"),
        ("@Hourly", "At the start of every hour"),
        ("0 0 L jan *", "At 00:00 on the last day of January"),
        ("0 12 * * mon#1", "At 12:00 on the first Monday of the month"),
        ("0 12 * * 5L", "At 12:00 on the last Friday of the month"),
    ],
)
def test_in_words(schedule: str, words: str) -> None:
    assert (schedules.schedule_fault(schedule), schedules.in_words(schedule)) == ("", words)


@pytest.mark.parametrize(
    ("schedule", "accepted"),
    [
        ("60 * * * *", "minute cannot be read: it takes 0-59"),
        ("0 24 * * *", "hour cannot be read: it takes 0-23"),
        ("0 0 30 2 *", "day of month cannot be read: it takes 1-31"),
        ("0 0 * DEZ *", "month cannot be read: it takes 1-12 or JAN-DEC"),
        ("0 0 * * 8", "day of week cannot be read: it takes 0-7 or SUN-SAT"),
        ("0 0 * * MON#6", "day of week"),
        ("*/0 * * * *", "minute"),
        ("@reboot", "@daily"),
        ("@every 5m", "five cron fields"),
        ("0 0 0 * * *", "five cron fields"),
    ],
)
def test_what_cannot_be_read_says_what_can(schedule: str, accepted: str) -> None:
    assert accepted in schedules.schedule_fault(schedule)


def test_whatever_can_be_read_can_be_said_in_words_and_looked_ahead_of() -> None:
    chance = random.Random(3)
    parts = ["*", "0", "5", "L", "LW", "MON", "JAN", "1-5", "*/2", "5-10/2", "1#2", "5L", "7", "1,3", "FRI#5", "0-7", "L/2", "LW/2", "5/3", "*,1"]
    parts += ["MON-FRI", "6-7/1", "0L", "7#1", "MON-FRI/2", "L,15", "29", "31"]
    readable = 0
    for _ in range(4000):
        schedule = " ".join(chance.choice(parts) for _ in range(5))
        if not schedules.schedule_fault(schedule):
            readable += 1
            assert schedules.in_words(schedule)
    assert readable > 100


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "note"),
    [
        ("30 2 * * *", "America/New_York", "2024-03-10 00:00", "2024-03-10: the clock skips a time of the schedule; the run is made at 03:00"),
        ("15 2 * * *", "Australia/Lord_Howe", "2024-10-05 12:00", "2024-10-06: the clock skips a time of the schedule; the run is made at 02:30"),
        ("0 0 * * *", "Africa/Cairo", "2024-04-25 12:00", "2024-04-26: the clock skips a time of the schedule; the run is made at 01:00"),
        ("30 1 * * *", "America/New_York", "2024-11-03 00:00", "2024-11-03: 01:30 comes twice; the run is made at the first of them."),
        ("45 1 * * *", "Australia/Lord_Howe", "2024-04-06 12:00", "2024-04-07: 01:45 comes twice"),
    ],
)
def test_ticks_that_a_moved_clock_makes_others_are_noted(schedule: str, zone: str, after: str, note: str) -> None:
    ticks = list(itertools.islice(schedules.ticks(schedule, zone, utc(after)), 20))
    (found,) = schedules.clock_notes(schedule, zone, ticks)
    assert found.startswith(note)
    assert list(schedules.clock_notes(schedule, zone, ticks[1:])) == []
    hourly = list(itertools.islice(schedules.ticks("30 * * * *", zone, utc(after)), 50))
    assert list(schedules.clock_notes("30 * * * *", zone, hourly)) == []


def test_every_five_minutes_goes_on_in_the_repeated_hour() -> None:
    found = list(schedules.ticks_between("*/5 * * * *", "America/New_York", utc("2024-11-03 04:00"), utc("2024-11-03 08:00")))
    assert len(found) == 48
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {dt.timedelta(minutes=5)}


def test_a_rare_schedule_and_one_that_never_comes() -> None:
    assert next_tick("0 0 29 2 *", "UTC", utc("2024-03-01")) == utc("2028-02-29")
    assert previous_tick("0 0 29 2 *", "UTC", utc("2028-02-29")) == utc("2024-02-29")


def test_the_latest_of_very_many_cost_little() -> None:
    started = time.perf_counter()
    found = schedules.latest_ticks("* * * * *", "America/New_York", utc("2004-01-01"), utc("2024-01-01"), 1000)
    assert (len(found), found[-1], found[0]) == (1000, utc("2024-01-01"), utc("2024-01-01") - 999 * MINUTE)
    assert schedules.latest_ticks("0 * * * *", "UTC", utc("2024-01-01 00:00"), utc("2024-01-01 00:59"), 10) == []
    assert time.perf_counter() - started < 2


def test_policies() -> None:
    problems: list[Problem] = []
    assert [read_overlap({"overlap_policy": value}, problems) for value in (None, "", "queue", "skip", "cancel_running")] == [
        "queue",
        "queue",
        "queue",
        "skip",
        "cancel_running",
    ]
    assert read_missed_runs({}, problems) == read_missed_runs({"catchup": False}, problems) == "latest"
    assert read_missed_runs({"catchup": True}, problems) == "all"
    assert read_missed_runs({"catchup": True, "missed_runs": "none"}, problems) == "none"
    assert problems == []
    read_overlap({"overlap_policy": "replace"}, problems)
    read_missed_runs({"missed_runs": 5, "catchup": "yes"}, problems)
    assert [problem.pointer for problem in problems] == ["/overlap_policy", "/catchup", "/missed_runs"]


@pytest.mark.parametrize(
    ("document", "sla"),
    [
        ({}, None),
        ({"sla_deadline": ""}, None),
        ({"sla_deadline": "07:30"}, SlaDeadline(dt.time(7, 30), "UTC")),
        ({"sla_deadline": "7:30", "schedule_timezone": "Africa/Cairo"}, SlaDeadline(dt.time(7, 30), "Africa/Cairo")),
        ({"sla_deadline": "07:30", "sla_timezone": "Asia/Tokyo", "schedule_timezone": "Africa/Cairo"}, SlaDeadline(dt.time(7, 30), "Asia/Tokyo")),
        ({"sla_deadline": "07:30 America/New_York", "sla_timezone": "UTC"}, SlaDeadline(dt.time(7, 30), "America/New_York")),
    ],
)
def test_deadline(document: dict[str, Any], sla: SlaDeadline | None) -> None:
    problems: list[Problem] = []
    assert (read_sla(document, problems), problems) == (sla, [])


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"sla_deadline": "24:00"}, "/sla_deadline"),
        ({"sla_deadline": "7.30"}, "/sla_deadline"),
        ({"sla_deadline": 730}, "/sla_deadline"),
        ({"sla_deadline": "07:30 Mars/Olympus"}, "/sla_deadline"),
        ({"sla_deadline": "07:30", "sla_timezone": "Mars/Olympus"}, "/sla_timezone"),
        ({"sla_timezone": 5}, "/sla_timezone"),
    ],
)
def test_deadline_that_cannot_be_read(document: dict[str, Any], pointer: str) -> None:
    problems: list[Problem] = []
    assert read_sla(document, problems) is None
    assert [problem.pointer for problem in problems] == [pointer]


@pytest.mark.parametrize("zone", ZONES)
def test_one_deadline_a_day_for_a_year(zone: str) -> None:
    for time_of_day in (dt.time(0, 0), dt.time(1, 45), dt.time(2, 15)):
        sla, moment, days = SlaDeadline(time_of_day, zone), START, []
        while (moment := next_deadline(sla, moment)) < END:
            days.append(moment.astimezone(ZoneInfo(zone)).date())
        assert len(days) == len(set(days)) in (365, 366)
        assert deadline_on(sla, days[0]) == next_deadline(sla, deadline_on(sla, days[0]) - MINUTE)
