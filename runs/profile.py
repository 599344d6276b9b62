"""A profile of an output, computed once when it is written, and the drift between two profiles.

Most of it costs nothing: Parquet's writer reports smallest, largest and null counts. One scan of the fresh file adds means,
distinct counts and histograms. Distinct counts are exact up to `_EXACT_CELLS` cells and HyperLogLog estimates above
(`unique_approximate` says so); histograms are counted on a sample of the file above `SAMPLE_ROWS` rows (`histogram_sampled`).
"""

import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection
from duckdb.sqltypes import DuckDBPyType

from pipelines.expressions import quote
from runs.measuring import FLOATS, LONGEST_VALUE, SAMPLE_ROWS, Answer, Measurer, Question, Rows, Scan
from runs.preview import Sample, clean, iso_time

_EXACT_CELLS = 100_000
_BINS = 10
# A file may have thousands of columns. All get null counts, smallest and largest (free); the first so many get the rest.
_SCANNED_COLUMNS = 400
_HISTOGRAMS = 40
_SAMPLES = 5

_INTEGERS = frozenset({"tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"})
_NUMERIC = _INTEGERS | FLOATS | {"decimal"}
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


def measure(
    connection: DuckDBPyConnection, source: str, row_count: int, known: Sequence[WriterStatistics], sample: Sample, shown: Mapping[str, Any]
) -> dict[str, Any]:
    """The profile of the relation `source` (SQL), as the API answers it; `shown` is its preview. Errors: `duckdb.Error`."""
    started = time.perf_counter()
    exact = row_count * len(sample.types) <= _EXACT_CELLS
    measurer: Measurer = Rows(sample) if sample.is_whole(row_count) else Scan(connection, source, row_count, exact)
    questions = [_question(index, name, kind, known[index]) for index, (name, kind) in enumerate(sample.types[:_SCANNED_COLUMNS])]
    answers = [*measurer.answers(questions), *({} for _ in sample.types[_SCANNED_COLUMNS:])]
    columns = [
        _column(name, kind, known[index], answers[index], row_count, _samples(shown, index)) for index, (name, kind) in enumerate(sample.types)
    ]
    _add_histograms(measurer, columns[:_SCANNED_COLUMNS])
    return {
        "row_count": row_count,
        "column_count": len(columns),
        "profiling_ms": round((time.perf_counter() - started) * 1000),
        "unique_approximate": not exact,
        "histogram_sampled": row_count > SAMPLE_ROWS,
        "scanned_columns": len(questions),
        "columns": columns,
    }


def _question(index: int, name: str, kind: DuckDBPyType, known: WriterStatistics) -> Question:
    return Question(
        index=index,
        name=name,
        family=kind.id,
        null_count=known.null_count is None,
        mean=kind.id in _NUMERIC,
        extremes=kind.id not in _UNORDERED and not _is_usable(known, kind),
    )


def _is_usable(known: WriterStatistics, kind: DuckDBPyType) -> bool:
    """Whether the writer's smallest and largest will do: of floats it counts infinities, too."""
    if known.smallest is None or known.largest is None:
        return False
    return kind.id not in FLOATS or (math.isfinite(float(known.smallest)) and math.isfinite(float(known.largest)))


def _column(name: str, kind: DuckDBPyType, known: WriterStatistics, found: Answer, row_count: int, samples: list[str]) -> dict[str, Any]:
    nulls = known.null_count if known.null_count is not None else found.get("null_count")
    unique = found.get("unique_count", 0 if row_count == 0 else None)
    if unique is not None and nulls is not None:
        unique = min(unique, row_count - nulls)  # an estimate may exceed what is possible
    mean = found.get("mean_val")
    return {
        "name": name,
        "type": str(kind),
        "null_count": nulls,
        "null_pct": _percent(nulls, row_count),
        "unique_count": unique,
        "unique_pct": _percent(unique, row_count),
        "min_val": _shown(found.get("min_val", known.smallest), kind),
        "max_val": _shown(found.get("max_val", known.largest), kind),
        "mean_val": float(mean) if mean is not None and math.isfinite(mean) else None,
        "is_numeric": kind.id in _NUMERIC,
        "sample_values": samples,
        "histogram": None,
    }


def _shown(value: str | None, kind: DuckDBPyType) -> str | None:
    if value is None or kind.id in _UNORDERED:
        return None
    if kind.id == "boolean":
        return {"0": "false", "1": "true"}.get(value, value)
    if kind.id.startswith("timestamp"):
        return iso_time(value)
    value = clean(value)
    return value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…"


def _percent(part: int | None, whole: int) -> float | None:
    if part is None:
        return None
    return round(100 * part / whole, 2) if whole else 0.0


def _samples(preview: Mapping[str, Any], index: int) -> list[str]:
    """The first few different values, as text: what is no text already as JSON."""
    seen: dict[str, None] = {}
    for row in preview["rows"]:
        value = row[index]
        if value is not None:
            seen[(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:LONGEST_VALUE]] = None
        if len(seen) == _SAMPLES:
            break
    return list(seen)


def _add_histograms(measurer: Measurer, columns: list[dict[str, Any]]) -> None:
    """Fill in `histogram: [{low, high, count}]` (equal widths) of the first numeric columns. Errors: `duckdb.Error`."""
    numeric = [(index, column) for index, column in enumerate(columns) if column["is_numeric"]]
    edges = {index: (column["name"], bounds) for index, column in numeric if (bounds := _edges(column["min_val"], column["max_val"]))}
    edges = dict(itertools.islice(edges.items(), _HISTOGRAMS))
    if not edges:
        return
    for (index, (_, bounds)), counts in zip(edges.items(), measurer.bins(edges), strict=True):
        columns[index]["histogram"] = [
            {"low": low, "high": high, "count": count} for (low, high), count in zip(itertools.pairwise(bounds), counts, strict=True)
        ]


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
