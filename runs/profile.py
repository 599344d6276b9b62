"""A profile of an output, computed once when it is written, and the drift between two profiles.

Most of it costs nothing: Parquet's writer reports smallest, largest and null counts. One scan of the fresh file adds means,
distinct counts and histograms. Distinct counts are exact up to `_EXACT_CELLS` cells and HyperLogLog estimates above
(`unique_approximate` says so); histograms are counted on a sample of the file above `_SAMPLE_ROWS` rows (`histogram_sampled`).
"""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection
from duckdb.sqltypes import DuckDBPyType

from pipelines.expressions import quote
from runs.preview import clean

_EXACT_CELLS = 100_000
_SAMPLE_ROWS = 100_000
# Every count(DISTINCT) holds hash tables of megabytes, and planning many of them takes time that grows with their square.
_AGGREGATES_A_SCAN = 50
_BINS = 10
# A file may have thousands of columns. All get null counts, smallest and largest (free); the first so many get the rest.
_SCANNED_COLUMNS = 400
_HISTOGRAMS = 40
_LONGEST_VALUE = 200
_SAMPLES = 5

_INTEGERS = frozenset({"tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"})
_NUMERIC = _INTEGERS | {"float", "double", "decimal"}
_UNORDERED = frozenset({"list", "array", "struct", "map", "union", "blob", "interval"})


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """What the Parquet writer says of one column. None where it does not know."""

    null_count: int | None = None
    smallest: str | None = None
    largest: str | None = None


def statistics(reported: Mapping[str, Mapping[str, str]], columns: Sequence[str], row_count: int) -> list[WriterStatistics]:
    """Statistics by column from the `column_statistics` that `COPY … (RETURN_STATS)` answers."""
    return [_statistics(reported.get(quote(name), {}), row_count) for name in columns]


def _statistics(reported: Mapping[str, str], row_count: int) -> WriterStatistics:
    # A column whose values the writer did not count (an interval has none) has no null count either.
    counted = reported.get("num_values") == str(row_count) and "null_count" in reported
    exact = reported.get("min_is_exact") == reported.get("max_is_exact") == "true"
    return WriterStatistics(
        null_count=int(reported["null_count"]) if counted else None,
        smallest=reported["min"] if exact else None,
        largest=reported["max"] if exact else None,
    )


@dataclass(frozen=True, slots=True)
class _Measure:
    """What is asked of one column in the scan: SQL aggregates by the name of what they measure."""

    name: str
    kind: DuckDBPyType
    known: WriterStatistics
    aggregates: dict[str, str]


def measure(
    connection: DuckDBPyConnection,
    source: str,
    types: Sequence[tuple[str, DuckDBPyType]],
    row_count: int,
    known: Sequence[WriterStatistics],
    preview: Mapping[str, Any],
) -> dict[str, Any]:
    """The profile of the relation `source` (SQL), as the API answers it. Errors: `duckdb.Error`."""
    started = time.perf_counter()
    exact = row_count * len(types) <= _EXACT_CELLS
    measures = [
        _Measure(name, kind, known[index], _aggregates(quote(name), kind, known[index], exact=exact) if index < _SCANNED_COLUMNS else {})
        for index, (name, kind) in enumerate(types)
    ]
    found = _scan(connection, source, measures) if row_count else [{} for _ in measures]
    columns = [_column(item, values, row_count, _samples(preview, index)) for index, (item, values) in enumerate(zip(measures, found, strict=True))]
    sampled = row_count > _SAMPLE_ROWS
    _add_histograms(connection, source, measures, columns, row_count)
    return {
        "row_count": row_count,
        "column_count": len(types),
        "profiling_ms": round((time.perf_counter() - started) * 1000),
        "unique_approximate": not exact,
        "histogram_sampled": sampled,
        "scanned_columns": min(len(types), _SCANNED_COLUMNS),
        "columns": columns,
    }


def _aggregates(column: str, kind: DuckDBPyType, known: WriterStatistics, *, exact: bool) -> dict[str, str]:
    asked = {"unique_count": f"count(DISTINCT {column})" if exact else f"approx_count_distinct({column})"}
    if known.null_count is None:
        asked["null_count"] = f"count(*) - count({column})"
    if kind.id in _NUMERIC:
        asked["mean_val"] = f"avg({column})" if kind.id not in ("float", "double") else f"avg({column}) FILTER (isfinite({column}))"
    if known.smallest is None and kind.id not in _UNORDERED:
        asked["min_val"], asked["max_val"] = _extreme("min", column), _extreme("max", column)
    return asked


def _extreme(function: str, column: str) -> str:
    return f"left(CAST({function}({column}) AS VARCHAR), {_LONGEST_VALUE + 1})"


def _scan(connection: DuckDBPyConnection, source: str, measures: Sequence[_Measure]) -> list[dict[str, Any]]:
    asked = [aggregate for item in measures for aggregate in item.aggregates.values()]
    values: list[Any] = []
    for start in range(0, len(asked), _AGGREGATES_A_SCAN):
        some = ", ".join(asked[start : start + _AGGREGATES_A_SCAN])
        values.extend(connection.execute(f"SELECT {some} FROM {source}").fetchone() or ())  # noqa: S608 - quoted identifiers
    return _by_column(measures, values)


def _by_column(measures: Sequence[_Measure], found: Sequence[Any]) -> list[dict[str, Any]]:
    values = iter(found)
    return [{name: next(values) for name in item.aggregates} for item in measures]


def _column(item: _Measure, found: Mapping[str, Any], row_count: int, samples: list[str]) -> dict[str, Any]:
    nulls = item.known.null_count if item.known.null_count is not None else found.get("null_count")
    unique = found.get("unique_count", 0 if row_count == 0 else None)
    if unique is not None and nulls is not None:
        unique = min(unique, row_count - nulls)  # an estimate may exceed what is possible
    mean = found.get("mean_val")
    return {
        "name": item.name,
        "type": str(item.kind),
        "null_count": nulls,
        "null_pct": _percent(nulls, row_count),
        "unique_count": unique,
        "unique_pct": _percent(unique, row_count),
        "min_val": _shown(found.get("min_val", item.known.smallest), item.kind),
        "max_val": _shown(found.get("max_val", item.known.largest), item.kind),
        "mean_val": float(mean) if mean is not None and math.isfinite(mean) else None,
        "is_numeric": item.kind.id in _NUMERIC,
        "sample_values": samples,
        "histogram": None,
    }


def _shown(value: str | None, kind: DuckDBPyType) -> str | None:
    if value is None or kind.id in _UNORDERED:
        return None
    if kind.id == "boolean":
        return {"0": "false", "1": "true"}.get(value, value)
    value = clean(value)
    return value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…"


def _percent(part: int | None, whole: int) -> float | None:
    if part is None:
        return None
    return round(100 * part / whole, 2) if whole else 0.0


def _samples(preview: Mapping[str, Any], index: int) -> list[str]:
    """The first few different values, as text."""
    seen: dict[str, None] = {}
    for row in preview["rows"]:
        value = row[index]
        if value is not None:
            seen[(value if isinstance(value, str) else str(value))[:_LONGEST_VALUE]] = None
        if len(seen) == _SAMPLES:
            break
    return list(seen)


def _add_histograms(connection: DuckDBPyConnection, source: str, measures: Sequence[_Measure], columns: list[dict[str, Any]], row_count: int) -> None:
    """Fill in `histogram: [{low, high, count}]` (equal widths) of the first numeric columns."""
    edges: dict[int, list[float]] = {}
    for index, item in enumerate(measures):
        if item.kind.id in _NUMERIC and item.aggregates and len(edges) < _HISTOGRAMS:
            found = _edges(columns[index]["min_val"], columns[index]["max_val"])
            if found:
                edges[index] = found
    if not edges:
        return
    asked = [count for index, bounds in edges.items() for count in _bin_counts(quote(measures[index].name), bounds)]
    sample = f" TABLESAMPLE {max(0.01, 100 * _SAMPLE_ROWS / row_count):.4f}% (system, 42)" if row_count > _SAMPLE_ROWS else ""
    counts = iter(connection.execute(f"SELECT {', '.join(asked)} FROM {source}{sample}").fetchone() or ())  # noqa: S608 - quoted identifiers
    for index, bounds in edges.items():
        columns[index]["histogram"] = [{"low": low, "high": high, "count": next(counts)} for low, high in itertools.pairwise(bounds)]


def _edges(smallest: str | None, largest: str | None) -> list[float] | None:
    if smallest is None or largest is None:
        return None
    low, high = float(smallest), float(largest)
    width = (high - low) / _BINS
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(width)):
        return None
    if width <= 0 or low + width == low:
        return [low, high]
    return [low + width * step for step in range(_BINS)] + [high]


def _bin_counts(column: str, bounds: Sequence[float]) -> list[str]:
    """Each bin holds its lower bound; the last one holds its upper bound too."""
    last = len(bounds) - 2
    return [
        f"count(*) FILTER ({column} >= {low!r}::DOUBLE AND {column} {'<=' if index == last else '<'} {high!r}::DOUBLE)"
        for index, (low, high) in enumerate(itertools.pairwise(bounds))
    ]


def drift(current: Mapping[str, Any], previous: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What changed from one profile of a node's output to another; None when there is nothing to compare with.

    `{added: [name], removed: [name], retyped: [{name, from, to}], null_rates: [{name, from, to, change}] (percent),
    row_count: {from, to, change, change_pct}, has_changes}`. A null rate is listed when it moved by a percentage point or more.
    """
    if previous is None:
        return None
    now = {column["name"]: column for column in current["columns"]}
    before = {column["name"]: column for column in previous["columns"]}
    both = [name for name in now if name in before]
    retyped = [{"name": name, "from": before[name]["type"], "to": now[name]["type"]} for name in both if before[name]["type"] != now[name]["type"]]
    null_rates = [rate for name in both if (rate := _null_rate(name, before[name], now[name])) is not None]
    added = [name for name in now if name not in before]
    removed = [name for name in before if name not in now]
    rows_before, rows_now = previous["row_count"], current["row_count"]
    return {
        "added": added,
        "removed": removed,
        "retyped": retyped,
        "null_rates": null_rates,
        "row_count": {
            "from": rows_before,
            "to": rows_now,
            "change": rows_now - rows_before,
            "change_pct": round(100 * (rows_now - rows_before) / rows_before, 2) if rows_before else None,
        },
        "has_changes": bool(added or removed or retyped or null_rates or rows_now != rows_before),
    }


def _null_rate(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any] | None:
    if before["null_pct"] is None or now["null_pct"] is None or abs(now["null_pct"] - before["null_pct"]) < 1:
        return None
    return {"name": name, "from": before["null_pct"], "to": now["null_pct"], "change": round(now["null_pct"] - before["null_pct"], 2)}
