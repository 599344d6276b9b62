"""What a node produced, over the API: preview, the whole, profile and drift. The outputs are written by the engine's own writer."""

import datetime as dt
import io
import json

import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from pipelines.models import Pipeline
from runs.artifacts import ArtifactStore
from runs.models import Run
from runs.states import NodeStatus, RunStatus
from tests.history import START, node_run, past_pipeline, produce, saved_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def pipeline() -> Pipeline:
    return past_pipeline()


@pytest.fixture
def run(pipeline: Pipeline) -> Run:
    return saved_run(pipeline)


def path(run: Run, what: str, node_id: str = "first") -> str:
    return f"/api/runs/{run.id}/nodes/{node_id}/{what}"


def test_a_preview_shows_the_first_50_rows_as_objects(api: Client, run: Run) -> None:
    produce(run, "SELECT range AS id, 'Name ' || range AS name, 9007199254740993::BIGINT AS big, 'nan'::DOUBLE AS rate FROM range(60)")
    shown = api.get(path(run, "preview")).json()
    assert shown | {"rows": None} == {
        "columns": ["id", "name", "big", "rate"],
        "schema": [
            {"name": "id", "type": "BIGINT"},
            {"name": "name", "type": "VARCHAR"},
            {"name": "big", "type": "BIGINT"},
            {"name": "rate", "type": "DOUBLE"},
        ],
        "rows": None,
        "row_count": 60,
        "truncated": True,
    }
    assert len(shown["rows"]) == 50
    assert shown["rows"][7] == {"id": 7, "name": "Name 7", "big": "9007199254740993", "rate": None}


def test_an_empty_output_has_a_preview(api: Client, run: Run) -> None:
    produce(run, "SELECT 1 AS x WHERE false")
    shown = api.get(path(run, "preview")).json()
    assert (shown["columns"], shown["rows"], shown["row_count"], shown["truncated"]) == (["x"], [], 0, False)


def test_an_output_is_the_file_unless_asked_otherwise(api: Client, run: Run) -> None:
    made = produce(run, "SELECT range AS x FROM range(100000)")
    for query in ("", "?format=parquet"):
        response = api.get(path(run, "output") + query)
        content = b"".join(response)
        assert response["Content-Type"] == "application/vnd.apache.parquet"
        assert response["Content-Length"] == str(len(content)) == str(made.byte_count)
        assert response["Content-Disposition"] == f'attachment; filename="run-{run.id}-output-{made.id}.parquet"'
    assert pq.read_table(io.BytesIO(content)).column("x").to_pylist() == list(range(100000))


def test_an_output_converts_to_csv_and_json_lines(api: Client, run: Run) -> None:
    produce(run, "SELECT 1 AS id, '=2+2' AS \"-note\" UNION ALL SELECT 2, NULL ORDER BY id")
    csv = api.get(path(run, "output?format=csv"), headers={"accept": "text/html"})
    assert csv["Content-Type"] == "text/csv; charset=utf-8"
    assert b"".join(csv) == b'"id","\'-note"\n1,"\'=2+2"\n2,\n'
    assert b"".join(api.get(path(run, "output?format=csv&raw=true"))) == b'"id","-note"\n1,"=2+2"\n2,\n'
    lines = api.get(path(run, "output?format=jsonl"))
    assert lines["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in b"".join(lines).splitlines()] == [{"id": 1, "-note": "=2+2"}, {"id": 2, "-note": None}]


@pytest.mark.parametrize(("query", "name"), [("format=xlsx", "format"), ("raw=perhaps", "raw"), ("limit=1", "limit"), ("format=%00", "format")])
def test_bad_query_parameters_are_named(api: Client, run: Run, query: str, name: str) -> None:
    produce(run, "SELECT 1 AS x")
    response = api.get(path(run, f"output?{query}"))
    assert (response.status_code, [error["parameter"] for error in response.json()["errors"]]) == (400, [name])


@pytest.mark.parametrize("what", ["preview", "output", "profile"])
@pytest.mark.parametrize(
    ("status", "why"),
    [(NodeStatus.PENDING, "waits"), (NodeStatus.RUNNING, "executing"), (NodeStatus.FAILED, "failed"), (NodeStatus.SKIPPED, "skipped")],
)
def test_a_node_without_an_output_says_why(api: Client, pipeline: Pipeline, what: str, status: NodeStatus, why: str) -> None:
    run = saved_run(pipeline, RunStatus.RUNNING)
    node_run(run, status=NodeStatus.FAILED, attempt=1)
    node_run(run, status=status, attempt=2)
    response = api.get(path(run, what))
    assert response.status_code == 404
    assert response.json()["detail"].startswith("The node has no output: ")
    assert why in response.json()["detail"]


@pytest.mark.parametrize("what", ["preview", "output", "profile"])
@pytest.mark.parametrize("node_id", ["nope", "%00", "%2F", "x" * 3000, "ü"])
def test_an_unknown_node_is_not_found(api: Client, run: Run, what: str, node_id: str) -> None:
    node_run(run)
    assert api.get(path(run, what, node_id)).status_code == 404


def test_a_deleted_file_is_not_found(api: Client, run: Run) -> None:
    made = produce(run, "SELECT 1 AS x")
    ArtifactStore(settings.ARTIFACTS).delete(made.artifact)
    response = api.get(path(run, "output"))
    assert (response.status_code, response.json()["detail"]) == (404, "The file of this output is gone; run the pipeline again to make it anew.")
    assert str(settings.HOME) not in response.content.decode()
    assert api.get(path(run, "preview")).status_code == 200


def test_a_profile_has_the_shape_of_the_contract(api: Client, run: Run) -> None:
    produce(run, "SELECT range AS id, CASE WHEN range < 5 THEN NULL ELSE 'x' END AS name FROM range(10)")
    answer = api.get(path(run, "profile")).json()
    assert answer["schema"] == [{"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"}]
    assert answer["drift"] is None
    assert answer["lineage"] is None  # it has no inputs
    assert (answer["profile"]["row_count"], answer["profile"]["column_count"]) == (10, 2)
    assert isinstance(answer["profile"]["profiling_ms"], int)
    number, name = answer["profile"]["columns"]
    assert set(number) == {
        *("name", "type", "null_count", "null_pct", "unique_count", "unique_pct", "min_val", "max_val", "mean_val", "is_numeric", "sample_values"),
        "histogram",
    }
    assert (number["name"], number["is_numeric"], number["mean_val"], number["unique_count"]) == ("id", True, 4.5, 10)
    assert (name["null_count"], name["null_pct"], name["is_numeric"]) == (5, 50.0, False)


def test_drift_is_against_the_last_successful_run_before(api: Client, pipeline: Pipeline) -> None:
    hour = dt.timedelta(hours=1)
    produce(saved_run(pipeline, at=START), "SELECT 1 AS ancient")
    produce(saved_run(pipeline, at=START + hour), "SELECT 1 AS a, '1' AS b, 1 AS gone FROM range(4)")
    produce(saved_run(pipeline, RunStatus.FAILED, at=START + 2 * hour), "SELECT 1 AS failed")
    produce(saved_run(past_pipeline("other", "Other"), at=START + 2 * hour), "SELECT 1 AS other")
    run = saved_run(pipeline, RunStatus.FAILED, at=START + 3 * hour)
    produce(run, "SELECT CASE WHEN range < 3 THEN NULL ELSE 1 END AS a, 1 AS b, 1 AS fresh FROM range(6)")
    produce(saved_run(pipeline, at=START + 4 * hour), "SELECT 1 AS later")
    assert api.get(path(run, "profile")).json()["drift"] == {
        "added": ["fresh"],
        "removed": ["gone"],
        "retyped": [{"name": "b", "from": "VARCHAR", "to": "INTEGER"}],
        "null_rates": [{"name": "a", "from": 0.0, "to": 50.0, "change": 50.0}],
        "row_count": {"from": 4, "to": 6, "change": 2, "change_pct": 50.0},
        "has_changes": True,
    }


def test_there_is_no_drift_when_the_earlier_run_had_no_such_node(api: Client, pipeline: Pipeline) -> None:
    saved_run(pipeline, at=START - dt.timedelta(hours=1))
    run = saved_run(pipeline)
    produce(run, "SELECT 1 AS x")
    assert api.get(path(run, "profile")).json()["drift"] is None


def test_what_is_not_shown_is_not_loaded(api: Client, run: Run) -> None:
    produce(run, "SELECT 1 AS x")
    for what, spared, most in (("preview", ("profile",), 3), ("output", ("profile", "preview", "schema"), 3), ("profile", ("preview",), 5)):
        with CaptureQueriesContext(connection) as captured:
            response = api.get(path(run, what))
            b"".join(response)
        assert response.status_code == 200
        assert len(captured) <= most
        assert not [query for query in captured.captured_queries for column in spared if f'"runs_nodeoutput"."{column}"' in query["sql"]]
