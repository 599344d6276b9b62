"""What is known of a transform before it runs, and what finding it out costs."""

import time
from typing import Any

import pytest

from pipelines import validation
from pipelines.nodes.base import Column, Schema
from pipelines.nodes.transform import Transform
from pipelines.spec import NodeSpec

ORDERS = (Column("id", "BIGINT"), Column("name", "VARCHAR"), Column("amount", "DOUBLE"))


def analyse(rules: list[Any], schema: Schema | None) -> Any:
    transform, document = Transform(), {"rules": rules}
    config = Transform.Config.model_validate(transform.normalise(document))
    return transform.analyse(NodeSpec("n", "transform", "N", document), config, [schema])


def test_the_schema_is_known_to_the_type() -> None:
    found = analyse([{"type": "add_column", "name": "x", "expression": "id * 2"}], ORDERS)
    assert found.problems == ()
    assert found.schema == (*ORDERS, Column("x", "BIGINT"))


def test_columns_that_rules_name_are_known_whatever_the_input_is() -> None:
    found = analyse([{"type": "select", "columns": ["a", "b"]}, {"type": "filter", "condition": "c > 1"}], None)
    assert [(problem.field, problem.line, problem.column) for problem in found.problems] == [("rules.1.condition", 1, 1)]
    assert found.schema is None


def test_all_problems_are_found_at_once() -> None:
    found = analyse(["drop(x)", {"type": "filter", "condition": "y > 1"}, {"type": "sort", "columns": ["id", "z"]}], ORDERS)
    assert [problem.field for problem in found.problems] == ["rules.0.expression", "rules.1.condition", "rules.2.columns"]


def test_a_word_that_resembles_a_column_is_a_warning() -> None:
    found = analyse([{"type": "filter", "condition": "name == amounts"}], ORDERS)
    assert [(problem.severity, problem.field, problem.column) for problem in found.problems] == [("warning", "rules.0.condition", 9)]
    assert found.schema == ORDERS


def test_a_column_that_only_the_run_names_leaves_the_rest_unknown() -> None:
    found = analyse([{"type": "drop", "columns": "${param.c}"}, {"type": "filter", "condition": "whatever > 1"}], ORDERS)
    assert found.problems == ()
    assert found.schema is None


WIDE = tuple(Column(f"c{number}", "VARCHAR") for number in range(2_000))


@pytest.mark.parametrize(
    ("rules", "schema"),
    [
        ([{"type": "add_column", "name": f"c{n}", "expression": f"c{n - 1} + 1" if n else "id + 1"} for n in range(60)], ORDERS),
        ([{"type": "drop", "columns": [f"{column.name}zz" for column in WIDE]}], WIDE),
        ([{"type": "rename", "mapping": {column.name: f"{column.name}_" for column in WIDE}}], WIDE),
    ],
    ids=["each column of the one before", "two thousand misses", "two thousand names"],
)
def test_large_rules_are_looked_at_in_reasonable_time(rules: list[Any], schema: Schema) -> None:
    started = time.process_time()
    analyse(rules, schema)
    assert time.process_time() - started < 2


def test_one_rule_that_cannot_be_read_hides_nothing_that_is_wrong_with_the_others() -> None:
    rules = [
        {"type": "filter", "condition": "nope > 1"},
        {"type": "filterz"},
        {"type": "filter", "condition": "unknown_from_here > 1"},
        {"type": "add_column", "name": "b", "expression": "a +"},
        {"type": "limit", "n": "${param.n}"},
        "foo(",
    ]
    nodes = [
        {"id": "s", "type": "source_file", "config": {"path": "a.csv", "columns": {"a": "int"}}},
        {"id": "t", "type": "transform", "config": {"rules": rules}},
    ]
    errors = validation.validate({"name": "p", "nodes": nodes, "edges": [{"from": "s", "to": "t"}]}).errors
    assert [(problem.field, problem.line) for problem in errors] == [
        ("rules.1.type", None),
        ("rules.0.condition", 1),
        ("rules.3.expression", 1),
        ("rules.5.expression", 1),
    ]
    assert errors[2].pointer == "/nodes/1/config/rules/3/expression"
