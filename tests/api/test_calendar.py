"""`GET /api/runs/calendar`."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs import day_counts
from runs.states import RunStatus
from tests.factories import save_pipeline
from tests.history import past_pipeline, saved_run
from tests.people import signed_in

pytestmark = pytest.mark.django_db

DAY = dt.timedelta(days=1)


def look(api: Client, query: str = "") -> list[dict[str, Any]]:
    response = api.get(f"/api/runs/calendar{query}")
    assert response.status_code == 200, response.content
    return list(response.json())


def noon(days_ago: int) -> dt.datetime:
    return dt.datetime.combine(timezone.now().date() - DAY * days_ago, dt.time(12), dt.UTC)


def test_an_entry_a_day_with_runs_oldest_first(api: Client) -> None:
    pipeline = past_pipeline()
    assert look(api) == []
    for status in RunStatus:
        saved_run(pipeline, status, at=noon(3))
    saved_run(pipeline, RunStatus.SUCCESS, at=noon(89))
    saved_run(pipeline, RunStatus.SUCCESS, at=noon(90))
    assert look(api) == [
        {"date": noon(89).date().isoformat(), "success": 1, "failed": 0, "cancelled": 0, "running": 0, "pending": 0, "total": 1},
        {"date": noon(3).date().isoformat(), "success": 1, "failed": 1, "cancelled": 1, "running": 1, "pending": 1, "total": 5},
    ]
    assert len(look(api, "?days=91")) == 3
    assert len(look(api, "?days=89")) == 1
    assert look(api, "?days=1") == []


def test_of_one_pipeline_by_id_or_slug_a_deleted_one_too(api: Client) -> None:
    orders, users = save_pipeline("Orders"), save_pipeline("Users")
    saved_run(orders, RunStatus.SUCCESS, at=noon(2))
    saved_run(users, RunStatus.FAILED, at=noon(2))
    assert [entry["total"] for entry in look(api)] == [2]
    for key in (orders.id, "orders"):
        (entry,) = look(api, f"?pipeline_id={key}")
        assert (entry["success"], entry["failed"], entry["total"]) == (1, 0, 1)
    assert api.delete(f"/api/pipelines/{orders.id}").status_code == 204
    assert [entry["total"] for entry in look(api, f"?pipeline_id={orders.id}")] == [1]
    for unknown in ("nobody", "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"):
        assert api.get(f"/api/runs/calendar?pipeline_id={unknown}").status_code == 404


@pytest.mark.parametrize("days", ["0", "-1", "366", "1.5", "many", "", "9" * 2000, "%00", "1e2"])
def test_days_out_of_range(api: Client, days: str) -> None:
    response = api.get(f"/api/runs/calendar?days={days}")
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, "days")
    assert response.json()["errors"][0]["detail"] == "A whole number from 1 to 365."


def test_other_bad_input(api: Client) -> None:
    for query in ("day=3", "days=3&days=4", "pipeline_id=", "pipeline_id=" + "x" * 101, "pipeline_id=%00"):
        assert api.get(f"/api/runs/calendar?{query}").status_code == 400, query
    assert api.post("/api/runs/calendar").status_code == 405
    assert api.get("/api/runs/calendars").status_code == 404


def test_two_queries_however_many_days_and_runs(api: Client) -> None:
    counts = set()
    for size in (0, 3, 30):
        for number in range(size):
            saved_run(past_pipeline(f"p{size}-{number}"), RunStatus.SUCCESS, at=noon(number * 2))
        if size == 30:
            day_counts.keep()
        for days in (1, 90, 365):
            with CaptureQueriesContext(connection) as captured:
                look(api, f"?days={days}")
            counts.add(len([one for one in captured.captured_queries if "runs_" in one["sql"]]))
    assert counts == {2}


def test_it_needs_the_right_to_see_runs(api: Client) -> None:
    assert signed_in("pipelines.view", "settings.edit").get("/api/runs/calendar").status_code == 403
    assert signed_in("runs.view").get("/api/runs/calendar").status_code == 200
    assert Client(headers={"host": "localhost"}).get("/api/runs/calendar").status_code == 401


@pytest.mark.parametrize(("query", "detail"), [("page=0", "1 to 100000"), ("per_page=101", "1 to 100"), ("page=x", "1 to 100000")])
def test_listings_of_runs_say_their_ranges(api: Client, query: str, detail: str) -> None:
    response = api.get(f"/api/runs?{query}")
    assert (response.status_code, response.json()["errors"][0]["detail"]) == (400, f"A whole number from {detail}.")
