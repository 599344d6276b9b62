"""Rules written as texts: what rule each is, and where its expression starts."""

from typing import Any

import pytest

from pipelines.expressions import ExpressionError
from pipelines.nodes.transform_strings import parse


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("drop_null(id)", {"type": "drop_null", "columns": ("id",)}),
        ("drop_null()", {"type": "drop_null", "columns": ()}),
        ("deduplicate(email, 'my name')", {"type": "deduplicate", "columns": ("email", "my name")}),
        ('DEDUP("a ""b""")', {"type": "deduplicate", "columns": ('a "b"',)}),
        ("filter(status in ('a', 'b') and x > 1)", {"type": "filter_rows", "condition": "status in ('a', 'b') and x > 1"}),
        ("filter(f(a) > g(b));", {"type": "filter_rows", "condition": "f(a) > g(b)"}),
        ("FILTER x > 0", {"type": "filter_rows", "condition": "x > 0"}),
        ("  where (a) or (b)  ", {"type": "filter_rows", "condition": "(a) or (b)"}),
        ("rename(a, b, c, d)", {"type": "rename_columns", "mapping": {"a": "b", "c": "d"}}),
        ("drop(a)", {"type": "drop_columns", "columns": ("a",)}),
        ("select(b, a)", {"type": "select", "columns": ("b", "a")}),
        ("sort(a)", {"type": "sort", "columns": ("a",), "ascending": (True,)}),
        ("sort(-a, b desc, 'c d' ASC)", {"type": "sort", "columns": ("a", "b", "c d"), "ascending": (False, False, True)}),
        ("limit(10)", {"type": "limit", "n": 10}),
        ("limit(${param.n})", {"type": "limit", "n": "${param.n}"}),
        ("cast(a, decimal(10, 2))", {"type": "cast", "column": "a", "to": "decimal(10, 2)", "on_error": "fail"}),
        ("fill_null(a, 'n/a')", {"type": "fill_null", "column": "a", "value": "n/a"}),
        ("fill_null(a, 1.5)", {"type": "fill_null", "column": "a", "value": 1.5}),
        ("fill_null(a, false)", {"type": "fill_null", "column": "a", "value": False}),
        ("replace(a, old, new)", {"type": "replace_values", "column": "a", "mapping": {"old": "new"}}),
        ("round(a, 2)", {"type": "apply_function", "column": "a", "function": "round", "digits": 2}),
        ("function(a, upper)", {"type": "apply_function", "column": "a", "function": "upper", "digits": 0}),
        ("total = price * quantity", {"type": "add_column", "name": "total", "expression": "price * quantity"}),
        ("add_column(t, concat(a, ', ', b))", {"type": "add_column", "name": "t", "expression": "concat(a, ', ', b)"}),
    ],
)
def test_what_rule_a_text_is(text: str, rule: dict[str, Any]) -> None:
    written = parse(text)
    assert written.rule.model_dump() == rule
    expression = rule.get("condition") or rule.get("expression")
    if expression:
        assert text[written.start :].startswith(expression)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("explode(a)", "is no rule"),
        ("a > 3", "is no rule"),
        ("a == 3", "is no rule"),
        ("f(a) > g(b)", "is no rule"),
        ("filter", "is no rule"),
        ("", "empty"),
        ("rename(a)", "takes 2 or more arguments, not 1"),
        ("rename(a, b, c)", "pairs"),
        ("limit(1, 2)", "takes 1 arguments, not 2"),
        ("limit(a)", "whole number"),
        ("fill_null(a, null)", "must be a text"),
        ("f(a)" + " " * 90_000 + "x", "is no rule"),
        ("sort(a" + " " * 90_000 + "b", "is no rule"),
        ("(" * 5_000, "nested"),
        ("x" * 200_000, "at most"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_rule(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=words) as caught:
        parse(text)
    assert len(caught.value.message) < 1_001
