"""The examples in `docs/expressions.md` are true."""

import re
from pathlib import Path

import pytest

from pipelines.expressions import ExpressionError, parse_scalar, quote
from pipelines.expressions.parser import cursor
from pipelines.nodes.base import Column
from pipelines.references import References

SCHEMA = tuple(
    Column(name, type_)
    for name, type_ in {
        "status": "VARCHAR",
        "country": "VARCHAR",
        "amount": "INTEGER",
        "price": "DOUBLE",
        "age": "VARCHAR",
        "first": "VARCHAR",
        "last": "VARCHAR",
        "active": "BOOLEAN",
        "day": "DATE",
        "tags": "VARCHAR[]",
        "note": "VARCHAR",
        "big": "VARCHAR",
    }.items()
)
ROW = "'paid', 'US', 100, 2.5::DOUBLE, '10', 'Ada', 'Lovelace', true, DATE '2024-03-01', ['a', 'b'], NULL::VARCHAR, '9007199254740993'"
REFERENCES = References(params={"least": 50, "name": "Ada' OR '1' = '1"})
LINE = re.compile(r"^\| `(?P<expression>.*)` \| (?P<result>.*) \|$", re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    text = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text()
    return [(match["expression"].replace("\\|", "|"), match["result"]) for match in LINE.finditer(text)]


def test_there_are_examples() -> None:
    assert len(examples()) > 50


@pytest.mark.parametrize(("expression", "result"), examples())
def test_example(expression: str, result: str) -> None:
    if result.startswith("error: "):
        with pytest.raises(ExpressionError) as caught:
            parse_scalar(expression, SCHEMA, REFERENCES)
        assert result.removeprefix("error: ").lower() in caught.value.message.lower()
        return
    sql = parse_scalar(expression, SCHEMA, REFERENCES).sql
    columns = ", ".join(quote(column.name) for column in SCHEMA)
    with cursor() as connection:
        found = connection.execute(f"SELECT {sql}, {result} FROM (VALUES ({ROW})) AS t({columns})").fetchone()
    assert found is not None
    assert found[0] == found[1]
