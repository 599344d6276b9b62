"""`GET /api/dashboard`."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pipelines.models import Pipeline
from runs.models import Run
from runs.states import RunStatus
from tests.factories import save_pipeline
from tests.history import past_pipeline, saved_run
from tests.people import signed_in

pytestmark = pytest.mark.django_db

DAY = dt.timedelta(days=1)


def look(api: Client) -> dict[str, Any]:
    response = api.get("/api/dashboard")
    assert response.status_code == 200, response.content
    return dict(response.json())


def test_an_empty_installation(api: Client) -> None:
    found = look(api)
    assert {"pipelines", "recent_runs", "trends", "top_failing"} <= found.keys()
    assert (found["pipelines"], found["recent_runs"], found["top_failing"]) == ([], [], [])
    today = timezone.now().date()
    assert [entry["date"] for entry in found["trends"]] == [(today - DAY * before).isoformat() for before in range(6, -1, -1)]
    assert {key: value for key, value in found["trends"][0].items() if key != "date"} == dict.fromkeys(
        ("success", "failed", "cancelled", "running", "pending", "total"), 0
    )
    assert (found["success_rate_24h"], found["runs_24h_total"], found["runs_running"], found["runs_pending"]) == (None, 0, 0, 0)


def test_a_pipeline_is_shown_as_the_listing_shows_it_and_with_its_last_run(api: Client) -> None:
    pipeline = save_pipeline("Überblick", pipeline_id="overview", tags=["a", 'b"c'], description="Who?", schedule="0 6 * * *")
    never = save_pipeline("never")
    Pipeline.objects.filter(id=pipeline.id).update(created_at=dt.datetime(2024, 1, 15, 6, tzinfo=dt.UTC))  # without a fraction
    saved_run(pipeline, RunStatus.SUCCESS, at=timezone.now() - 2 * DAY)
    last = saved_run(pipeline, RunStatus.FAILED, at=timezone.now() - DAY, error="x" * 5000)
    shown, other = sorted(look(api)["pipelines"], key=lambda one: str(one["name"]), reverse=True)
    listed = {one["id"]: one for one in api.get("/api/pipelines").json()}
    assert {key: value for key, value in shown.items() if not key.startswith("last_run")} == listed[str(pipeline.id)]
    run = api.get(f"/api/runs/{last.id}").json()
    assert (shown["last_run_id"], shown["last_run_status"], shown["last_run_at"]) == (run["id"], "failed", run["started_at"])
    assert (shown["last_run_finished_at"], shown["last_run_error"]) == (run["finished_at"], "x" * 300)
    assert other["id"] == str(never.id)
    assert {key: value for key, value in other.items() if key.startswith("last_run")} == {
        "last_run_id": None,
        "last_run_status": None,
        "last_run_at": None,
        "last_run_finished_at": None,
        "last_run_error": "",
    }


def test_recent_runs_are_those_of_the_listing(api: Client) -> None:
    pipeline = past_pipeline()
    for minute in range(25):
        saved_run(pipeline, RunStatus.SUCCESS, at=timezone.now() - dt.timedelta(minutes=minute))
    recent, listed = look(api)["recent_runs"], api.get("/api/runs").json()
    assert len(recent) == 20
    assert [{key: value for key, value in run.items() if key != "run_id"} for run in recent] == listed[:20]
    assert all(run["run_id"] == run["id"] for run in recent)


def test_counts_of_now_and_of_the_last_24_hours(api: Client) -> None:
    pipeline, now = past_pipeline(), timezone.now()
    ages = {
        RunStatus.SUCCESS: (1, 2, 3, 25),
        RunStatus.FAILED: (4, 26),
        RunStatus.CANCELLED: (5,),
        RunStatus.RUNNING: (6, 80),
        RunStatus.PENDING: (7,),
    }
    for status, hours in ages.items():
        for hour in hours:
            saved_run(pipeline, status, at=now - dt.timedelta(hours=hour))
    found = look(api)
    assert [found[f"runs_24h_{name}"] for name in ("total", "success", "failed", "cancelled")] == [7, 3, 1, 1]
    assert (found["success_rate_24h"], found["runs_running"], found["runs_pending"]) == (75, 2, 1)
    assert found["running_run_ids"] == [str(key) for key in Run.objects.filter(status="running").order_by("-id").values_list("id", flat=True)]
    by_date = {entry["date"]: entry["total"] for entry in found["trends"]}
    assert (found["runs_today"], found["runs_yesterday"]) == tuple(by_date[(now - DAY * before).date().isoformat()] for before in (0, 1))
    assert sum(by_date.values()) == 10


def test_what_fails_most_of_the_last_seven_days(api: Client) -> None:
    now = timezone.now()
    for number in range(7):
        pipeline = past_pipeline(f"p{number}", f"P{number}")
        for _ in range(number):
            saved_run(pipeline, RunStatus.FAILED, at=now)
        saved_run(pipeline, RunStatus.FAILED, at=now - 8 * DAY)
        saved_run(pipeline, RunStatus.SUCCESS, at=now)
    Pipeline.objects.filter(name="P6").update(deleted_at=now)
    found = look(api)
    assert [(one["name"], one["fail_count"]) for one in found["top_failing"]] == [("P5", 5), ("P4", 4), ("P3", 3), ("P2", 2), ("P1", 1)]
    assert found["top_failing"][0].keys() == {"pipeline_id", "name", "fail_count"}
    assert "P6" not in {one["name"] for one in found["pipelines"]}
    assert (found["pipelines_total"], found["trends"][-1]["failed"]) == (6, 21)  # its runs are history


def test_as_many_queries_however_much_there_is(api: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            look(api)
        return len(captured)

    counts = []
    for size in (1, 12, 40):
        for number in range(size):
            pipeline = past_pipeline(f"p{size}-{number}")
            for days in range(3):
                saved_run(pipeline, RunStatus.FAILED, at=timezone.now() - DAY * days)
        counts.append(queries())
    assert counts[0] == counts[1] == counts[2] <= 12


def test_who_may_see_what(api: Client) -> None:
    saved_run(save_pipeline("plans"), RunStatus.SUCCESS, at=timezone.now())
    assert api.get("/api/dashboard?days=3").json()["errors"][0]["parameter"] == "days"
    assert signed_in("pipelines.view").get("/api/dashboard").status_code == 403
    assert Client(headers={"host": "localhost"}).get("/api/dashboard").status_code == 401
    found = look(signed_in("runs.view"))
    assert (found["pipelines"], len(found["recent_runs"])) == ([], 1)
    assert len(look(signed_in("runs.view", "pipelines.view"))["pipelines"]) == 1
