"""What the admin shows of schedules, deadlines, backfills and notifications: each list with the same few queries, however long it is."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runs.models import Backfill, Notification, Run, ScheduleState, SlaMiss
from tests.factories import accept_run, make_pipeline

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2024, 3, 30, 6, 0, tzinfo=dt.UTC)


@pytest.fixture
def client() -> Client:
    """The local administrator, who is no row in the database."""
    return Client(headers={"host": "localhost"})


def schedule(run: Run) -> Model:
    found = ScheduleState.objects.filter(pipeline=run.pipeline).first() or ScheduleState(pipeline=run.pipeline)
    found.schedule, found.zone, found.next_tick_at, found.last_tick_at = "0 6 * * *", "Europe/Berlin", NOW, None
    found.save()
    return found


def miss(run: Run) -> Model:
    return SlaMiss.objects.create(pipeline=run.pipeline, date=NOW, deadline=NOW, state="not_started", noted_at=NOW)


def backfill(run: Run) -> Model:
    return Backfill.objects.create(pipeline=run.pipeline, start="2024-01-01", end="2024-01-02", created_at=NOW)


def notification(run: Run) -> Model:
    return Notification.objects.create(
        pipeline=run.pipeline,
        run=run,
        event="on_failure",
        kind="webhook",
        hook={"kind": "webhook", "url": "https://hooks.example.org/secret"},
        payload={},
        next_attempt_at=NOW,
        created_at=NOW,
    )


LISTS = [
    ("schedulestate", schedule, "2024-03-30 06:00:00"),
    ("slamiss", miss, "not_started"),
    ("backfill", backfill, "2024-01-02"),
    ("notification", notification, "hooks.example.org"),
]


@pytest.mark.parametrize(("model", "make", "words"), LISTS, ids=[model for model, _, _ in LISTS])
def test_a_list_asks_the_same_whatever_its_length(client: Client, model: str, make: Any, words: str) -> None:
    counts = []
    for _ in range(2):
        for _ in range(3):
            made = make(accept_run(make_pipeline()))
        with CaptureQueriesContext(connection) as captured:
            page = client.get(f"/admin/runs/{model}/").content.decode()
        assert words in page
        assert "/secret" not in page
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 9
    answer = client.get(f"/admin/runs/{model}/{made.pk}/change/")
    assert (answer.status_code, words in answer.content.decode()) == (200, True)
    assert len(client.get(f"/admin/runs/{model}/?q=nope").context["cl"].result_list) == 0


def test_the_page_of_a_run_says_what_it_is_for_and_what_made_it(client: Client) -> None:
    upstream, run = accept_run(make_pipeline()), accept_run(make_pipeline())
    made = backfill(run)
    Run.objects.filter(id=run.id).update(backfill=made.pk, upstream_run=upstream, interval_start=NOW - dt.timedelta(days=1), interval_end=NOW)
    page = client.get(f"/admin/runs/run/{run.id}/change/").content.decode()
    assert "2024-03-29 06:00:00 to 2024-03-30 06:00:00" in page
    assert f"/admin/runs/backfill/{made.pk}/change/" in page
    assert f"/admin/runs/run/{upstream.id}/change/" in page
