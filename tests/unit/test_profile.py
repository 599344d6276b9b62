"""A profile says the same whether DuckDB was asked or the rows were counted here; drift compares two of them."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from runs import measuring, preview, profile

KINDS = """SELECT i AS id, CASE WHEN i % 3 = 0 THEN NULL ELSE 'name ' || (i % 4) END AS name, i / 4 AS share, (i * 1.5)::DECIMAL(9, 2) AS price,
    i % 2 = 0 AS even, DATE '2024-01-01' + i::INTEGER AS day, TIMESTAMPTZ '2024-01-01 00:00:00+00' + INTERVAL (i) HOUR AS at, [i % 2] AS list,
    {'a': i % 3} AS record, 'ab'::BLOB AS bytes, CAST(NULL AS INTEGER) AS nothing, 7 AS same, INTERVAL (i) DAY AS span,
    CASE i WHEN 1 THEN 'nan'::DOUBLE WHEN 2 THEN 'inf'::DOUBLE ELSE i END AS odd, md5(i::VARCHAR)::UUID AS u, TIME '10:00:00' AS t"""


@pytest.fixture
def engine() -> Any:
    with duckdb.connect(config={"legacy_disable_null_type": True}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def measured(engine: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str) -> dict[str, Any]:
    """The profile of a file written as the engine writes it."""
    path = tmp_path / "a.parquet"
    result = engine.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet, RETURN_STATS)")
    reported = dict(zip([column[0] for column in result.description or ()], result.fetchall()[0], strict=True))
    source, count = f"read_parquet('{path}')", reported["count"]
    sample = preview.sample(engine, source, preview.types_of(engine, source))
    known = profile.statistics(reported["column_statistics"], [name for name, _ in sample.types], count)
    found = profile.measure(engine, source, count, known, sample, sample.shown(count))
    safe: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return safe


def column(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(column for column in found["columns"] if column["name"] == name)


def test_a_profile_of_a_few_rows(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    found = measured(engine, tmp_path, f"{KINDS} FROM range(10) t(i)")
    assert (found["row_count"], found["column_count"], found["unique_approximate"]) == (10, 16, False)
    assert column(found, "name") == {
        "name": "name",
        "type": "VARCHAR",
        "null_count": 4,
        "null_pct": 40.0,
        "unique_count": 4,
        "unique_pct": 40.0,
        "min_val": "name 0",
        "max_val": "name 3",
        "mean_val": None,
        "is_numeric": False,
        "sample_values": ["name 1", "name 2", "name 0", "name 3"],
        "histogram": None,
    }
    number = column(found, "id")
    at, record, even = column(found, "at"), column(found, "record"), column(found, "even")
    assert (at["min_val"], at["max_val"], at["sample_values"][0]) == ("2024-01-01T00:00:00Z", "2024-01-01T09:00:00Z", "2024-01-01T00:00:00Z")
    assert (record["sample_values"], even["sample_values"]) == (['{"a": 0}', '{"a": 1}', '{"a": 2}'], ["true", "false"])
    assert (number["min_val"], number["max_val"], number["mean_val"], number["unique_count"], number["is_numeric"]) == ("0", "9", 4.5, 10, True)
    assert [part["count"] for part in number["histogram"]] == [1] * 10
    assert column(found, "even")["min_val"] == "false"
    assert column(found, "nothing")["null_pct"] == 100.0
    assert column(found, "same")["histogram"] == [{"low": 7.0, "high": 7.0, "count": 10}]
    assert (column(found, "odd")["mean_val"], column(found, "odd")["max_val"]) == (5.25, "9.0")


def test_counting_here_and_asking_duckdb_agree(engine: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = f"{KINDS} FROM range(50) t(i)"
    counted = measured(engine, tmp_path, sql)
    monkeypatch.setattr(preview.Sample, "is_whole", lambda sample, row_count: False)
    asked = measured(engine, tmp_path, sql)
    for here, there in zip(counted["columns"], asked["columns"], strict=True):
        mean = there.pop("mean_val")
        assert here.pop("mean_val") == (None if mean is None else pytest.approx(mean))
        assert here == there


def test_no_rows(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    found = measured(engine, tmp_path, f"{KINDS} FROM range(0) t(i)")
    assert {(one["null_count"], one["null_pct"], one["unique_count"], one["min_val"], one["mean_val"]) for one in found["columns"]} == {
        (0, 0.0, 0, None, None)
    }


def test_many_rows_are_estimated_and_sampled_and_say_so(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    found = measured(engine, tmp_path, "SELECT i AS id, i % 1000 AS k, 'u' || (i % 100) AS name FROM range(400_000) t(i)")
    assert (found["unique_approximate"], found["histogram_sampled"]) == (True, True)
    assert column(found, "id")["unique_count"] == pytest.approx(400_000, rel=0.1)
    assert column(found, "id")["unique_count"] <= 400_000
    assert column(found, "k")["unique_count"] == pytest.approx(1000, rel=0.1)
    counts = [part["count"] for part in column(found, "id")["histogram"]]
    assert len(counts) == 10
    assert sum(counts) == pytest.approx(measuring.SAMPLE_ROWS, rel=0.3)


def test_thousands_of_columns_are_bounded(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    found = measured(engine, tmp_path, "SELECT " + ", ".join(f"i + {number} AS c{number}" for number in range(2000)) + " FROM range(60) t(i)")
    assert found["column_count"] == len(found["columns"]) == 2000
    assert found["scanned_columns"] < 2000
    last = found["columns"][-1]
    assert (last["min_val"], last["max_val"], last["null_count"]) == ("1999", "2058", 0)
    assert last["unique_count"] is None


def test_enormous_texts_are_cut(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    found = measured(engine, tmp_path, "SELECT repeat(chr(97 + i::INTEGER), 5_000_000) AS t FROM range(3) t(i)")
    assert column(found, "t")["min_val"] == "a" * 200 + "…"
    assert column(found, "t")["unique_count"] == 3
    assert len(json.dumps(found)) < 5_000


@pytest.mark.parametrize(
    "value", ["1e308 + 0 * i", "CASE WHEN i = 0 THEN -1e308 ELSE 1e308 END", "1e-320 * i", "9223372036854775807 - i", "-0.0 * i"]
)
def test_extreme_numbers_break_no_histogram(engine: duckdb.DuckDBPyConnection, tmp_path: Path, value: str) -> None:
    measured(engine, tmp_path, f"SELECT {value} AS v FROM range(60) t(i)")
    measured(engine, tmp_path, f"SELECT {value} AS v FROM range(5) t(i)")


# --- drift ---


def snapshot(row_count: int = 100, **columns: tuple[str, float]) -> dict[str, Any]:
    return {"row_count": row_count, "columns": [{"name": name, "type": kind, "null_pct": nulls} for name, (kind, nulls) in columns.items()]}


def test_nothing_to_compare_with() -> None:
    assert profile.drift(snapshot(), None) is None


def test_nothing_changed() -> None:
    found = profile.drift(snapshot(a=("BIGINT", 1.0)), snapshot(a=("BIGINT", 1.5)))
    assert found is not None
    assert not found["has_changes"]
    assert found["row_count"] == {"from": 100, "to": 100, "change": 0, "change_pct": 0.0}


def test_everything_changed() -> None:
    before = snapshot(100, gone=("BIGINT", 0), kept=("BIGINT", 0), emptied=("DATE", 2.5))
    now = snapshot(150, kept=("VARCHAR", 0), emptied=("DATE", 50.0), new=("BIGINT", 0))
    assert profile.drift(now, before) == {
        "added": ["new"],
        "removed": ["gone"],
        "retyped": [{"name": "kept", "from": "BIGINT", "to": "VARCHAR"}],
        "null_rates": [{"name": "emptied", "from": 2.5, "to": 50.0, "change": 47.5}],
        "row_count": {"from": 100, "to": 150, "change": 50, "change_pct": 50.0},
        "has_changes": True,
    }


def test_rows_after_none() -> None:
    found = profile.drift(snapshot(5), snapshot(0))
    assert found is not None
    assert found["row_count"] == {"from": 0, "to": 5, "change": 5, "change_pct": None}
