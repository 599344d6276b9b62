"""Deadlines: who succeeded in time, what is noted of who did not, and that it is noted once."""

import datetime as dt
import itertools
from typing import Any

import pytest
from django.db import DataError
from django.utils import timezone

from pipelines import definitions
from pipelines.models import Pipeline
from runs import notifications, sla, triggers
from runs.models import Notification, Run, ScheduleState, SlaMiss
from runs.states import RunStatus, Trigger
from tests.db.test_scheduler import at, utc
from tests.factories import end_run, save_pipeline

pytestmark = pytest.mark.django_db

DEADLINE, SOON_AFTER = "2024-01-15 12:00", "2024-01-15 12:00:03"  # 07:00 in New York


@pytest.fixture
def pipeline() -> Pipeline:
    return due("Orders")


def due(name: str, deadline: str = DEADLINE, **keys: Any) -> Pipeline:
    hooks = {"on_failure": "https://hooks.example/failed"}
    found = save_pipeline(name, **({"sla_deadline": "07:00 America/New_York", "hooks": hooks} | keys))
    ScheduleState.objects.filter(pipeline=found).update(next_deadline_at=utc(deadline))
    return found


def make_run(pipeline: Pipeline, created: str, finished: str = "", status: RunStatus | None = RunStatus.SUCCESS, **made_for: Any) -> Run:
    run = triggers.run(pipeline, **made_for)
    if status:
        end_run(run, status)
    times = {"created_at": utc(created)} | ({"finished_at": utc(finished)} if finished else {})
    Run.objects.filter(id=run.id).update(**times)
    return run


def noted() -> list[tuple[dt.date, str]]:
    return list(SlaMiss.objects.order_by("date").values_list("date", "state"))


TODAY = dt.date(2024, 1, 15)


def test_no_run_at_all(pipeline: Pipeline) -> None:
    assert sla.look(at("2024-01-15 11:59:59")) == 0
    assert sla.look(at(SOON_AFTER)) == 1
    assert sla.look(at(SOON_AFTER)) == 0
    assert noted() == [(TODAY, "not_started")]
    (told,) = Notification.objects.all()
    assert (told.event, told.pipeline_id, told.run_id) == ("on_sla_miss", pipeline.id, None)
    assert told.payload["sla"] == {"date": "2024-01-15", "deadline": "2024-01-15T12:00:00.000Z", "state": "not_started"}
    assert ScheduleState.objects.get().next_deadline_at == utc("2024-01-16 12:00")


@pytest.mark.parametrize(
    ("created", "finished", "status", "keys", "state"),
    [
        ("2024-01-15 06:00", "2024-01-15 06:30", RunStatus.SUCCESS, {}, None),
        ("2024-01-15 04:00", "2024-01-15 05:01", RunStatus.SUCCESS, {}, None),  # ended on the day, by the deadline's clock
        ("2024-01-15 04:00", "2024-01-15 04:59", RunStatus.SUCCESS, {}, "not_started"),  # yesterday
        ("2024-01-15 11:00", "2024-01-15 12:00:01", RunStatus.SUCCESS, {}, "running"),  # too late
        ("2024-01-15 11:00", "2024-01-15 11:10", RunStatus.FAILED, {}, "failed"),
        ("2024-01-15 11:00", "2024-01-15 11:10", RunStatus.CANCELLED, {}, "failed"),
        ("2024-01-15 11:00", "", None, {}, "waiting"),
        (
            "2024-01-15 06:00",
            "2024-01-15 06:30",
            RunStatus.SUCCESS,
            {"trigger": Trigger.BACKFILL, "logical_date": dt.date(2023, 5, 1)},
            "not_started",
        ),
        ("2024-01-15 03:00", "2024-01-15 03:30", RunStatus.SUCCESS, {"trigger": Trigger.BACKFILL, "logical_date": TODAY}, None),
        ("2024-01-15 12:00:01", "2024-01-15 12:00:02", RunStatus.SUCCESS, {}, "not_started"),
    ],
)
def test_what_counts(pipeline: Pipeline, created: str, finished: str, status: RunStatus | None, keys: dict[str, Any], state: str | None) -> None:
    run = make_run(pipeline, created, finished, status, **keys)
    sla.look(at(SOON_AFTER))
    assert noted() == ([(TODAY, state)] if state else [])
    assert [told.run_id for told in Notification.objects.filter(event="on_sla_miss")] == (
        [] if state is None else [None] if state == "not_started" else [run.id]
    )


def test_the_run_of_the_last_tick_counts_whenever_it_ended() -> None:
    night = due("Night", schedule="0 23 * * *", schedule_timezone="America/New_York")
    tick = utc("2024-01-15 04:00")
    make_run(night, "2024-01-15 04:00", "2024-01-15 04:20", trigger=Trigger.SCHEDULE, interval_end=tick, interval_start=tick - dt.timedelta(days=1))
    assert sla.look(at(SOON_AFTER)) == 0


def test_after_days_without_workers_one_is_told() -> None:
    due("Orders", "2024-01-10 12:00")
    assert sla.look(at("2024-01-15 14:00")) == 1
    assert noted() == [(TODAY, "not_started")]
    assert ScheduleState.objects.get().next_deadline_at == utc("2024-01-16 12:00")


def test_the_disabled_the_deleted_and_those_without_a_deadline_any_more() -> None:
    disabled, gone = due("Disabled"), due("Gone")
    definitions.patch(due("Without").id, {"sla_deadline": None})
    Pipeline.objects.filter(id=disabled.id).update(enabled=False)
    Pipeline.objects.filter(id=gone.id).update(deleted_at=timezone.now())
    assert sla.look(at(SOON_AFTER)) == 0
    assert not ScheduleState.objects.filter(next_deadline_at__isnull=False).exists()


def test_a_save_keeps_a_deadline_that_has_come() -> None:
    orders = save_pipeline("Orders", sla_deadline="07:00")
    passed = timezone.now().replace(hour=7, minute=0, second=0, microsecond=0)
    passed = passed if passed <= timezone.now() else passed - dt.timedelta(days=1)
    ScheduleState.objects.update(next_deadline_at=passed)
    definitions.patch(orders.id, {"description": "x"})
    assert ScheduleState.objects.get().next_deadline_at == passed
    definitions.patch(orders.id, {"sla_deadline": "07:01"})
    found = ScheduleState.objects.get().next_deadline_at
    assert found is not None and found > timezone.now()


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])
def test_one_alert_a_day_through_the_jumps_of_the_clock(zone: str) -> None:
    due("Orders", "2024-01-01 00:00", sla_deadline=f"02:15 {zone}", hooks={})
    now = utc("2024-03-01")
    sla.look(at(now))
    SlaMiss.objects.all().delete()
    while now < utc("2024-04-30"):
        sla.look(at(now))
        now += dt.timedelta(hours=3)
    days = [day for day, _ in noted()]
    assert len(days) >= 59
    assert all(later - earlier == dt.timedelta(days=1) for earlier, later in itertools.pairwise(days))


def test_what_the_database_refuses_of_one_stalls_nobody(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    other = due("Other", "2024-01-15 12:00:01")
    sla_missed = notifications.sla_missed

    def refused(found: Pipeline, *arguments: Any, **keys: Any) -> None:
        if found.id == pipeline.id:
            raise DataError("refused")
        sla_missed(found, *arguments, **keys)

    monkeypatch.setattr(notifications, "sla_missed", refused)
    sla.look(at(SOON_AFTER))
    assert list(SlaMiss.objects.values_list("pipeline_id", flat=True)) == [other.id]
