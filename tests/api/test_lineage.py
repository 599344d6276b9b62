"""`GET /api/lineage` and `/api/lineage/columns`."""

from typing import Any

import pytest
from django.test import Client

from pipelines import definitions
from pipelines.column_lineage import TracedInput, facts_of, identity
from pipelines.nodes.base import Column
from runs.models import NodeOutput, Run
from runs.states import RunStatus
from tests.factories import accept_run, end_run

pytestmark = pytest.mark.django_db

NODES = [
    {"id": "orders", "type": "source_file", "name": "Orders", "config": {"path": "orders.csv"}},
    {"id": "script", "type": "code", "name": "Script", "config": {"script": "pass"}},
    {"id": "sum", "type": "sql", "name": "Sum", "config": {"query": "SELECT land, sum(amount) AS total FROM input WHERE ok GROUP BY land"}},
    {"id": "load", "type": "sink_db", "name": "Load", "config": {"conn_id": "db", "table": "totals"}},
]
EDGES = [{"from": "orders", "to": "sum"}, {"from": "sum", "to": "load"}, {"from": "orders", "to": "script"}]
SOURCE = tuple(Column(name, "VARCHAR") for name in ("land", "amount", "ok"))
SUMS = tuple(Column(name, "VARCHAR") for name in ("land", "total"))


@pytest.fixture
def pipeline_id() -> str:
    return str(definitions.create({"name": "Totals", "pipeline_id": "totals", "nodes": NODES, "edges": EDGES}).pipeline.id)


def store(run: Run, node_id: str, columns: tuple[Column, ...], lineage: Any) -> None:
    schema = [{"name": one.name, "type": one.type} for one in columns]
    NodeOutput.objects.create(
        run=run,
        node_id=node_id,
        artifact="x",
        row_count=1,
        byte_count=1,
        schema=schema,
        preview=[],
        profile={},
        lineage=lineage,
        created_at=run.created_at,
    )


def succeed(pipeline_id: str) -> Run:
    run = accept_run(definitions.find(definitions.identify(pipeline_id)).pipeline)
    query = NODES[2]["config"]["query"]  # type: ignore[index]
    store(run, "orders", SOURCE, None)
    store(run, "script", SOURCE, None)
    store(run, "sum", SUMS, facts_of(query, [TracedInput("input", "orders", SOURCE)], ["land", "total"]))
    store(run, "load", SUMS, identity("sum", SUMS))
    return end_run(run, RunStatus.SUCCESS)


def test_the_whole(api: Client, pipeline_id: str) -> None:
    answer = api.get("/api/lineage")
    assert answer.status_code == 200
    found = answer.json()
    assert {node["id"]: node["type"] for node in found["nodes"]} == {
        "file:orders.csv": "file",
        f"proc:{pipeline_id}:script": "processing",
        f"proc:{pipeline_id}:sum": "processing",
        "table://db/totals": "table",
        "connection:db": "connection",
    }
    assert {"from": "file:orders.csv", "to": f"proc:{pipeline_id}:sum", "pipeline_id": pipeline_id, "pipeline": "Totals"} in found["edges"]
    assert set(found["nodes"][0]) >= {"id", "type", "name", "sub_type", "pipeline_id", "pipeline"}
    assert found["pending_pipelines"] == 0


def test_focus_and_depth(api: Client, pipeline_id: str) -> None:
    near = api.get("/api/lineage", {"asset": "table://db/totals", "depth": "1"}).json()
    assert {node["id"] for node in near["nodes"]} == {"table://db/totals", f"proc:{pipeline_id}:sum", "connection:db"}
    far = api.get("/api/lineage", {"asset": "table://db/totals"}).json()
    assert {node["id"] for node in far["nodes"]} == {*(node["id"] for node in near["nodes"]), "file:orders.csv"}
    assert api.get("/api/lineage", {"asset": "table://db/nothing"}).status_code == 404


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"asset": "x", "depth": "0"}, "depth"),
        ({"asset": "x", "depth": "21"}, "depth"),
        ({"asset": "x", "depth": "-1"}, "depth"),
        ({"asset": "x", "depth": "two"}, "depth"),
        ({"asset": "x", "depth": "9" * 400}, "depth"),
        ({"depth": "2"}, "depth"),
        ({"asset": ""}, "asset"),
        ({"asset": "x" * 1001}, "asset"),
        ({"asset": "a\0b"}, "asset"),
        ({"focus": "x"}, "focus"),
    ],
)
def test_wrong_parameters(api: Client, query: dict[str, str], parameter: str) -> None:
    answer = api.get("/api/lineage", query)
    assert answer.status_code == 400
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


def test_columns_from_end_to_end(api: Client, pipeline_id: str) -> None:
    run = succeed(pipeline_id)
    found = api.get("/api/lineage/columns", {"pipeline_id": "totals"}).json()
    assert (found["run_id"], found["pipeline_version"], found["message"], found["truncated"]) == (str(run.id), 1, "", False)
    land, total = found["columns"]
    assert total["assets"] == ["table://db/totals"] and total["column"] == "total"
    assert total["from"] == [{"node_id": "orders", "assets": ["file:orders.csv"], "column": "amount", "transformation": "aggregate"}]
    assert [(one["column"], one["transformation"]) for one in land["from"]] == [("land", "identity")]
    assert {one["column"] for one in found["rows"][0]["from"]} == {"ok", "land"}
    step = {"from": {"node_id": "orders", "column": "amount"}, "to": {"node_id": "sum", "column": "total"}, "transformation": "aggregate"}
    assert step in found["steps"]
    assert found["unknown"] == ["script"]


def test_columns_of_a_pipeline_that_has_not_run(api: Client, pipeline_id: str) -> None:
    end_run(accept_run(definitions.find(definitions.identify(pipeline_id)).pipeline), RunStatus.FAILED, "broken")
    found = api.get("/api/lineage/columns", {"pipeline_id": pipeline_id}).json()
    assert found["columns"] == found["rows"] == found["steps"] == [] and found["run_id"] is None
    assert "no successful run yet" in found["message"]


@pytest.mark.parametrize("query", [{}, {"pipeline_id": ""}, {"pipeline_id": "x" * 201}, {"pipeline": "x"}])
def test_columns_of_nothing(api: Client, query: dict[str, str]) -> None:
    assert api.get("/api/lineage/columns", query).status_code == 400


@pytest.mark.parametrize("key", ["nobody", "0198c5f0-0000-7000-8000-000000000009"])
def test_columns_of_a_pipeline_that_is_not_there(api: Client, key: str) -> None:
    assert api.get("/api/lineage/columns", {"pipeline_id": key}).status_code == 404
