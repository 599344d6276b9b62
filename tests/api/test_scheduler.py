"""`GET /api/scheduler/status` and `POST /api/schedules/preview`."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from brokoli_site.common.time import iso
from pipelines import definitions, schedules
from pipelines.models import Pipeline
from runs.models import ScheduleState
from runs.states import RunStatus
from tests.factories import accept_run, save_pipeline
from tests.history import START, many_runs, saved_run
from tests.plans import analyse, only_indexed

pytestmark = pytest.mark.django_db

KEYS = ["pipeline_id", "pipeline_name", "schedule", "timezone", "next_run", "last_run", "enabled"]
MINUTE = dt.timedelta(minutes=1)


def status(api: Client) -> list[dict[str, Any]]:
    response = api.get("/api/scheduler/status")
    assert response.status_code == 200
    found: list[dict[str, Any]] = response.json()
    return found


def preview(api: Client, **body: Any) -> Any:
    return api.post("/api/schedules/preview", body, content_type="application/json")


def test_every_live_pipeline_with_a_schedule_is_there(api: Client) -> None:
    assert status(api) == []
    daily = save_pipeline("Daily", schedule="@daily", schedule_timezone="Africa/Cairo")
    soon = save_pipeline("Soon", schedule="* * * * *")
    save_pipeline("Off", schedule="0 6 * * *", enabled=False)
    save_pipeline("Manual")
    gone = save_pipeline("Gone", schedule="0 6 * * *")
    definitions.delete(gone.id)

    found = status(api)

    assert [entry["pipeline_name"] for entry in found] == ["Soon", "Daily", "Off"]
    assert all(list(entry) == KEYS for entry in found)
    assert found[1] == {
        "pipeline_id": str(daily.id),
        "pipeline_name": "Daily",
        "schedule": "@daily",
        "timezone": "Africa/Cairo",
        "next_run": iso(ScheduleState.objects.get(pipeline=daily).next_tick_at),
        "last_run": None,
        "enabled": True,
    }
    assert (found[2]["next_run"], found[2]["enabled"]) == (None, False)
    saved_run(soon, RunStatus.SUCCESS, at=START)
    assert status(api)[0]["last_run"] == iso(START + dt.timedelta(milliseconds=100))
    waiting = accept_run(soon)
    assert status(api)[0]["last_run"] == iso(waiting.created_at)


def test_one_that_no_worker_has_brought_into_step_is_told_as_it_will_be(api: Client) -> None:
    pipeline = save_pipeline("Daily", schedule="0 6 * * *")
    ScheduleState.objects.all().delete()
    assert status(api)[0]["next_run"] == iso(schedules.next_tick("0 6 * * *", "UTC", dt.datetime.now(dt.UTC)))
    Pipeline.objects.filter(id=pipeline.id).update(schedule="not one")  # of before schedules were checked
    assert status(api)[0]["next_run"] is None


def test_it_costs_one_query_however_much_there_is(api: Client) -> None:
    pipeline = save_pipeline("Busy", schedule="0 6 * * *")
    save_pipeline("Other", schedule="0 7 * * *")
    many_runs(pipeline, 2000)
    newest = iso(START + dt.timedelta(minutes=1999, milliseconds=100))
    analyse()
    with only_indexed("runs_run"), CaptureQueriesContext(connection) as captured:
        assert {entry["pipeline_name"]: entry["last_run"] for entry in status(api)} == {"Busy": newest, "Other": None}
    asked = [query["sql"] for query in captured.captured_queries if "runs_run" in query["sql"]]
    assert len(asked) == 1
    for number in range(5):
        save_pipeline(f"More{number}", schedule="0 8 * * *")
    with CaptureQueriesContext(connection) as again:
        assert len(status(api)) == 7
    assert len(again) == len(captured)


def test_a_preview_gives_times_and_words(api: Client) -> None:
    response = preview(api, schedule="30 2 * * *", timezone="America/New_York", count=2, after="2024-03-09T00:00:00Z")
    assert (response.status_code, response.json()) == (
        200,
        {
            "schedule": "30 2 * * *",
            "cron": "30 2 * * *",
            "timezone": "America/New_York",
            "description": "At 02:30 every day",
            "next": ["2024-03-09T07:30:00.000Z", "2024-03-10T07:00:00.000Z"],
            "local": ["2024-03-09T02:30:00-05:00", "2024-03-10T03:00:00-04:00"],
            "notes": ["2024-03-10: the clock skips a time of the schedule; the run is made at 03:00, the first time after it."],
        },
    )


def test_a_preview_needs_only_a_schedule(api: Client) -> None:
    before = dt.datetime.now(dt.UTC)
    found = preview(api, schedule="@hourly").json()
    assert (found["cron"], found["timezone"], len(found["next"]), found["notes"]) == ("0 * * * *", "UTC", 5, [])
    assert found["next"][0] == iso(schedules.next_tick("@hourly", "UTC", before))
    assert [moment.replace("+00:00", ".000Z") for moment in found["local"]] == found["next"]


def test_the_preview_is_what_the_scheduler_does(api: Client) -> None:
    pipeline = save_pipeline("Odd", schedule="5,35 */6 L * *", schedule_timezone="Australia/Lord_Howe")
    found = preview(api, schedule="5,35 */6 L * *", timezone="Australia/Lord_Howe", count=1).json()
    assert found["next"] == [status(api)[0]["next_run"]] == [iso(ScheduleState.objects.get(pipeline=pipeline).next_tick_at)]


def test_rare_and_many(api: Client) -> None:
    assert len(preview(api, schedule="* * * * *", count=100).json()["next"]) == 100
    leap = preview(api, schedule="0 0 29 2 */7", count=100, after="2024-03-01T00:00:00Z").json()["next"]
    assert [moment[:4] for moment in leap] == ["2032", "2060", "2088"]  # Sundays; no more within a hundred years
    assert len(preview(api, schedule="0 0 29 2 *", count=100, after="2199-12-31T23:59:59Z").json()["next"]) == 24


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({}, "/schedule", "required"),
        ({"schedule": ""}, "/schedule", "blank"),
        ({"schedule": 5}, "/schedule", ""),
        ({"schedule": "61 * * * *"}, "/schedule", "0-59"),
        ({"schedule": "often"}, "/schedule", "five cron fields"),
        ({"schedule": "* " * 200}, "/schedule", "200"),
        ({"schedule": "@daily", "timezone": "Mars/Base"}, "/timezone", "Europe/Berlin"),
        ({"schedule": "@daily", "timezone": "../../etc/passwd"}, "/timezone", "IANA"),
        ({"schedule": "@daily", "timezone": 3}, "/timezone", ""),
        *(({"schedule": "@daily", "count": count}, "/count", "from 1 to 100") for count in (0, 101, -1, 1.5, "5", True, 10**30)),
        ({"schedule": "@daily", "count": None}, "/count", ""),
        ({"schedule": "@daily", "after": "2024-01-01T00:00:00"}, "/after", "offset"),
        ({"schedule": "@daily", "after": "9999-12-31T23:59:59Z"}, "/after", "1970 to 2199"),
        ({"schedule": "@daily", "after": "0001-01-01T00:00:00+14:00"}, "/after", ""),
        ({"schedule": "@daily", "zone": "UTC"}, "/zone", "Known: schedule, timezone, count, after"),
    ],
)
def test_what_cannot_be_previewed_says_what_can(api: Client, body: dict[str, Any], pointer: str, words: str) -> None:
    response = preview(api, **body)
    (error,) = response.json()["errors"]
    assert (response.status_code, error["pointer"]) == (400, pointer)
    assert words in error["detail"], error


def test_a_wrong_schedule_of_a_pipeline_says_the_same(api: Client) -> None:
    body = {"name": "X", "nodes": [], "edges": [], "schedule": "0 24 * * *", "schedule_timezone": "Mars/Base"}
    response = api.post("/api/pipelines", body, content_type="application/json")
    assert response.status_code == 422
    told = [error["detail"] for error in response.json()["errors"]]
    assert "it takes 0-23" in told[0] and "Europe/Berlin" in told[1]
