"""The two ways to measure a data set: asking DuckDB, or counting its rows here. Both give the same answers.

DuckDB takes milliseconds to plan what a handful of rows takes microseconds to count, and most outputs that people look at
while they build a pipeline are a handful of rows.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from duckdb import DuckDBPyConnection

from pipelines.expressions import quote
from runs.preview import Sample

FLOATS = frozenset({"float", "double"})
LONGEST_VALUE = 200
SAMPLE_ROWS = 100_000  # that histograms are counted on
# Every count(DISTINCT) holds hash tables of megabytes, and planning many of them takes time that grows with their square.
_AGGREGATES_A_SCAN = 50


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one column. `family` is the id of its DuckDB type."""

    index: int
    name: str
    family: str
    null_count: bool
    mean: bool
    extremes: bool


# unique_count, and as asked null_count (numbers), mean_val (a number), min_val and max_val (texts). NaN and infinities
# count as values, but have no part in means and extremes.
Answer = Mapping[str, Any]


class Measurer(Protocol):
    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """One a question."""

    def bins(self, edges: Mapping[int, tuple[str, Sequence[float]]]) -> list[list[int]]:
        """How many values of each column (index: name, edges) lie between which edges; the last bin holds its upper edge."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Counts the rows of a sample that has them all."""

    sample: Sample

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        return [self._answer(question) for question in questions]

    def bins(self, edges: Mapping[int, tuple[str, Sequence[float]]]) -> list[list[int]]:
        return [_count(self._numbers(index), bounds) for index, (_, bounds) in edges.items()]

    def _answer(self, question: Question) -> Answer:
        cells = [row[question.index] for row in self.sample.rows]
        values = [cell for cell in cells if not _is_null(cell)]
        answer: dict[str, Any] = {"unique_count": len({_identity(value) for value in values}), "null_count": len(cells) - len(values)}
        if question.mean:
            numbers = self._numbers(question.index)
            answer["mean_val"] = math.fsum(number / len(numbers) for number in numbers) if numbers else None
        if question.extremes:
            ordered = [value for value in values if not isinstance(value, float) or math.isfinite(value)]
            answer["min_val"], answer["max_val"] = (str(min(ordered)), str(max(ordered))) if ordered else (None, None)
        return answer

    def _numbers(self, index: int) -> list[float]:
        """The finite values. Decimals come as text."""
        numbers = [float(row[index]) for row in self.sample.rows if row[index] is not None]
        return [number for number in numbers if math.isfinite(number)]


def _is_null(cell: Any) -> bool:
    return cell is None or (isinstance(cell, dict) and cell["value"] is None and cell["text"] is None)


def _identity(value: Any) -> Any:
    """What is equal for equal values: NaN equals itself here, as it does in SQL's DISTINCT."""
    if isinstance(value, dict | list) or (isinstance(value, float) and math.isnan(value)):
        return repr(value)
    return value


def _count(numbers: Sequence[float], bounds: Sequence[float]) -> list[int]:
    last = len(bounds) - 2
    return [
        sum(low <= number < high or (index == last and number == high) for number in numbers)
        for index, (low, high) in enumerate(itertools.pairwise(bounds))
    ]


@dataclass(frozen=True, slots=True)
class Scan:
    """Asks DuckDB about the relation `source` (SQL). `exact`: count different values, do not estimate (HyperLogLog)."""

    connection: DuckDBPyConnection
    source: str
    row_count: int
    exact: bool

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Errors: `duckdb.Error`."""
        asked = [self._aggregates(question) for question in questions]
        found = iter(self._select([sql for aggregates in asked for sql in aggregates.values()]))
        return [{name: next(found) for name in aggregates} for aggregates in asked]

    def bins(self, edges: Mapping[int, tuple[str, Sequence[float]]]) -> list[list[int]]:
        """Of a sample, when there are many rows. Errors: `duckdb.Error`."""
        asked = [_bin_counts(quote(name), bounds) for name, bounds in edges.values()]
        bins = [len(bounds) - 1 for _, bounds in edges.values()]
        share = 100 * SAMPLE_ROWS / max(1, self.row_count)
        found = self._select(asked, f" TABLESAMPLE {max(0.01, share):.4f}% (system, 42)" if share < 100 else "")
        # From the last bin to the first; then come values below the lowest edge, should rounding have made any.
        return [list(reversed(counts[:size])) if counts else [0] * size for counts, size in zip(found, bins, strict=True)]

    def _select(self, items: Sequence[str], suffix: str = "") -> list[Any]:
        values: list[Any] = []
        for start in range(0, len(items), _AGGREGATES_A_SCAN):
            some = ", ".join(items[start : start + _AGGREGATES_A_SCAN])
            values.extend(self.connection.execute(f"SELECT {some} FROM {self.source}{suffix}").fetchone() or ())  # noqa: S608 - quoted
        return values

    def _aggregates(self, question: Question) -> dict[str, str]:
        column = quote(question.name)
        finite = f" FILTER (isfinite({column}))" if question.family in FLOATS else ""
        asked = {"unique_count": f"count(DISTINCT {column})" if self.exact else f"approx_count_distinct({column})"}
        if question.null_count:
            asked["null_count"] = f"count(*) - count({column})"
        if question.mean:
            asked["mean_val"] = f"avg({column}){finite}"
        if question.extremes:
            asked["min_val"] = f"left(CAST(min({column}){finite} AS VARCHAR), {LONGEST_VALUE + 1})"
            asked["max_val"] = f"left(CAST(max({column}){finite} AS VARCHAR), {LONGEST_VALUE + 1})"
        return asked


def _bin_counts(column: str, bounds: Sequence[float]) -> str:
    """SQL of the counts between the edges, from the last bin to the first.

    DuckDB's bins hold their upper edge and ours their lower one; of the negated values it is the other way round.
    """
    value = f"CAST({column} AS DOUBLE)"
    edges = ", ".join(f"{-low!r}::DOUBLE" for low in reversed(bounds[:-1]))
    return f"map_values(histogram(-{value}, [{edges}]) FILTER (isfinite({value})))"
