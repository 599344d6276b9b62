"""Which pipelines use what: rows in step with versions, for old pipelines too, and warnings of what does not exist."""

import importlib
from typing import Any

import pytest
from django.apps import apps
from pytest_django import DjangoAssertNumQueries

from pipelines import connections, definitions, used_by, variables
from pipelines.models import PipelineUse
from tests.factories import make_pipeline, sql_node

pytestmark = pytest.mark.django_db


def rows() -> set[tuple[str, str]]:
    return set(PipelineUse.objects.values_list("kind", "name"))


def test_rows_follow_the_versions() -> None:
    made = definitions.create({"name": "A", "nodes": [sql_node("a", "SELECT ${var.x}, ${secret.y}, $${var.not}", conn_id="db")]})
    assert rows() == {("variable", "x"), ("variable", "y"), ("connection", "db")}
    definitions.patch(made.pipeline.id, {"nodes": [sql_node("a", "SELECT ${var.x}, ${var.z}")]})
    assert rows() == {("variable", "x"), ("variable", "z")}
    definitions.rollback(made.pipeline.id, 1)
    assert rows() == {("variable", "x"), ("variable", "y"), ("connection", "db")}
    definitions.replace(made.pipeline.id, {"name": "A"})
    assert rows() == set()


def test_names_that_nothing_can_have_are_no_reason_to_refuse_a_pipeline() -> None:
    query = "SELECT " + ", ".join(f"${{var.v{number}}}" for number in range(3000)) + ", ${var." + "x" * 300 + "}"
    definitions.create({"name": "A", "nodes": [sql_node("a", query, conn_id="y" * 300)]})
    assert len(rows()) == 2000
    assert len(used_by.warnings({"name": "A", "nodes": [sql_node("a", query)]})) == 200


def test_pipelines_that_were_there_before_get_their_rows() -> None:
    make_pipeline([sql_node("a", "SELECT ${var.x}", conn_id="db")])
    make_pipeline([{"id": "b", "type": "no_such_type", "config": {"conn_id": "c"}}, {"nonsense": 1}])
    assert rows() == set()
    fill = importlib.import_module("pipelines.migrations.0005_fill_uses").fill
    for _ in range(2):
        fill(apps, None)
        assert rows() == {("variable", "x"), ("connection", "db")}


def test_names_that_do_not_exist_are_warned_of(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    variables.create("here", {"value": "x"})
    connections.create("db", {"type": "sqlite", "host": "x.db"})
    nodes: list[dict[str, Any]] = [
        sql_node("a", "SELECT ${var.here}, ${var.gone}", conn_id="db"),
        sql_node("b", "SELECT 1", conn_id="gone_db"),
    ]
    with django_assert_num_queries(2):
        found = [(problem.node_id, problem.field, problem.message, problem.pointer) for problem in used_by.warnings({"name": "A", "nodes": nodes})]
    assert [(node, field, pointer) for node, field, _, pointer in found] == [
        ("a", "query", "/nodes/0/config/query"),
        ("b", "conn_id", "/nodes/1/config/conn_id"),
    ]
    assert "'gone', which does not exist" in found[0][2]
    report = definitions.validate({"name": "A", "nodes": nodes})
    assert report.valid and {"gone", "gone_db"} <= {word for problem in report.warnings for word in problem.message.split("'")}


def test_a_variable_that_is_no_secret_is_warned_of() -> None:
    variables.create("here", {"value": "x"})
    (problem,) = used_by.warnings({"name": "A", "nodes": [sql_node("a", "SELECT ${secret.here}")]})
    assert "is no secret" in problem.message


def test_a_document_that_names_nothing_costs_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert used_by.warnings({"name": "A", "nodes": [sql_node("a", "SELECT 1")]}) == []
        assert used_by.warnings({"name": "A", "nodes": "nonsense"}) == []
