"""What is kept of days is what counting gives, at any moment."""

import datetime as dt
import random
import uuid
from pathlib import Path

import pytest
from django.utils import timezone

from pipelines.models import Pipeline
from runs import day_counts, transitions
from runs.artifacts import ArtifactStore
from runs.day_counts import DAY, by_day, keep, midnight
from runs.models import DayCount, Run
from runs.retention import purge
from runs.states import RunStatus
from system.calendar import MOST_DAYS, calendar, last_days
from tests.factories import accept_run, register_worker
from tests.history import past_pipeline, saved_run

pytestmark = pytest.mark.django_db

MICROSECOND = dt.timedelta(microseconds=1)


def at(days_ago: float, hour: float = 12) -> dt.datetime:
    return midnight(day_counts.today()) - DAY * days_ago + dt.timedelta(hours=hour)


def as_counted(pipeline_id: uuid.UUID | None = None) -> list[dict[str, int]]:
    """Of the last forty days, of the rows as they are."""
    runs = Run.objects.all() if pipeline_id is None else Run.objects.filter(pipeline_id=pipeline_id)
    found = {day: dict.fromkeys(map(str, RunStatus), 0) for day in last_days(40)}
    for status, created_at in runs.values_list("status", "created_at"):
        if created_at.date() in found:
            found[created_at.date()][status] += 1
    return list(found.values())


def true_for(*pipelines: Pipeline) -> bool:
    days = last_days(40)
    return by_day(days) == as_counted() and all(by_day(days, one.id) == as_counted(one.id) for one in pipelines)


def test_a_day_ends_at_midnight_in_utc() -> None:
    pipeline = past_pipeline()
    for moment in (at(5, 0), at(5, 0) - dt.timedelta(milliseconds=1), at(4, 0) - MICROSECOND * 1000, at(4, 0)):
        saved_run(pipeline, at=moment)
    for _ in range(2):  # counted, and kept
        assert [(entry["date"], entry["total"]) for entry in calendar(10)] == [
            (at(6).date().isoformat(), 1),
            (at(5).date().isoformat(), 2),
            (at(4).date().isoformat(), 1),
        ]
        keep()
    assert DayCount.objects.filter(pipeline=None).count() == 6 - 1  # from the first run's day to two days ago


def test_what_is_kept_is_what_counting_gives() -> None:
    chance = random.Random(7)
    pipelines = [past_pipeline(f"p{number}") for number in range(4)]
    for _ in range(150):
        status = chance.choice([RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED])
        saved_run(chance.choice(pipelines), status, at=timezone.now() - DAY * chance.uniform(0, 39))
    assert true_for(*pipelines)
    assert keep() > 30
    assert keep() == 0
    assert true_for(*pipelines)
    # Of days that are kept nothing is counted any more: what the rows say is what is shown.
    DayCount.objects.filter(pipeline=None, day=at(20).date()).update(failed=77)
    assert by_day([at(20).date()])[0]["failed"] == 77


def test_the_last_two_days_are_always_counted() -> None:
    pipeline = past_pipeline()
    for days in range(4):
        saved_run(pipeline, at=at(days, 0))
    keep()
    assert set(DayCount.objects.values_list("day", flat=True)) == {at(2).date(), at(3).date()}


def test_a_day_with_a_run_that_has_not_ended_is_not_kept() -> None:
    pipeline = past_pipeline()
    waiting = saved_run(pipeline, RunStatus.PENDING, at=at(5))
    saved_run(pipeline, at=at(6))
    keep()
    assert at(5).date() not in set(DayCount.objects.values_list("day", flat=True))
    assert by_day([at(5).date()])[0]["pending"] == 1
    lease = transitions.start_run(waiting.id, register_worker().id)
    assert lease
    (counts,) = by_day([at(5).date()])
    assert (counts["pending"], counts["running"]) == (0, 1)
    transitions.finish_run(lease, RunStatus.FAILED, "x")
    assert true_for(pipeline)
    keep()
    assert DayCount.objects.get(day=at(5).date(), pipeline=pipeline).failed == 1
    assert true_for(pipeline)


def test_a_purge_keeps_them_true(tmp_path: Path) -> None:
    store, pipelines = ArtifactStore(tmp_path), [past_pipeline(f"p{number}") for number in range(2)]
    for days in range(20, 30):
        for pipeline in pipelines:
            saved_run(pipeline, RunStatus.SUCCESS, at=at(days, 1))
    late = saved_run(pipelines[0], at=at(25, 2))
    Run.objects.filter(id=late.id).update(finished_at=timezone.now())
    keep()
    assert purge(23, store, seconds=0.001).runs < 14
    assert true_for(*pipelines)
    purge(23, store)
    assert true_for(*pipelines)
    assert by_day([at(25).date()])[0]["success"] == 1
    assert DayCount.objects.filter(day__gte=at(21).date()).exists()  # those of days that it did not touch are still there
    keep()
    assert true_for(*pipelines)


def test_a_clock_that_is_set_back_leaves_no_day_behind() -> None:
    """Days that had settled by the wrong clock have runs yet to come."""
    pipeline = past_pipeline()
    saved_run(pipeline, at=at(3))
    assert keep(timezone.now() + 5 * DAY) == 7
    accept_run(pipeline)
    assert by_day([day_counts.today()])[0]["pending"] == 1
    keep()
    assert DayCount.objects.filter(day__gt=at(2).date()).count() == 0


def test_no_more_is_kept_than_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert day_counts.KEPT_DAYS > MOST_DAYS
    monkeypatch.setattr(day_counts, "KEPT_DAYS", 30)
    pipeline = past_pipeline()
    saved_run(pipeline, at=at(1000))
    assert keep() == day_counts.KEPT_DAYS - 1
    assert keep(timezone.now() + 12 * DAY) == 12
    assert DayCount.objects.count() == day_counts.KEPT_DAYS - 1


def test_keeping_takes_no_longer_than_it_may() -> None:
    saved_run(past_pipeline(), at=at(100))
    assert keep(seconds=0) == 0
    assert not DayCount.objects.exists()
