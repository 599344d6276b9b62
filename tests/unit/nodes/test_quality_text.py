"""Quality rules as texts."""

import re
from pathlib import Path
from typing import get_args

import hypothesis.strategies as some
import pytest
from hypothesis import given
from pydantic import TypeAdapter

from pipelines.nodes.quality_rules import AnyRule, Rule
from pipelines.nodes.quality_text import parse_rule

RULES = [
    ("not_null(id)", {"rule": "not_null", "column": "id", "params": {}}),
    (" Not_Null ( id ) ", {"rule": "not_null", "column": "id", "params": {}}),
    ('not_null("my col, umn")', {"rule": "not_null", "column": "my col, umn", "params": {}}),
    ("not_null(it's)", {"rule": "not_null", "column": "it's", "params": {}}),
    ('not_null("a ""b""")', {"rule": "not_null", "column": 'a "b"', "params": {}}),
    ("unique(a, b)", {"rule": "unique", "column": ["a", "b"], "params": {}}),
    ("unique(it's, b)", {"rule": "unique", "column": ["it's", "b"], "params": {}}),
    ("min(age, 0)", {"rule": "min", "column": "age", "params": {"min": "0"}}),
    ("min(age, min=0)", {"rule": "min", "column": "age", "params": {"min": "0"}}),
    ("range(age, 0, 120)", {"rule": "range", "column": "age", "params": {"min": "0", "max": "120"}}),
    ("range(age, max=120)", {"rule": "range", "column": "age", "params": {"max": "120"}}),
    ("row_count(min=1, max=10)", {"rule": "row_count", "params": {"min": "1", "max": "10"}}),
    ("regex(mail, .*@.*\\..{2,})", {"rule": "regex", "column": "mail", "params": {"pattern": ".*@.*\\..{2,}"}}),
    ("regex(v, '^(a|b), c$')", {"rule": "regex", "column": "v", "params": {"pattern": "^(a|b), c$"}}),
    ("regex(v, pattern=x=y)", {"rule": "regex", "column": "v", "params": {"pattern": "x=y"}}),
    ("freshness(at, max_hours=24)", {"rule": "freshness", "column": "at", "params": {"max_hours": "24"}}),
    ("type_check(x, integer)", {"rule": "type_check", "column": "x", "params": {"expected_type": "integer"}}),
    ("accepted_values(s, a, 'b, c')", {"rule": "accepted_values", "column": "s", "params": {"values": ["a", "b, c"]}}),
    ("accepted_values(s, [a, b])", {"rule": "accepted_values", "column": "s", "params": {"values": ["a", "b"]}}),
    ("foreign_key(c, customers.id)", {"rule": "foreign_key", "column": "c", "params": {"references": "customers.id"}}),
    ("expression(a = 'x, y' and f(b) > 0)", {"rule": "expression", "params": {"expression": "a = 'x, y' and f(b) > 0"}}),
    ("not_null(id, on_failure=warn)", {"rule": "not_null", "column": "id", "params": {}, "on_failure": "warn"}),
    ("row_count(min=1, on_failure='block')", {"rule": "row_count", "params": {"min": "1"}, "on_failure": "block"}),
]
WRONG = [
    ("not_null", "is not a rule"),
    ("not_null(id", "is not a rule"),
    ("", "is not a rule"),
    ("shiny(id)", "has the unknown rule 'shiny'"),
    ("not_null()", "needs the name of a column"),
    ("not_null(a, b)", "arguments too many"),
    ("min(x)", "says too little; write it as min(column, min)"),
    ("min(min=1, x)", "stands behind an argument with a name"),
    ("regex(x)", "needs a pattern"),
    ("row_count(1)", "takes its limits by name"),
    ("unique(a,,b)", "has an empty argument"),
    ("unique(a,)", "has an empty argument"),
]


@pytest.mark.parametrize(("text", "expected"), RULES)
def test_a_rule_is_read(text: str, expected: dict[str, object]) -> None:
    assert parse_rule(text) == expected


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_no_rule_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        parse_rule(text)


@given(some.text(max_size=60), some.sampled_from(["unique", "min", "regex", "row_count", "accepted_values", "expression", "nope"]))
def test_any_text_is_read_or_refused(inside: str, rule: str) -> None:
    try:
        found = parse_rule(f"{rule}({inside})")
    except ValueError as error:
        assert str(error)
    else:
        assert found["rule"] == rule


def documented_rules() -> list[str]:
    """The second column of the table in the documentation."""
    page = (Path(__file__).parents[3] / "docs" / "quality-checks.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row[1])]


def test_every_rule_is_documented_with_a_text_that_works() -> None:
    rules = TypeAdapter(Rule)
    named = {rules.validate_python(text).rule for text in documented_rules()}
    known = {kind.model_fields["rule"].annotation.__args__[0] for kind in get_args(AnyRule)}
    assert named == known
