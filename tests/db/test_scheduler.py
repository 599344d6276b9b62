"""Runs that the clock makes: one a tick, through saves, restarts, steps of the clock, policies, and a year in zones whose clocks jump."""

import datetime as dt
import itertools
import random
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.db import DataError, InterfaceError

from pipelines import definitions, schedules
from pipelines.models import Pipeline, PipelineVersion
from runs import chores, scheduler, sla, triggers
from runs.artifacts import ArtifactStore
from runs.delivery import Postman
from runs.models import LogEntry, Run, ScheduleState
from runs.states import RunStatus, Trigger
from tests.factories import end_run, save_pipeline
from tests.plans import analyse, only_indexed

pytestmark = pytest.mark.django_db

MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def at(moment: dt.datetime | str) -> Callable[[], dt.datetime]:
    found = utc(moment) if isinstance(moment, str) else moment
    return lambda: found


def scheduled(name: str, schedule: str = "0 6 * * *", now: str = "2024-01-15 00:00", **keys: Any) -> Pipeline:
    """A pipeline whose schedule was saved at that time."""
    pipeline = save_pipeline(name, schedule=schedule, **keys)
    state = ScheduleState.objects.filter(pipeline=pipeline).first()
    if state and state.next_tick_at:
        ScheduleState.objects.filter(pipeline=pipeline).update(next_tick_at=schedules.next_tick(schedule, state.zone, utc(now)))
    return pipeline


def state_of(pipeline: Pipeline) -> ScheduleState:
    return ScheduleState.objects.get(pipeline=pipeline)


def ticks_made(pipeline: Pipeline) -> list[dt.datetime]:
    found = Run.objects.filter(pipeline=pipeline, trigger=Trigger.SCHEDULE).order_by("id").values_list("interval_end", flat=True)
    return [tick for tick in found if tick is not None]


def test_a_tick_makes_one_run_for_the_interval_before_it() -> None:
    pipeline = scheduled("Daily", schedule_timezone="America/New_York")
    assert scheduler.look(at("2024-01-15 10:59:59")) == []
    (run,) = scheduler.look(at("2024-01-15 11:00:00.5"))
    assert scheduler.look(at("2024-01-15 11:00:01")) == []
    assert (run.pipeline_id, run.trigger, run.status) == (pipeline.id, "schedule", "pending")
    assert (run.interval_start, run.interval_end, run.logical_date) == (utc("2024-01-14 11:00"), utc("2024-01-15 11:00"), dt.date(2024, 1, 14))
    state = state_of(pipeline)
    assert (state.last_tick_at, state.next_tick_at) == (utc("2024-01-15 11:00"), utc("2024-01-16 11:00"))


def test_saves_keep_the_state_in_step() -> None:
    pipeline = save_pipeline("Daily", schedule="0 6 * * *")
    first = state_of(pipeline).next_tick_at
    assert first is not None and first > dt.datetime.now(dt.UTC)  # a first save never fires for the past

    due = dt.datetime.now(dt.UTC) - MINUTE
    ScheduleState.objects.update(next_tick_at=due)
    definitions.patch(pipeline.id, {"description": "the same schedule"})
    assert state_of(pipeline).next_tick_at == due  # a tick that is due is not lost by a save
    definitions.patch(pipeline.id, {"schedule": "30 6 * * *"})
    found = state_of(pipeline).next_tick_at
    assert found is not None and (found.minute, found > dt.datetime.now(dt.UTC)) == (30, True)
    definitions.patch(pipeline.id, {"enabled": False})
    assert state_of(pipeline).next_tick_at is None
    definitions.patch(pipeline.id, {"enabled": True})
    assert state_of(pipeline).next_tick_at == found
    definitions.patch(pipeline.id, {"schedule": ""})
    assert (state_of(pipeline).next_tick_at, state_of(pipeline).schedule) == (None, "")


def test_pipelines_without_a_schedule_have_no_state() -> None:
    definitions.patch(save_pipeline("Plain").id, {"description": "x"})
    save_pipeline("Disabled", schedule="0 6 * * *", enabled=False)
    assert not ScheduleState.objects.exists()


@pytest.mark.parametrize("change", [{"enabled": False}, {"deleted_at": utc("2024-01-15 01:00")}])
def test_what_is_disabled_or_deleted_makes_nothing(change: dict[str, Any]) -> None:
    pipeline = scheduled("Daily")
    Pipeline.objects.filter(id=pipeline.id).update(**change)
    assert scheduler.look(at("2024-01-15 06:00")) == []
    assert state_of(pipeline).next_tick_at is None
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("missed", "now", "ticks"),
    [
        ("latest", "2024-01-15 09:30", ["09:00"]),
        ("latest", "2024-01-15 06:00:30", ["06:00"]),
        ("all", "2024-01-15 09:30", ["06:00", "07:00", "08:00", "09:00"]),
        ("none", "2024-01-15 09:30", []),
        ("none", "2024-01-15 09:00:59", ["09:00"]),
        ("none", "2024-01-15 09:01:01", []),
    ],
)
def test_missed_ticks(missed: str, now: str, ticks: list[str]) -> None:
    pipeline = scheduled("Hourly", "0 * * * *", "2024-01-15 05:30", missed_runs=missed)
    scheduler.look(at(now))
    assert [f"{tick:%H:%M}" for tick in ticks_made(pipeline)] == ticks
    following = state_of(pipeline).next_tick_at
    assert following is not None and following == schedules.next_tick("0 * * * *", "UTC", utc(now))
    assert scheduler.look(at(now)) == []


def test_all_missed_ticks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MOST_MADE_UP", 10)
    pipeline = scheduled("Minutely", "* * * * *", "2024-01-01 00:00", catchup=True)
    scheduler.look(at("2024-06-01 00:00"))
    assert ticks_made(pipeline) == [utc("2024-06-01 00:00") - MINUTE * number for number in range(9, -1, -1)]


def test_one_that_cannot_run_stalls_nobody_and_goes_on() -> None:
    bad, needy = scheduled("Bad", nodes=[]), scheduled("Needy", parameters={"region": {"type": "string", "required": True}})
    save_pipeline("Gate")
    gated, good = scheduled("Gated", depends_on=["gate"]), scheduled("Good")
    (run,) = scheduler.look(at("2024-01-15 06:00"))
    assert run.pipeline_id == good.id
    for pipeline in (bad, needy, gated):
        state = state_of(pipeline)
        assert (state.last_tick_at, state.next_tick_at) == (utc("2024-01-15 06:00"), utc("2024-01-16 06:00"))


def test_a_bug_stalls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = scheduled("Bad"), scheduled("Good")
    run = triggers.run

    def broken(pipeline: Pipeline, **arguments: Any) -> Run:
        return run(pipeline, **arguments) if pipeline.id == good.id else 1 / 0  # type: ignore[return-value]

    monkeypatch.setattr(triggers, "run", broken)
    assert [made.pipeline_id for made in scheduler.look(at("2024-01-15 06:00"))] == [good.id]
    assert state_of(bad).next_tick_at == utc("2024-01-16 06:00")


def test_what_the_database_refuses_of_one_stalls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = scheduled("Bad"), scheduled("Good")
    run = triggers.run

    def refused(pipeline: Pipeline, **arguments: Any) -> Run:
        if pipeline.id == bad.id:
            raise DataError("refused")
        return run(pipeline, **arguments)

    monkeypatch.setattr(triggers, "run", refused)
    assert [made.pipeline_id for made in scheduler.look(at("2024-01-15 06:00"))] == [good.id]
    assert state_of(bad).next_tick_at == utc("2024-01-16 06:00")


def test_a_database_that_is_away_costs_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    daily = scheduled("Daily")

    def away(*arguments: Any, **keys: Any) -> Run:
        raise InterfaceError("connection already closed")

    with monkeypatch.context() as patched, pytest.raises(InterfaceError):
        patched.setattr(triggers, "run", away)
        scheduler.look(at("2024-01-15 06:00"))
    assert [made.pipeline_id for made in scheduler.look(at("2024-01-15 06:00"))] == [daily.id]


def test_a_look_that_makes_up_for_much_ends_soon_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other chores of the worker wait meanwhile."""
    monkeypatch.setattr(scheduler, "MOST_MADE_UP", 5)
    pipelines = [scheduled(name, "* * * * *", "2024-01-01 00:00", catchup=True) for name in ("A", "B")]
    now, seconds = at("2024-06-01 00:00"), itertools.count()
    monkeypatch.setattr(scheduler, "monotonic", lambda: float(next(seconds)))
    looks = 0
    while scheduler.look(now, seconds=3):
        looks += 1
    assert looks > 2
    for pipeline in pipelines:
        assert ticks_made(pipeline) == [utc("2024-06-01 00:00") - MINUTE * number for number in range(4, -1, -1)]


def test_overlap_queue_and_skip() -> None:
    queueing, skipping = scheduled("Queue"), scheduled("Skip", overlap_policy="skip")
    triggers.run(skipping)  # by hand: no overlap of the schedule with itself
    scheduler.look(at("2024-01-15 06:00"))
    scheduler.look(at("2024-01-16 06:00"))
    assert (len(ticks_made(queueing)), len(ticks_made(skipping))) == (2, 1)
    active = Run.objects.get(pipeline=skipping, trigger="schedule")
    assert LogEntry.objects.filter(
        run=active, message="The schedule made no run for 2024-01-16T06:00:00.000Z: this one is still active (overlap_policy: skip)"
    ).exists()
    end_run(active, RunStatus.FAILED)
    scheduler.look(at("2024-01-17 06:00"))
    assert ticks_made(skipping) == [utc("2024-01-15 06:00"), utc("2024-01-17 06:00")]


def test_overlap_cancels_what_the_schedule_made() -> None:
    pipeline = scheduled("Cancel", overlap_policy="cancel_running")
    by_hand = triggers.run(pipeline)
    (first,) = scheduler.look(at("2024-01-15 06:00"))
    (second,) = scheduler.look(at("2024-01-16 06:00"))
    for run in (first, second, by_hand):
        run.refresh_from_db()
    assert (first.status, second.status, by_hand.status) == ("cancelled", "pending", "pending")


def test_schedules_of_before_are_found() -> None:
    pipeline = save_pipeline("Old", schedule="0 6 * * *")
    ScheduleState.objects.all().delete()
    assert scheduler.catch_up_with_saves(at("2024-01-15 00:00")) == 1
    assert scheduler.catch_up_with_saves() == 0
    assert state_of(pipeline).next_tick_at == utc("2024-01-15 06:00")


def test_a_schedule_of_before_that_cannot_be_read_keeps_no_other_waiting() -> None:
    bad, good = save_pipeline("Bad", schedule="0 6 * * *"), save_pipeline("Good", schedule="0 6 * * *")
    ScheduleState.objects.all().delete()
    Pipeline.objects.filter(id=bad.id).update(schedule="0 6 * *")
    scheduler.catch_up_with_saves(at("2024-01-15 00:00"))
    assert state_of(good).next_tick_at == utc("2024-01-15 06:00")


def test_the_command_does_the_same_once(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = scheduled("Hourly", "0 * * * *")
    call_command("enqueue_due_runs")
    (run,) = Run.objects.filter(pipeline=pipeline)
    assert capsys.readouterr().out.splitlines()[1:] == ["1 run was made."]
    call_command("enqueue_due_runs")
    assert capsys.readouterr().out == "0 runs were made.\n"
    assert run.interval_end is not None and run.interval_end.minute == 0


def test_the_command_says_nothing_to_cron(capsys: pytest.CaptureFixture[str]) -> None:
    scheduled("Hourly", "0 * * * *")
    call_command("enqueue_due_runs", verbosity=0)
    assert (Run.objects.count(), *capsys.readouterr()) == (1, "", "")


def test_the_command_deals_with_all_that_is_due(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker looks again in a second; cron only in a minute."""
    monkeypatch.setattr(scheduler, "_AT_ONCE", 2)
    for number in range(5):
        scheduled(f"P{number}", "0 * * * *")
    call_command("enqueue_due_runs")
    assert capsys.readouterr().out.splitlines()[-1] == "5 runs were made."


def test_the_command_ends_when_others_deal_with_what_is_due(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scheduled("P", "0 * * * *")
    monkeypatch.setattr(scheduler, "look", lambda **_: [])
    call_command("enqueue_due_runs")
    assert capsys.readouterr().out == "0 runs were made.\n"


def test_a_worker_leaves_the_clock_to_cron_where_that_is_said(settings: Any) -> None:
    of_clock = {"make due runs", "catch up with saves", "look at deadlines", "purge old runs"}
    found = {}
    for settings.SCHEDULER in ("workers", "cron"):
        found[settings.SCHEDULER] = {chore.name for chore in chores.of_worker(ArtifactStore(settings.ARTIFACTS), Postman())}
    assert found["workers"] - found["cron"] == of_clock
    assert found["cron"] < found["workers"]


def test_a_clock_that_steps_an_hour_makes_nothing_twice() -> None:
    pipeline = scheduled("Often", "*/15 * * * *", missed_runs="all")
    for now in ("2024-01-15 00:15", "2024-01-15 01:15", "2024-01-15 00:16", "2024-01-15 00:45", "2024-01-15 01:15", "2024-01-15 01:30"):
        scheduler.look(at(now))
    made = ticks_made(pipeline)
    assert made == [utc("2024-01-15 00:15") + MINUTE * 15 * number for number in range(6)]


def insert_run(pipeline: Pipeline, **made_for: Any) -> Run:
    """A run without its nodes and entries: a thousand of them take a moment."""
    version = PipelineVersion.objects.only("id").get(pipeline=pipeline)
    return Run.objects.create(pipeline=pipeline, version=version, created_at=dt.datetime.now(dt.UTC), **made_for)


@pytest.mark.slow
def test_a_year_of_two_schedulers_in_zones_whose_clocks_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looks three times a day; their clocks differ, step an hour here or there, and now and then nobody looks for days."""
    plan = {"America/New_York": "30 2 * * *", "Australia/Lord_Howe": "15 2 * * *", "Africa/Cairo": "0 0 * * *"}
    start, end = utc("2024-01-01 00:00"), utc("2025-01-01 00:00")
    pipelines = {
        (zone, schedule): scheduled(f"P{place}", schedule, "2024-01-01 00:00", schedule_timezone=zone, missed_runs="all")
        for place, (zone, schedule) in enumerate(plan.items())
    }
    monkeypatch.setattr(triggers, "run", insert_run)
    chance = random.Random(1)
    now = start
    while now < end:
        for _ in range(2):
            scheduler.look(at(now + chance.choice([0, 0, 1, -1]) * HOUR))
        now += HOUR * chance.choice([5, 8, 11] if chance.random() > 0.01 else [72])
    scheduler.look(at(end))
    for (zone, schedule), pipeline in pipelines.items():
        made = ticks_made(pipeline)
        assert [tick for tick in made if tick <= end] == list(schedules.ticks_between(schedule, zone, start, end)), (zone, schedule)
        days = [tick.astimezone(ZoneInfo(zone)).date() for tick in made]
        assert len(days) == len(set(days))
        intervals = list(Run.objects.filter(pipeline=pipeline).order_by("id").values_list("interval_start", "interval_end"))
        assert all(earlier[1] == later[0] for earlier, later in itertools.pairwise(intervals))


def test_a_look_at_the_clock_reads_what_is_due() -> None:
    now = dt.datetime.now(dt.UTC)
    pipelines = Pipeline.objects.bulk_create(Pipeline(pipeline_id=f"p{n}", name="P", created_at=now, updated_at=now) for n in range(2000))
    later = (now + HOUR * n for n in range(1, 2001))
    ScheduleState.objects.bulk_create(ScheduleState(pipeline=p, next_tick_at=at, next_deadline_at=at) for p, at in zip(pipelines, later, strict=True))
    analyse()
    with only_indexed("runs_schedulestate", may_sort=10) as captured:
        scheduler.look()
        sla.look()
    assert len(captured) == 2
