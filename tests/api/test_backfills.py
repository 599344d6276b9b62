"""Backfills over the API: what is queued, what is left out, what is refused, and what is told of it."""

import datetime as dt
import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from pipelines.models import Pipeline, PipelineVersion
from runs import backfills, log, transitions, triggers
from runs.models import Backfill, NodeRun, Run
from runs.states import RunStatus
from tests.factories import claim_one, end_run, make_pipeline, register_worker, sql_node
from tests.history import saved_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def pipeline() -> Pipeline:
    return make_pipeline()


@pytest.fixture
def scheduled(pipeline: Pipeline) -> Pipeline:
    Pipeline.objects.update(schedule="0 0 * * *", schedule_timezone="Europe/Berlin")
    pipeline.refresh_from_db()
    return pipeline


def post(api: Client, path: str, body: Any, **headers: str) -> Any:
    return api.post(path, data=json.dumps(body), content_type="application/json", headers=headers)


def backfill(api: Client, pipeline: Pipeline, **body: Any) -> Any:
    return post(api, f"/api/pipelines/{pipeline.id}/backfill", body)


def january(last: int, **body: Any) -> dict[str, Any]:
    return {"start_date": "2024-01-01", "end_date": f"2024-01-{last:02d}", **body}


def past(pipeline: Pipeline, day: int, status: RunStatus, **fields: Any) -> Run:
    return saved_run(pipeline, status, logical_date=dt.date(2024, 1, day), **fields)


def days(runs: Any) -> list[int]:
    return [run.logical_date.day for run in runs]


# --- dates --------------------------------------------------------------------------------------------------------


def test_a_run_a_date_oldest_first(api: Client, pipeline: Pipeline) -> None:
    response = backfill(api, pipeline, **january(31, params={"region": "eu"}, priority=7, max_active=2))
    assert response.status_code == 202
    runs = list(Run.objects.order_by("id"))
    assert response.json() == [str(run.id) for run in runs]
    assert days(runs) == list(range(1, 32))
    assert [run.params for run in runs[:2]] == [{"region": "eu", "date": "2024-01-01"}, {"region": "eu", "date": "2024-01-02"}]
    assert {(run.status, run.trigger, run.priority, run.interval_start) for run in runs} == {("pending", "backfill", 7, None)}
    assert NodeRun.objects.count() == 62
    row = Backfill.objects.get()
    assert {run.backfill_id for run in runs} == {row.id}
    assert (row.start, row.end, row.only, row.max_active, row.run_count) == ("2024-01-01", "2024-01-31", "all", 2, 31)
    assert (response["Location"], response["X-Backfill-Id"]) == (f"/api/backfills/{row.id}", str(row.id))


def test_runs_are_served_in_the_order_of_their_dates(api: Client, pipeline: Pipeline) -> None:
    backfill(api, pipeline, **january(31))
    backfill(api, make_pipeline(), start_date="2023-01-01", end_date="2023-01-03", priority=1)
    assert [str(run.logical_date) for run in Run.objects.ready()] == [
        *(f"2023-01-{day:02d}" for day in (1, 2, 3)),
        *(f"2024-01-{day:02d}" for day in range(1, 32)),
    ]


def test_one_date_is_a_range_too(api: Client, pipeline: Pipeline) -> None:
    assert len(backfill(api, pipeline, start_date="2024-02-29", end_date="2024-02-29").json()) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"start_date": "2024-01-01"}, "/end_date"),
        ({"end": "2024-01-01T00:00:00Z"}, "/start"),
        ({"start_date": "2024-01-02", "end_date": "2024-01-01"}, "/end_date"),
        ({"start_date": "2023-02-29", "end_date": "2024-01-01"}, "/start_date"),
        ({"start_date": "20240101", "end_date": "2024-01-02"}, "/start_date"),
        ({"start_date": "2024-01-01T00:00:00Z", "end_date": "2024-01-02"}, "/start_date"),
        ({"start_date": 5, "end_date": "2024-01-02"}, "/start_date"),
        ({"start_date": "2024-01-01", "end_date": "2026-09-27"}, "/end_date"),  # 1,001 dates
        ({"start_date": "0001-01-01", "end_date": "9999-12-31"}, "/end_date"),
        (january(2, start="2024-01-01T00:00:00Z"), "/start"),
        ({"start": "2024-01-01T00:00:00", "end": "2024-01-02T00:00:00Z"}, "/start"),
        ({"start": "2024-01-01", "end": "2024-01-02T00:00:00Z"}, "/start"),
        ({"start": "0001-01-01T00:00:00+14:00", "end": "2024-01-02T00:00:00Z"}, "/start"),
        ({"start": "2024-01-01T25:00:00Z", "end": "2024-01-02T00:00:00Z"}, "/start"),
        (january(2, only="some"), "/only"),
        (january(2, only="failed", force=True), "/force"),
        (january(2, max_active=0), "/max_active"),
        (january(2, max_active="2"), "/max_active"),
        (january(2, priority=101), "/priority"),
        (january(2, priority=-101), "/priority"),
        (january(2, dry_run="yes"), "/dry_run"),
        (january(2, params={"date": "2024-01-01"}), "/params/date"),
        (january(2, concurrency=2), "/concurrency"),
    ],
)
def test_what_cannot_be_is_a_400_that_names_the_field(api: Client, pipeline: Pipeline, body: dict[str, Any], pointer: str) -> None:
    response = backfill(api, pipeline, **body)
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert not Run.objects.exists()
    assert not Backfill.objects.exists()


def test_a_thousand_dates_are_the_most(api: Client, pipeline: Pipeline) -> None:
    response = backfill(api, pipeline, start_date="2024-01-01", end_date="2026-09-26")
    assert (response.status_code, len(response.json())) == (202, 1000)
    ids = list(Run.objects.order_by("logical_date").values_list("id", flat=True))
    assert ids == sorted(ids)


def test_more_node_runs_than_a_backfill_may_make(api: Client) -> None:
    pipeline = make_pipeline([sql_node(f"n{n}", "SELECT 1 AS x") for n in range(60)], [])
    response = backfill(api, pipeline, start_date="2024-01-01", end_date="2026-09-26")
    assert response.status_code == 400
    assert response.json()["detail"] == ("A backfill makes at most 50,000 node runs; this one would make 60,000 (1,000 runs of 60 nodes). Split it.")


def test_params_must_fit_what_is_declared(api: Client, pipeline: Pipeline) -> None:
    version = pipeline.versions.get()
    declared = {"n": {"type": "integer", "required": True}}
    PipelineVersion.objects.filter(id=version.id).update(document={**version.document, "parameters": declared})
    for dry_run in (True, False):
        response = backfill(api, pipeline, **january(3, dry_run=dry_run))
        assert (response.status_code, [error["pointer"] for error in response.json()["errors"]]) == (422, ["/params/n"])
    assert backfill(api, pipeline, **january(3, params={"n": 1})).status_code == 202


def test_a_pipeline_that_cannot_run_is_refused(api: Client) -> None:
    assert backfill(api, make_pipeline([], []), **january(3)).status_code == 422
    assert backfill(api, Pipeline(id="019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"), **january(3)).status_code == 404


@pytest.fixture
def history(pipeline: Pipeline) -> Pipeline:
    """1 success; 2 failed, then success; 3 success, then failed; 4 cancelled; 5 failed, then cancelled; 6 running; 7 nothing."""
    for day, statuses in {1: "success", 2: "failed success", 3: "success failed", 4: "cancelled", 5: "failed cancelled", 6: "running"}.items():
        for status in statuses.split():
            past(pipeline, day, RunStatus(status))
    past(make_pipeline(), 7, RunStatus.SUCCESS)
    return pipeline


@pytest.mark.parametrize(
    ("only", "expected"),
    [("all", [1, 2, 3, 4, 5, 6, 7]), ("missing", [4, 7]), ("failed", [3, 5]), ("unfinished", [4, 5, 7])],
)
def test_only_some_of_the_dates(api: Client, history: Pipeline, only: str, expected: list[int]) -> None:
    plan = backfill(api, history, **january(7, only=only, dry_run=True))
    assert plan.status_code == 200
    assert [slot["date"] for slot in plan.json()["plan"] if slot["run"]] == [f"2024-01-{day:02d}" for day in expected]
    assert not Backfill.objects.exists()
    response = backfill(api, history, **january(7, only=only))
    assert response.status_code == 202
    assert days(Run.objects.filter(backfill__isnull=False).order_by("id")) == expected


def test_a_plan_says_why(api: Client, history: Pipeline) -> None:
    answer = backfill(api, history, **january(7, only="unfinished", max_active=3, dry_run=True)).json()
    assert [slot["reason"] for slot in answer["plan"]] == ["a run of it succeeded"] * 3 + ["", "", "a run of it is running", ""]
    assert (answer["intervals"], answer["concurrency"], answer["runs"], answer["backfill_id"]) == (7, 3, [], None)
    assert answer["note"].startswith("4 of 7 are left out")
    failed = backfill(api, history, **january(7, only="failed", dry_run=True)).json()
    assert [slot["reason"] for slot in failed["plan"]][:4] == ["its latest run is success", "its latest run is success", "", "it has no run"]


def test_nothing_left_to_do_is_a_backfill_without_runs(api: Client, history: Pipeline) -> None:
    response = backfill(api, history, **january(1, only="missing"))
    assert (response.status_code, response.json()) == (202, [])
    assert api.get(response["Location"]).json()["status"] == "completed"


def test_force_means_all(api: Client, history: Pipeline) -> None:
    assert len(backfill(api, history, **january(7, force=True)).json()) == 7


def test_the_same_key_makes_one_backfill(api: Client, pipeline: Pipeline) -> None:
    path = f"/api/pipelines/{pipeline.id}/backfill"
    first, second = (post(api, path, january(3), **{"idempotency-key": "k"}) for _ in range(2))
    assert (first.json(), first["Location"], first["X-Backfill-Id"]) == (second.json(), second["Location"], second["X-Backfill-Id"])
    assert (Run.objects.count(), second["Idempotency-Replayed"]) == (3, "true")


def test_the_runs_and_the_backfill_are_stored_together_or_not_at_all(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(log, "append", killed)
    with pytest.raises(SystemExit):
        backfills.start(backfills.over_dates(pipeline, dt.date(2024, 1, 1), dt.date(2024, 1, 3)))
    assert (Backfill.objects.count(), Run.objects.count(), NodeRun.objects.count()) == (0, 0, 0)


def test_the_number_of_queries_does_not_grow_with_the_dates(pipeline: Pipeline) -> None:
    counts = []
    triggers.run(pipeline)  # reads the definition
    for last in (3, 30):
        with CaptureQueriesContext(connection) as captured:
            backfills.start(backfills.over_dates(pipeline, dt.date(2024, 1, 1), dt.date(2024, 1, last), only="missing"))
        counts.append(len([query for query in captured.captured_queries if not query["sql"].startswith("INSERT")]))
        Run.objects.update(status="cancelled", finished_at=Run.objects.first().created_at)  # type: ignore[union-attr]
    assert counts[0] == counts[1]


# --- intervals ----------------------------------------------------------------------------------------------------


def moments(start: str, end: str, **body: Any) -> dict[str, Any]:
    return {"start": f"{start}:00:00Z", "end": f"{end}:00:00Z", **body}


def test_a_run_an_interval_of_the_schedule(api: Client, scheduled: Pipeline) -> None:
    response = backfill(api, scheduled, **moments("2024-01-01T00", "2024-01-05T00", max_active=2))
    answer = response.json()
    assert (response.status_code, answer["intervals"], answer["concurrency"]) == (202, 3, 2)
    # Days of Berlin: the first that begins after the start is the 2nd; the last ends before the end.
    assert (answer["first_interval_start"], answer["last_interval_end"]) == ("2024-01-01T23:00:00.000Z", "2024-01-04T23:00:00.000Z")
    runs = list(Run.objects.order_by("id"))
    assert (answer["runs"], answer["backfill_id"]) == ([str(run.id) for run in runs], response["X-Backfill-Id"])
    assert [(str(run.logical_date), run.interval_start.hour, run.params) for run in runs if run.interval_start] == [
        ("2024-01-02", 23, {}),
        ("2024-01-03", 23, {}),
        ("2024-01-04", 23, {}),
    ]
    assert [run.interval_end for run in runs[:2]] == [run.interval_start for run in runs[1:]]
    shown = api.get(f"/api/runs/{runs[0].id}").json()
    assert (shown["interval_start"], shown["interval_end"]) == ("2024-01-01T23:00:00.000Z", "2024-01-02T23:00:00.000Z")
    assert (shown["backfill_id"], shown["logical_date"]) == (answer["backfill_id"], "2024-01-02")


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25)])
def test_days_on_which_the_clock_moves(api: Client, scheduled: Pipeline, day: str, hours: int) -> None:
    date = dt.date.fromisoformat(day)
    body = {"start": f"{date - dt.timedelta(days=2)}T12:00:00Z", "end": f"{date + dt.timedelta(days=2)}T12:00:00Z"}
    backfill(api, scheduled, **body)
    runs = {str(run.logical_date): run for run in Run.objects.all()}
    assert sorted(runs)[1:2] == [day]
    lengths = {
        found: (run.interval_end - run.interval_start).total_seconds() / 3600
        for found, run in runs.items()
        if run.interval_start and run.interval_end
    }
    assert lengths[day] == hours
    assert set(lengths.values()) == {24, hours}


def test_what_succeeded_or_is_under_way_is_left_out_unless_forced(api: Client, scheduled: Pipeline) -> None:
    body = moments("2024-01-01T00", "2024-01-06T00")
    backfill(api, scheduled, **body)
    first, second, third, _ = Run.objects.order_by("id")
    end_run(first, RunStatus.SUCCESS)
    end_run(second, RunStatus.FAILED)
    triggers.cancel(third.id)
    again = backfill(api, scheduled, **body).json()
    assert days(Run.objects.filter(backfill_id=again["backfill_id"]).order_by("id")) == [3, 4]
    assert again["note"] == "2 of 4 are left out, because of the runs that they have; 'force' runs them all."
    assert [len(backfill(api, scheduled, **body, **forced).json()["runs"]) for forced in ({"force": True}, {"only": "all"})] == [4, 4]


def test_only_failed_intervals(api: Client, scheduled: Pipeline) -> None:
    body = moments("2024-01-01T00", "2024-01-05T00")
    backfill(api, scheduled, **body)
    for run, status in zip(Run.objects.order_by("id"), (RunStatus.FAILED, RunStatus.SUCCESS, RunStatus.SUCCESS), strict=True):
        end_run(run, status)
    assert len(backfill(api, scheduled, **body, only="failed").json()["runs"]) == 1
    assert len(backfill(api, scheduled, **body, only="missing").json()["runs"]) == 0


@pytest.mark.parametrize(
    ("start", "end", "status", "words"),
    [
        ("2024-01-02T00", "2024-01-01T00", 400, "later than the start"),
        ("2024-01-01T00", "2024-01-01T12", 400, "No interval of the schedule '0 0 * * *' (Europe/Berlin) lies between"),
        ("2020-01-01T00", "2024-01-01T00", 400, "more than 1,000 intervals"),
        ("0001-01-02T00", "2024-01-01T00", 400, "The years from 1900"),
        ("2024-01-01T00", "9999-12-31T00", 400, "The years from 1900"),
    ],
)
def test_a_range_that_cannot_be(api: Client, scheduled: Pipeline, start: str, end: str, status: int, words: str) -> None:
    response = backfill(api, scheduled, **moments(start, end))
    assert response.status_code == status
    assert words in response.json()["detail"]


def test_a_pipeline_without_schedule_has_no_intervals(api: Client, pipeline: Pipeline) -> None:
    response = backfill(api, pipeline, **moments("2024-01-01T00", "2024-01-05T00"))
    assert (response.status_code, response.json()["code"]) == (422, "no_schedule")


# --- the object ---------------------------------------------------------------------------------------------------


def test_how_far_it_is(api: Client, pipeline: Pipeline) -> None:
    path = backfill(api, pipeline, **january(4, max_active=2))["Location"]
    first, second, third, _ = Run.objects.order_by("id")
    end_run(first, RunStatus.SUCCESS)
    end_run(second, RunStatus.FAILED)
    triggers.cancel(third.id)
    shown = api.get(path).json()
    assert shown["counts"] == {"pending": 1, "running": 0, "success": 1, "failed": 1, "cancelled": 1}
    assert (shown["status"], shown["total"], shown["finished"], shown["pipeline_name"], shown["max_active"]) == ("running", 4, 3, "Orders", 2)
    assert [(run["date"], run["status"]) for run in shown["runs"]] == [
        ("2024-01-01", "success"),
        ("2024-01-02", "failed"),
        ("2024-01-03", "cancelled"),
        ("2024-01-04", "pending"),
    ]


def test_a_resumed_run_stays_a_member_and_stands_for_its_date(api: Client, scheduled: Pipeline) -> None:
    answer = backfill(api, scheduled, **moments("2024-01-01T00", "2024-01-04T00")).json()
    path = f"/api/backfills/{answer['backfill_id']}"
    first, second = Run.objects.order_by("id")
    end_run(first, RunStatus.FAILED)
    end_run(second, RunStatus.SUCCESS)
    assert api.get(path).json()["status"] == "failed"
    resumed = triggers.resume(first.id)
    assert (resumed.interval_start, resumed.interval_end, resumed.logical_date) == (first.interval_start, first.interval_end, first.logical_date)
    assert [run["id"] for run in api.get(path).json()["runs"]] == [str(resumed.id), str(second.id)]
    end_run(resumed, RunStatus.SUCCESS)
    shown = api.get(path).json()
    assert (shown["status"], shown["total"], shown["finished"], shown["counts"]["failed"]) == ("completed", 2, 2, 0)


def test_purged_runs_had_ended(api: Client, pipeline: Pipeline) -> None:
    path = backfill(api, pipeline, **january(2))["Location"]
    for run in Run.objects.all():
        end_run(run, RunStatus.SUCCESS)
    Run.objects.order_by("id")[:1].get().delete()
    shown = api.get(path).json()
    assert (shown["status"], shown["total"], shown["finished"], len(shown["runs"])) == ("completed", 2, 2, 1)


def test_its_cost_does_not_grow_with_its_runs(api: Client, pipeline: Pipeline) -> None:
    counts = []
    for last in (1, 30):
        path = backfill(api, pipeline, **january(last))["Location"]
        for url in (path, f"/api/pipelines/{pipeline.id}/backfills"):
            with CaptureQueriesContext(connection) as captured:
                assert api.get(url).status_code == 200
            counts.append(len(captured))
    assert counts[:2] == counts[2:]


def test_the_backfills_of_a_pipeline(api: Client, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    backfill(api, make_pipeline(), **january(1))
    made = [backfill(api, pipeline, **january(day))["X-Backfill-Id"] for day in (1, 2, 3)]
    shown = api.get(f"/api/pipelines/{pipeline.id}/backfills").json()
    assert [(row["id"], row["total"]) for row in shown] == [(made[2], 3), (made[1], 2), (made[0], 1)]
    assert "runs" not in shown[0]
    monkeypatch.setattr(backfills, "MOST_LISTED", 2)
    assert len(api.get(f"/api/pipelines/{pipeline.id}/backfills").json()) == 2


def test_the_runs_of_a_backfill_can_be_listed(api: Client, pipeline: Pipeline) -> None:
    backfill(api, pipeline, **january(2))
    second = backfill(api, pipeline, **january(3))
    for path in ("/api/runs", f"/api/pipelines/{pipeline.id}/runs"):
        shown = api.get(f"{path}?backfill_id={second['X-Backfill-Id']}").json()
        assert [run["id"] for run in shown] == second.json()[::-1]
    assert api.get("/api/runs?backfill_id=x").status_code == 400


@pytest.mark.parametrize("path", ["/api/backfills/x", "/api/backfills/019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"])
def test_there_is_no_such_backfill(api: Client, path: str) -> None:
    assert api.get(path).status_code == 404
    assert post(api, f"{path}/cancel", {}).status_code == 404


# --- cancel -------------------------------------------------------------------------------------------------------


def test_cancel_stops_what_has_not_started(api: Client, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfills, "_CANCELLED_AT_ONCE", 2)
    path = backfill(api, pipeline, **january(6))["Location"]
    end_run(Run.objects.earliest("id"), RunStatus.SUCCESS)
    lease = claim_one(register_worker())
    other = triggers.run(pipeline)
    response = post(api, f"{path}/cancel", {})
    shown = response.json()
    assert (response.status_code, shown["status"]) == (200, "running")
    assert shown["cancelled_at"]
    assert shown["counts"] == {"pending": 0, "running": 1, "success": 1, "failed": 0, "cancelled": 4}
    assert (Run.objects.get(id=lease.run_id).cancel_requested, Run.objects.get(id=other.id).status) == (False, "pending")
    assert not NodeRun.objects.filter(run__status="cancelled").exclude(status="cancelled").exists()
    again = post(api, f"{path}/cancel", {"running": True}).json()
    assert (again["cancelled_at"], Run.objects.get(id=lease.run_id).cancel_requested) == (shown["cancelled_at"], True)
    transitions.finish_run(lease, RunStatus.CANCELLED)
    assert api.get(path).json()["status"] == "cancelled"
    assert post(api, f"{path}/cancel", {}).status_code == 200  # asking again changes nothing


def test_a_backfill_that_has_ended_cannot_be_cancelled(api: Client, pipeline: Pipeline) -> None:
    path = backfill(api, pipeline, **january(1))["Location"]
    end_run(Run.objects.get(), RunStatus.SUCCESS)
    response = post(api, f"{path}/cancel", {})
    assert (response.status_code, Backfill.objects.get().cancelled_at) == (409, None)
    assert post(api, f"{path}/cancel", {"force": True}).status_code == 400
