"""Schedulers that look at the clock at the same moment, and saves that meet them: one run a tick."""

import datetime as dt
from functools import partial

import pytest

from pipelines import definitions
from runs import scheduler, sla
from runs.models import LogEntry, Notification, Run, ScheduleState, SlaMiss
from tests.db.test_scheduler import at, scheduled, ticks_made, utc
from tests.factories import save_pipeline
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_eight_schedulers_make_each_tick_once() -> None:
    hourly, latest = scheduled("Hourly", "0 * * * *", "2024-01-15 00:30", missed_runs="all"), scheduled("Latest", "0 * * * *", "2024-01-15 00:30")
    made = 0
    for hour in (1, 2, 4):
        now = utc(f"2024-01-15 {hour:02d}:00")
        # Their clocks differ by up to an hour.
        results = at_once(*(partial(scheduler.look, at(now + dt.timedelta(minutes=10 * number - 20))) for number in range(8)))
        assert not [result for result in results if isinstance(result, Exception)], results
        before, made = made, Run.objects.count()
        assert sum(len(result) for result in results) == made - before
    scheduler.look(at("2024-01-15 04:50"))  # who lost one tick to another looks again in a second
    assert ticks_made(hourly) == sorted(set(ticks_made(hourly))) == [utc(f"2024-01-15 {hour:02d}:00") for hour in (1, 2, 3, 4)]
    assert len(ticks_made(latest)) == len(set(ticks_made(latest)))


def test_a_guard_that_missed_is_caught_by_the_index() -> None:
    """A tick that has its run already (a state restored from a backup) makes no second one, and the schedule goes on."""
    pipeline = scheduled("Daily")
    scheduler.look(at("2024-01-15 06:00"))
    ScheduleState.objects.update(next_tick_at=utc("2024-01-15 06:00"))
    assert scheduler.look(at("2024-01-15 06:00")) == []
    assert len(ticks_made(pipeline)) == 1
    assert ScheduleState.objects.get().next_tick_at == utc("2024-01-16 06:00")


def test_saves_and_schedulers_at_once() -> None:
    """Neither waits for the other in a circle; a pipeline that was disabled first makes nothing."""
    for number in range(5):
        pipeline = scheduled(f"P{number}", "0 * * * *", "2024-01-15 00:30")
        looks = [partial(scheduler.look, at("2024-01-15 01:00"))] * 3
        results = at_once(*looks, partial(definitions.patch, pipeline.id, {"enabled": False}), *looks)
        assert not [result for result in results if isinstance(result, Exception)], results
        assert len(ticks_made(pipeline)) <= 1
        assert ScheduleState.objects.get(pipeline=pipeline).next_tick_at is None


def test_eight_workers_note_a_missed_deadline_once() -> None:
    save_pipeline("Late", sla_deadline="07:00", hooks={"on_sla_miss": "https://hooks.example/late"})
    ScheduleState.objects.update(next_deadline_at=utc("2024-01-15 07:00"))
    results = at_once(*([partial(sla.look, at("2024-01-15 07:00:01"))] * 8))
    assert sorted(results) == [0] * 7 + [1]
    assert SlaMiss.objects.count() == 1
    assert Notification.objects.filter(event="on_sla_miss").count() == 1


def test_a_tick_that_makes_no_run_is_dealt_with_once_too() -> None:
    """No index stands behind this one: the guarded UPDATE alone decides who tells of it."""
    scheduled("Skip", overlap_policy="skip")
    (active,) = scheduler.look(at("2024-01-15 06:00"))
    results = at_once(*([partial(scheduler.look, at("2024-01-16 06:00"))] * 8))
    assert results == [[]] * 8
    assert LogEntry.objects.filter(run=active, kind="log").count() == 1
