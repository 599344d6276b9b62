"""Runs as the API shows and lists them."""

import datetime as dt
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from brokoli_site.common.ids import new_id
from pipelines.models import Pipeline
from runs.models import Run
from runs.states import NodeStatus, RunStatus, Trigger
from tests.history import START, lines, many_runs, node_run, output, past_pipeline, saved_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def pipeline() -> Pipeline:
    return past_pipeline()


def test_a_run_that_is_parked_says_what_it_waits_for(api: Client, pipeline: Pipeline) -> None:
    later = START + dt.timedelta(minutes=5)
    run = saved_run(pipeline, RunStatus.PENDING, not_before=later)
    node_run(run, status=NodeStatus.PENDING, parked_until=later, waiting_for="a file 'in/*.csv'")
    shown = api.get(f"/api/runs/{run.id}").json()
    until = later.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert (shown["status"], shown["waiting_until"]) == ("pending", until)
    assert shown["waiting"] == [{"node_id": "first", "name": "First", "reason": "a file 'in/*.csv'", "until": until}]
    assert api.get("/api/runs").json()[0]["waiting_until"] == until


def test_a_run_has_the_shape_of_the_contract(api: Client, pipeline: Pipeline) -> None:
    run = saved_run(pipeline, params={"date": "2024-01-15"})
    attempt = node_run(run)
    assert api.get(f"/api/runs/{run.id}").json() == {
        "id": str(run.id),
        "pipeline_id": str(pipeline.id),
        "pipeline_name": "Orders",
        "pipeline_version": 1,
        "status": "success",
        "trigger": "api",
        "params": {"date": "2024-01-15"},
        "priority": 0,
        "logical_date": None,
        "interval_start": None,
        "interval_end": None,
        "backfill_id": None,
        "error": "",
        "created_at": "2024-01-15T06:00:00.000Z",
        "started_at": "2024-01-15T06:00:00.100Z",
        "finished_at": "2024-01-15T06:01:23.000Z",
        "queued_ms": 100,
        "duration_ms": 82900,
        "resumed_from": None,
        "upstream_run": None,
        "cancel_requested": False,
        "waiting_until": None,
        "waiting": [],
        "node_runs": [
            {
                "id": str(attempt.id),
                "node_id": "first",
                "name": "First",
                "type": "sql",
                "status": "success",
                "row_count": 1500,
                "duration_ms": 2340,
                "queue_ms": 4,
                "rows_per_sec": 641.0,
                "attempt": 1,
                "error": "",
                "started_at": "2024-01-15T06:00:00.120Z",
                "finished_at": "2024-01-15T06:00:02.460Z",
            }
        ],
    }


def test_what_has_not_happened_yet_is_null(api: Client, pipeline: Pipeline) -> None:
    run = saved_run(pipeline, RunStatus.PENDING)
    node_run(run, status=NodeStatus.PENDING, row_count=None, ready_at=None, started_at=None, finished_at=None)
    shown = api.get(f"/api/runs/{run.id}").json()
    assert (shown["started_at"], shown["finished_at"], shown["queued_ms"], shown["duration_ms"]) == (None, None, None, None)
    waiting = shown["node_runs"][0]
    assert [waiting[name] for name in ("row_count", "duration_ms", "queue_ms", "rows_per_sec", "started_at")] == [None] * 5


def test_node_runs_are_the_latest_attempts_in_the_order_of_the_graph(api: Client, pipeline: Pipeline) -> None:
    run = saved_run(pipeline)
    node_run(run, "second", position=1, attempt=1, status=NodeStatus.FAILED, error="no luck")
    node_run(run, "second", position=1, attempt=2)
    node_run(run, "first", position=0)
    shown = api.get(f"/api/runs/{run.id}").json()["node_runs"]
    assert [(row["node_id"], row["attempt"], row["error"]) for row in shown] == [("first", 1, ""), ("second", 2, "")]


def test_a_node_that_took_no_time_has_no_rate(api: Client, pipeline: Pipeline) -> None:
    run = saved_run(pipeline)
    node_run(run, started_at=START, finished_at=START)
    shown = api.get(f"/api/runs/{run.id}").json()["node_runs"][0]
    assert (shown["duration_ms"], shown["rows_per_sec"]) == (0, None)


@pytest.mark.parametrize("key", ["nope", "1", "%00", "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e7", "019a9f3c5b1e7c429d0e2f6a4c1b8e70", "x" * 5000, "ü"])
@pytest.mark.parametrize("rest", ["", "/logs", "/logs/export", "/nodes/first/preview", "/nodes/first/output", "/nodes/first/profile"])
def test_an_id_that_cannot_be_one_is_not_found(api: Client, key: str, rest: str) -> None:
    response = api.get(f"/api/runs/{key}{rest}")
    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")


def test_an_unknown_run_is_not_found(api: Client) -> None:
    response = api.get(f"/api/runs/{uuid4()}")
    assert (response.status_code, response.json()["detail"]) == (404, "There is no run with this id. Runs that were purged are gone for good.")


def test_a_listing_is_a_bare_array_of_the_50_newest(api: Client, pipeline: Pipeline) -> None:
    many_runs(pipeline, 60)
    newest = [str(run.id) for run in Run.objects.order_by("-id")[:50]]
    for path in (f"/api/pipelines/{pipeline.id}/runs", "/api/pipelines/orders/runs", "/api/runs"):
        listed = api.get(path).json()
        assert [run["id"] for run in listed] == newest
    assert "node_runs" not in listed[0]


def test_a_listing_shows_the_runs_of_its_pipeline_alone(api: Client, pipeline: Pipeline) -> None:
    run, other = saved_run(pipeline), saved_run(past_pipeline("other", "Other"))
    assert [row["id"] for row in api.get("/api/pipelines/orders/runs").json()] == [str(run.id)]
    assert [row["pipeline_name"] for row in api.get("/api/runs").json()] == ["Other", "Orders"]
    assert other.pipeline_id != run.pipeline_id


def test_pages_cover_all_runs_once(api: Client, pipeline: Pipeline) -> None:
    many_runs(pipeline, 45)
    pages = [api.get(f"/api/pipelines/orders/runs?page={page}&per_page=20").json() for page in (1, 2, 3, 4)]
    assert [{**page, "items": len(page["items"])} for page in pages] == [
        {"items": items, "total": 45, "page": number, "per_page": 20, "pages": 3} for number, items in ((1, 20), (2, 20), (3, 5), (4, 0))
    ]
    ids = [run["id"] for page in pages for run in page["items"]]
    assert ids == [str(key) for key in Run.objects.order_by("-id").values_list("id", flat=True)]


def test_either_parameter_asks_for_a_page(api: Client, pipeline: Pipeline) -> None:
    saved_run(pipeline)
    assert api.get("/api/runs?page=1").json()["per_page"] == 50
    assert api.get("/api/runs?per_page=7").json()["page"] == 1
    assert api.get("/api/pipelines/orders/runs?page=9").json() | {"items": None} == {"items": None, "total": 1, "page": 9, "per_page": 50, "pages": 1}


def test_a_pipeline_without_runs_lists_none(api: Client, pipeline: Pipeline) -> None:
    assert api.get("/api/pipelines/orders/runs").json() == []
    assert api.get("/api/pipelines/orders/runs?page=1").json() == {"items": [], "total": 0, "page": 1, "per_page": 50, "pages": 0}


def test_filters_narrow_a_listing(api: Client, pipeline: Pipeline) -> None:
    def found(query: str) -> list[int]:
        listed = api.get(f"/api/pipelines/orders/runs?{query}").json()
        assert {run["id"] for run in api.get(f"/api/runs?{query}&per_page=100").json()["items"]} == {run["id"] for run in listed}
        return [runs.index(run["id"]) for run in listed]

    minute = dt.timedelta(minutes=10)
    runs = [
        str(saved_run(pipeline, RunStatus.SUCCESS, at=START).id),
        str(saved_run(pipeline, RunStatus.FAILED, at=START + minute, trigger=Trigger.SCHEDULE).id),
        str(saved_run(pipeline, RunStatus.FAILED, at=START + 2 * minute).id),
        str(saved_run(pipeline, RunStatus.PENDING, at=START + 3 * minute, trigger=Trigger.SCHEDULE).id),
    ]
    assert found("status=failed") == [2, 1]
    assert found("trigger=schedule") == [3, 1]
    assert found("status=failed&trigger=schedule") == [1]
    assert found("since=2024-01-15T06:10:00Z") == [3, 2, 1]
    assert found("until=2024-01-15T06:10:00Z") == [1, 0]
    assert found("since=2024-01-15T06:10:00.001Z&until=2024-01-15T06:29:59Z") == [2]
    assert found("since=2024-01-15T07:10:00%2B01:00") == [3, 2, 1]
    assert found("since=2024-01-15") == [3, 2, 1, 0]
    assert found("until=0001-01-01T00:00:00Z") == []
    assert found("since=9999-12-31T23:59:59Z") == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=done", "status"),
        ("trigger=hand", "trigger"),
        ("since=yesterday", "since"),
        ("since=2024-13-01", "since"),
        ("until=10000-01-01T00:00:00Z", "until"),
        ("since=0001-01-01T00:00:00%2B14:00", "since"),
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=1.5", "page"),
        ("page=" + "9" * 5000, "page"),
        ("per_page=0", "per_page"),
        ("per_page=101", "per_page"),
        ("per_page=%00", "per_page"),
        ("pipeline=orders", "pipeline"),
        ("status=failed&status=success", "status"),
    ],
)
def test_bad_query_parameters_are_named(api: Client, pipeline: Pipeline, query: str, name: str) -> None:
    for path in ("/api/runs", "/api/pipelines/orders/runs"):
        response = api.get(f"{path}?{query}")
        assert response.status_code == 400, response.content
        assert [error["parameter"] for error in response.json()["errors"]] == [name]


def test_an_unknown_pipeline_has_no_runs(api: Client, pipeline: Pipeline) -> None:
    for key in ("nope", str(new_id()), "%00", "x" * 3000):
        assert api.get(f"/api/pipelines/{key}/runs").status_code == 404


def test_the_history_of_a_deleted_pipeline_stays_under_its_id(api: Client, pipeline: Pipeline) -> None:
    run = saved_run(pipeline)
    Pipeline.objects.update(deleted_at=START)
    assert [row["id"] for row in api.get(f"/api/pipelines/{pipeline.id}/runs").json()] == [str(run.id)]
    assert api.get(f"/api/runs/{run.id}").status_code == 200
    assert api.get("/api/pipelines/orders/runs").status_code == 404


def queries(api: Client, path: str) -> list[dict[str, Any]]:
    with CaptureQueriesContext(connection) as captured:
        assert api.get(path).status_code == 200
    return list(captured.captured_queries)


@pytest.mark.parametrize("path", ["/api/runs", "/api/runs?page=1", "/api/pipelines/orders/runs", "/api/pipelines/orders/runs?page=1&status=success"])
def test_the_queries_of_a_listing_are_as_many_however_many_runs_there_are(api: Client, pipeline: Pipeline, path: str) -> None:
    saved_run(pipeline, at=START - dt.timedelta(days=1))
    before = queries(api, path)
    many_runs(pipeline, 60)
    for run in Run.objects.all()[:3]:
        lines(run, 3)
        node_run(run)
        output(run)
    after = queries(api, path)
    assert len(after) == len(before) <= 6
    assert not [query["sql"] for query in after for table in ("logentry", "noderun", "nodeoutput", "document") if table in query["sql"]]


def test_the_queries_for_a_run_are_as_many_however_many_nodes_it_has(api: Client, pipeline: Pipeline) -> None:
    run = saved_run(pipeline)
    before = queries(api, f"/api/runs/{run.id}")
    for n in range(20):
        node_run(run, f"node-{n}", position=n)
    assert len(queries(api, f"/api/runs/{run.id}")) == len(before) == 3
    assert not [query for query in before if "document" in query["sql"]]
