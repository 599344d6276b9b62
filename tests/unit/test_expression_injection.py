"""No value can become SQL, and no text can break the checker."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.expressions import ExpressionError, literal, parse_query, parse_scalar, quote
from pipelines.expressions.parser import cursor
from pipelines.nodes.base import Column
from pipelines.references import References

SCHEMA = (Column("a", "VARCHAR"), Column("b", "BIGINT"))
# What DuckDB and Python can both hold: no NUL, no half of a surrogate pair.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
HOSTILE = [
    "'",
    "''",
    "' OR '1'='1",
    "'; DROP TABLE x; --",
    "\\'",
    "$$",
    "$$a$$",
    "*/ 1 /*",
    "--",
    "\n",
    "${param.x}",
    "brokoli_reference_0_",
    "{{ ds }}",
    '"',
]
values = st.one_of(TEXTS, st.sampled_from(HOSTILE), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none())


def as_scalar(text: str) -> str:
    return parse_scalar(text, SCHEMA).sql


def as_query(text: str) -> str:
    return parse_query(text, {"input": SCHEMA}).sql


def result_of(sql: str) -> object:
    with cursor() as connection:
        row = connection.execute(f"SELECT {sql}").fetchone()
    assert row is not None
    return row[0]


@settings(max_examples=150, deadline=None)
@given(value=values)
def test_a_bare_reference_is_the_value(value: object) -> None:
    assert result_of(parse_scalar("${param.x}", SCHEMA, References(params={"x": value})).sql) == value


@settings(max_examples=150, deadline=None)
@given(value=TEXTS | st.sampled_from(HOSTILE), before=st.sampled_from(["", "it''s ", "x"]))
def test_a_reference_within_quotes_is_part_of_the_text(value: str, before: str) -> None:
    sql = parse_scalar(f"'{before}${{param.x}}!'", SCHEMA, References(params={"x": value})).sql
    assert result_of(sql) == before.replace("''", "'") + value + "!"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_reference_in_a_query_changes_no_structure(value: str) -> None:
    text = "SELECT x FROM (VALUES ('a'), ('b')) t(x) WHERE x = ${param.x} OR x = '${param.x}'"
    sql = parse_query(text, {}, References(params={"x": value})).sql
    with cursor() as connection:
        assert connection.execute(sql).fetchall() == []


@pytest.mark.parametrize(
    "text",
    ["a.${param.x} = 1", "${param.x}(a)", "a AS ${param.x}", "a::${param.x}", "a COLLATE ${param.x}", "${param.x}.b", "struct_pack(${param.x} := 1)"],
)
def test_a_reference_is_nothing_but_a_value(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_scalar(text, None, References(params={"x": "b"}))


@pytest.mark.parametrize(
    "text",
    ["SELECT * FROM ${param.x}", "SELECT 1 AS ${param.x}", "WITH ${param.x} AS (SELECT 1) SELECT 2", "SELECT * FROM input ${param.x}", "${param.x}"],
)
def test_a_reference_is_no_part_of_a_query_but_a_value(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_query(text, {"input": None}, References(params={"x": "input"}))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60) | st.text("ab01'\"()[]{},;.=<>!&|+-*/%$:@~^# \n\\", max_size=40))
def test_any_text_is_checked_or_refused(text: str) -> None:
    for check in (as_scalar, as_query):
        try:
            check(text)
        except ExpressionError as error:
            assert error.message
            assert error.line >= 1
            assert error.column >= 1


@settings(max_examples=150, deadline=None)
@given(value=TEXTS | st.sampled_from(HOSTILE) | st.integers(-(10**30), 10**30) | st.booleans() | st.none())
def test_a_literal_is_the_value(value: object) -> None:
    assert result_of(literal(value)) == value


@pytest.mark.parametrize("value", [dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 1, 2, 3), Decimal("1.50"), 0.1, 1e300])  # noqa: DTZ001
def test_literals_of_other_kinds(value: object) -> None:
    found = result_of(literal(value))
    assert (float(str(found)) if isinstance(value, float) else found) == value


@settings(max_examples=150, deadline=None)
@given(name=TEXTS.filter(bool) | st.sampled_from(HOSTILE))
def test_a_quoted_name_is_the_name(name: str) -> None:
    with cursor() as connection:
        result = connection.execute(f"SELECT 1 AS {quote(name)}")
        assert [column[0] for column in result.description or ()] == [name]


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
def test_what_no_name_can_be(name: str) -> None:
    with pytest.raises(ExpressionError):
        quote(name)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", [1], {"a": 1}, object()])
def test_what_no_literal_can_be(value: object) -> None:
    with pytest.raises(ExpressionError):
        literal(value)


MANY = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "(" * MANY,
        "(" * MANY + "1" + ")" * MANY,
        "(" * 5_000 + "1" + ")" * 5_000,
        "[" * 900,
        "{'a':" * 90 + "1" + "}" * 90,
        "not " * 20_000 + "a",
        "- " * 40_000 + "1",
        "a" + " + a" * 20_000,
        "a" + " || a" * 300,
        "a" + "::int" * 15_000,
        "a" + "[1]" * 20_000,
        "case when a then b else " * 3_000 + "1" + " end" * 3_000,
        "f(" * 99 + "1" + ")" * 99,
        "'" + "x" * MANY,
        "a" * 1_000_000,
        "1 + " * 250_000 + "1",
        "/*" * 20_000,
        "a.b" * 30_000,
        "${param.x}" * 9_000,
    ],
    ids=lambda text: f"{text[:12]}… {len(text)}",
)
def test_enormous_and_deep_texts_get_a_clean_answer(text: str) -> None:
    for check, whole in ((as_scalar, text), (as_query, f"SELECT {text}")):
        try:
            check(whole)
        except ExpressionError as error:
            assert len(error.message) < 5_000


@pytest.mark.parametrize("word", ["and", "or"])
def test_long_conditions_are_fine(word: str) -> None:
    text = f" {word} ".join(f"b = {number}" for number in range(3_000))
    assert parse_scalar(text, SCHEMA).columns == {"b"}
