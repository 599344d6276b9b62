"""The pipelines that are shipped, and drafts with mistakes, against the real node types."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from brokoli_site.common import yaml
from pipelines.management.commands import load_examples

pytestmark = pytest.mark.django_db

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_imported_valid_and_exported_the_same(api: Client, path: Path) -> None:
    load_examples.connect()
    made = api.post("/api/pipelines/import", path.read_bytes(), content_type="application/yaml")
    assert made.status_code == 201, made.content
    url = made.headers["Location"]
    assert api.get(f"{url}/validate").json() == {"valid": True, "errors": [], "warnings": []}
    exported = api.get(f"{url}/export").content
    again = api.post("/api/pipelines/import?on_taken=replace", exported, content_type="application/yaml").json()
    changing = ("version", "updated_at")
    assert {**again, **dict.fromkeys(changing)} == {**made.json(), **dict.fromkeys(changing)}
    assert yaml.loads(exported)["pipeline_id"] == made.json()["pipeline_id"]


def errors_of(api: Client, *nodes: dict[str, Any], edges: str = "") -> list[tuple[str, str, int | None, int | None]]:
    pairs = [edge.split(">") for edge in edges.split()]
    body = {"name": "Draft", "nodes": list(nodes), "edges": [{"from": a, "to": b} for a, b in pairs]}
    report = api.post("/api/pipelines/validate", body, content_type="application/json").json()
    return [(error["node_id"], error["field"], error["line"], error["column"]) for error in report["errors"]]


SOURCE = {"id": "s", "type": "source_file", "config": {"path": "orders.csv", "columns": {"id": "BIGINT", "amount": "DOUBLE"}}}


def test_mistakes_are_found_where_they_are(api: Client) -> None:
    rules = [{"type": "filter_rows", "condition": "amount > 5"}, {"type": "add_column", "name": "gross", "expression": "amount *\n  vat"}]
    transform = {"id": "t", "type": "transform", "config": {"rules": rules}}
    assert errors_of(api, SOURCE, transform, edges="s>t") == [("t", "rules.1.expression", 2, 3)]
    rules[1]["expression"] = "amount * 1.19"
    query = {"id": "q", "type": "sql", "config": {"query": "SELECT id,\n  gross,\n  nett\nFROM input"}}
    assert errors_of(api, SOURCE, transform, query, edges="s>t t>q") == [("q", "query", 3, 3)]
    query["config"] = {"query": "SELECT id gross, FROM WHERE"}
    assert [error[:2] for error in errors_of(api, SOURCE, transform, query, edges="s>t t>q")] == [("q", "query")]


def test_a_draft_that_has_only_begun_says_what_is_missing(api: Client) -> None:
    nodes = [{"id": name, "type": name} for name in ("source_file", "transform", "sql", "join", "union", "quality_check", "sink_file")]
    found = errors_of(api, *nodes)
    assert {node_id for node_id, *_ in found} == {"source_file", "transform", "sql", "join", "union", "quality_check", "sink_file"}
    made = api.post("/api/pipelines", {"name": "Begun", "nodes": nodes}, content_type="application/json")
    assert made.status_code == 201
    refused = api.post(f"{made.headers['Location']}/run", {}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_pipeline")
    assert {error["node_id"] for error in refused.json()["errors"]} == {node_id for node_id, *_ in found}


def test_every_node_type_shows_a_schema_that_forms_can_use(api: Client) -> None:
    for found in api.get("/api/node-types").json():
        assert found["schema"]["type"] == "object", found["type"]
        assert found["label"]
        assert found["help"]
        missing = [name for name, about in found["schema"]["properties"].items() if not about.get("description")]
        assert not missing, (found["type"], missing)


def test_notes_that_the_sdk_writes_for_itself_are_no_doubt(api: Client) -> None:
    source = {"id": "s", "type": "source_db", "config": {"uri": "sqlite:///a.db", "query": "SELECT 1 AS a", "_schema_hint": "query_result"}}
    body = {"name": "Draft", "nodes": [source], "edges": []}
    assert api.post("/api/pipelines/validate", body, content_type="application/json").json() == {"valid": True, "errors": [], "warnings": []}
