"""The expression language: what each form means, and what is refused, as tables. Meaning is what DuckDB makes of the SQL."""

import pytest

from pipelines.expressions import ExpressionError, literal, parse_scalar, quote
from pipelines.expressions.parser import cursor
from pipelines.nodes.base import Column
from pipelines.references import References

SCHEMA = (
    Column("status", "VARCHAR"),
    Column("country", "VARCHAR"),
    Column("amount", "INTEGER"),
    Column("age", "VARCHAR"),
    Column("first", "VARCHAR"),
    Column("last", "VARCHAR"),
    Column("active", "BOOLEAN"),
    Column("day", "DATE"),
    Column("tags", "VARCHAR[]"),
    Column("note", "VARCHAR"),
)
ROW = "'paid', 'US', 100, '10', 'Ada', 'Lovelace', true, DATE '2024-03-01', ['a', 'b'], NULL"


def value_of(text: str, references: References | None = None) -> object:
    sql = parse_scalar(text, SCHEMA, references).sql
    columns = ", ".join(quote(column.name) for column in SCHEMA)
    with cursor() as connection:
        row = connection.execute(f"SELECT {sql} FROM (VALUES ({ROW})) AS t({columns})").fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("status == paid", True),
        ("status == 'paid'", True),
        ("status != deleted", True),
        ("country in [US, DE]", True),
        ("country not in [US, DE]", False),
        ("first + ' ' + last", "Ada Lovelace"),
        ("amount + 1", 101),
        ("amount >= 100", True),
        ("age > 9", True),  # as texts, '10' is less than '9'
        ("9 < age and age < 11", True),
        ("age between 9 and 11", True),
        ("age in (10, 11)", True),
        ("age * 2", 20.0),
        ("status == paid and amount > 5 or not active", True),
        ("status == paid && amount > 500", False),
        ("!active", False),
        ("note is null", True),
        ("note == null", True),
        ("note != null", False),
        ("status contains ai", True),
        ("status not contains 'ai'", False),
        ("status starts_with pa", True),
        ("status ends_with 'x'", False),
        ("contains(status, 'ai')", True),
        ("day >= 2024-01-01", True),
        ("'a' || amount", "a100"),
        ("list_transform(tags, x -> x || '!')", ["a!", "b!"]),
        ("note > 3", None),
        ("status > 3", None),  # no number: as NULL
    ],
)
def test_what_an_expression_means(text: str, value: object) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("amout > 1", 1, 1, 'Unknown column "amout"; did you mean "amount"?'),
        ("amount >\n  1 and bad > 2", 2, 9, 'Unknown column "bad"'),
        ("status = paid and amount > 1", 1, 10, 'Unknown column "paid"'),
        ("uppr(status)", 1, 1, 'Unknown function "uppr"; did you mean "upper"?'),
        ("amount >", 1, 8, "Syntax error"),
        ("status == 'é' and )", 1, 19, "Syntax error"),
        ("status == ${param.none}", 1, 11, "the run has no parameter none"),
    ],
)
def test_an_error_says_what_and_where(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_scalar(text, SCHEMA, References())
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(("value", "sql"), [("it's", "'it''s'"), (1, "1"), (None, "NULL"), (True, "TRUE"), (1.5, "1.5")])
def test_literal(value: object, sql: str) -> None:
    assert literal(value) == sql


@pytest.mark.parametrize(("name", "sql"), [("a", '"a"'), ('a"b', '"a""b"'), ("select", '"select"'), ("größe", '"größe"')])
def test_quote(name: str, sql: str) -> None:
    assert quote(name) == sql
