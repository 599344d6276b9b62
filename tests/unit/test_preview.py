"""Values of a preview survive JSON, whatever they are."""

import base64
import json
from typing import Any

import duckdb
import pytest

from runs import preview


@pytest.fixture(scope="module")
def engine() -> Any:
    with duckdb.connect(config={"legacy_disable_null_type": True}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def shown(engine: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    source = f"({sql})"
    (count,) = engine.execute(f"SELECT count(*) FROM {source}").fetchall()[0]
    found = preview.sample(engine, source, preview.types_of(engine, source)).shown(count)
    safe: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return safe


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("NULL", None),
        ("true", True),
        ("127::TINYINT", 127),
        ("9007199254740992", 9007199254740992),
        ("-9007199254740992", -9007199254740992),
        ("9007199254740993", "9007199254740993"),
        ("CAST('-9223372036854775808' AS BIGINT)", "-9223372036854775808"),
        ("18446744073709551615::UBIGINT", "18446744073709551615"),
        ("1::HUGEINT", "1"),
        ("1.50::DECIMAL(5, 2)", "1.50"),
        ("0.1::DOUBLE", 0.1),
        ("'nan'::DOUBLE", None),
        ("'-inf'::FLOAT", None),
        ("'Zoë 🥦'", "Zoë 🥦"),
        ("'a' || chr(0) || 'b'", "a␀b"),
        ("DATE '2024-02-29'", "2024-02-29"),
        ("TIMESTAMP '2024-01-15 06:00:00'", "2024-01-15T06:00:00"),
        ("TIMESTAMP '2024-01-15 06:00:00.123456'", "2024-01-15T06:00:00.123456"),
        ("TIMESTAMPTZ '2024-01-15 08:00:00+02'", "2024-01-15T06:00:00Z"),
        ("TIMESTAMP 'infinity'", "infinity"),
        ("TIMESTAMP '294247-01-01 00:00:00'", "294247-01-01T00:00:00"),
        ("TIME '06:00:00'", "06:00:00"),
        ("INTERVAL '1 month 2 days'", "1 month 2 days"),
        ("'00000000-0000-0000-0000-000000000001'::UUID", "00000000-0000-0000-0000-000000000001"),
        ("'\\xAB\\xCD'::BLOB", base64.b64encode(b"\xab\xcd").decode()),
        ("'x'::ENUM('x', 'y')", "x"),
        ("'101'::BIT", "101"),
        ("[1, NULL, 9007199254740993]", [1, None, "9007199254740993"]),
        ("[]::INTEGER[]", []),
        ("[1.5::DOUBLE, 'nan'::DOUBLE]::DOUBLE[2]", [1.5, None]),
        ("{'at': TIMESTAMPTZ '2024-01-15 06:00:00+00', 'n': {'d': 1.0::DECIMAL(2, 1)}}", {"at": "2024-01-15T06:00:00Z", "n": {"d": "1.0"}}),
        ("{'b': '\\xAB'::BLOB}", {"b": "qw=="}),
        ("MAP {1: 'x', 2: NULL}", {"1": "x", "2": None}),
        ("MAP {DATE '2024-01-15': [1]}", {"2024-01-15": [1]}),
        ("NULL::STRUCT(a INTEGER)", None),
        ("NULL::INTEGER[]", None),
        ("'{\"a\": 1}'::JSON", '{"a": 1}'),
    ],
)
def test_a_value_survives(engine: duckdb.DuckDBPyConnection, sql: str, value: object) -> None:
    assert shown(engine, f"SELECT {sql} AS v")["rows"] == [[value]]


def test_the_first_50_rows_in_order(engine: duckdb.DuckDBPyConnection) -> None:
    found = shown(engine, "SELECT i AS a, -i AS b FROM range(1000) t(i)")
    assert found["columns"] == ["a", "b"]
    assert found["rows"] == [[number, -number] for number in range(50)]
    assert (found["row_count"], found["truncated"]) == (1000, True)


def test_no_rows(engine: duckdb.DuckDBPyConnection) -> None:
    assert shown(engine, "SELECT 1 AS a WHERE false") == {"columns": ["a"], "rows": [], "row_count": 0, "truncated": False}


def test_long_values_are_cut_and_say_so(engine: duckdb.DuckDBPyConnection) -> None:
    (row,) = shown(engine, "SELECT repeat('é', 5000) AS t, repeat('x', 5000)::BLOB AS b, range(5000) AS l, 'short' AS s")["rows"]
    assert row[0] == "é" * 1000 + "…"
    assert len(base64.b64decode(row[1])) == 1000
    assert row[2].startswith("[0, 1, 2")
    assert row[2].endswith("…")
    assert row[3] == "short"


def test_enormous_values_do_not_reach_this_process(engine: duckdb.DuckDBPyConnection) -> None:
    source = "(SELECT repeat('x', 20_000_000) AS t FROM range(3))"
    sample = preview.sample(engine, source, preview.types_of(engine, source))
    assert [len(row[0]) for row in sample.rows] == [1001] * 3
    assert not sample.is_whole(3)


def test_a_wide_preview_stays_within_a_few_megabytes(engine: duckdb.DuckDBPyConnection) -> None:
    found = shown(engine, "SELECT " + ", ".join(f"repeat('x', 1000) AS c{number}" for number in range(500)) + " FROM range(60)")
    assert len(json.dumps(found)) < 4_000_000
    assert len(found["rows"][0]) == 500


def test_odd_names(engine: duckdb.DuckDBPyConnection) -> None:
    found = shown(engine, """SELECT 1 AS "quo""ted", 2 AS "ключ", {'in ner"': 3} AS "a b" """)
    assert found["columns"] == ['quo"ted', "ключ", "a b"]
    assert found["rows"] == [[1, 2, {'in ner"': 3}]]
