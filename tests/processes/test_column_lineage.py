"""Which columns come from which is kept with the output of each node, shown with its profile, and there in a run that resumes another."""

from typing import Any

import pytest
from django.test import Client

from runs.models import NodeOutput, Run
from tests.conftest import StartWorker
from tests.factories import accept_run, make_pipeline, sql_node

pytestmark = [pytest.mark.slow, pytest.mark.any_database]

ORDERS = "SELECT * FROM (VALUES (1, 'DE', 5.0), (2, 'US', 7.0)) t(id, country, amount)"


def _node(node_id: str, node_type: str, **config: Any) -> dict[str, object]:
    return {"id": node_id, "type": node_type, "name": node_id, "config": config}


def _column(name: str) -> dict[str, Any]:
    return {"op": "column", "path": [name]}


NODES = [
    sql_node("orders", ORDERS),
    sql_node("names", "SELECT 'DE' AS country, 'Germany' AS name"),
    _node("large", "filter", predicate={"op": "gt", "left": _column("amount"), "right": {"op": "literal", "value": 1}}),
    _node("checked", "quality_check", rules=["not_null(id)"]),
    _node("named", "join", join_type="left", left_key="country"),
    _node("gross", "transform", rules=[{"type": "add_column", "name": "gross", "expression": "amount * 1.19"}, {"type": "drop", "columns": ["id"]}]),
    _node("shaped", "project", projections=[{"name": "land", "expr": _column("name")}, {"name": "gross", "expr": _column("gross")}]),
    _node("both", "union"),
    _node("totals", "aggregate", group_by=["land"], agg_fields=[{"column": "gross", "function": "sum", "alias": "total"}]),
    _node("file", "sink_file", path="totals.csv"),
    _node("script", "code", script="output_data = {'columns': ['x'], 'rows': [{'x': 1}]}"),
    _node("strict", "quality_check", rules=["row_count(min=99)"]),
]
EDGES = [("orders", "large"), ("large", "checked"), ("checked", "named"), ("names", "named"), ("named", "gross"), ("gross", "shaped")]
EDGES += [("shaped", "both"), ("shaped", "totals"), ("totals", "file"), ("totals", "script"), ("totals", "strict")]


def _told(run: Run) -> dict[str, Any]:
    """`{node: {column: "node.column, …"}}` and under `/` what decides about the rows; None where nothing is known."""
    return {output.node_id: _short(output.lineage) for output in NodeOutput.objects.filter(run=run)}


def _short(lineage: Any) -> Any:
    if lineage is None:
        return None
    columns = {one["column"]: ", ".join(f"{entry['node_id']}.{entry['column']}" for entry in one["from"]) for one in lineage["columns"]}
    rows = ", ".join(f"{entry['node_id']}.{entry['column']} {'+'.join(entry['by'])}" for entry in lineage["indirect"])
    return columns | ({"/": rows} if rows else {})


EXPECTED = {
    "orders": None,
    "names": None,
    "large": {"id": "orders.id", "country": "orders.country", "amount": "orders.amount", "/": "orders.amount filter"},
    "checked": {"id": "large.id", "country": "large.country", "amount": "large.amount"},
    "named": {
        "id": "checked.id",
        "country": "checked.country",
        "amount": "checked.amount",
        "name": "names.name",
        "/": "checked.country join, names.country join",
    },
    "gross": {"country": "named.country", "amount": "named.amount", "name": "named.name", "gross": "named.amount"},
    "shaped": {"land": "gross.name", "gross": "gross.gross"},
    "both": {"land": "shaped.land", "gross": "shaped.gross"},
    "totals": {"land": "shaped.land", "total": "shaped.gross", "/": "shaped.land group_by+sort"},
    "file": {"land": "totals.land", "total": "totals.total"},
    "script": None,
}


def test_each_node_says_where_its_columns_come_from(start_worker: StartWorker) -> None:
    api = Client(headers={"host": "localhost:8080"})
    run = accept_run(make_pipeline(NODES, EDGES))
    assert start_worker("--drain").wait(60) == 0
    assert _told(run) == EXPECTED
    shown = api.get(f"/api/runs/{run.id}/nodes/totals/profile").json()["lineage"]
    assert shown == NodeOutput.objects.get(run=run, node_id="totals").lineage
    assert shown["columns"][1] == {"column": "total", "from": [{"node_id": "shaped", "column": "gross"}], "transformation": "aggregate"}

    answer = api.post(f"/api/runs/{run.id}/resume", content_type="application/json")
    assert answer.status_code == 202, answer.content
    resumed = answer.json()["id"]
    assert start_worker("--drain").wait(60) == 0
    assert _told(Run.objects.get(id=resumed)) == EXPECTED
