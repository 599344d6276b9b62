"""Values as the literals of a dialect of SQL: DuckDB writes them as text, sqlglot quotes them. Pure, but for the query that it names."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from sqlglot.dialects.dialect import Dialect

from brokoli_site.common.errors import NodeError
from pipelines.databases.kinds import Kind, kind_of
from pipelines.expressions import quote
from pipelines.nodes.base import Column

_NUMBERS = (Kind.INTEGER, Kind.DECIMAL)
_TIMES = (Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMP_TZ)
# Standard SQL has no text that turns into a date by itself; the databases that we know have.
_STANDARD_PREFIX = {Kind.DATE: "DATE ", Kind.TIME: "TIME ", Kind.TIMESTAMP: "TIMESTAMP ", Kind.TIMESTAMP_TZ: "TIMESTAMP "}
_NOT_FINITE: dict[str, Callable[[float], str]] = {
    "postgres": lambda value: f"CAST('{value}' AS DOUBLE PRECISION)",
    "duckdb": lambda value: f"CAST('{value}' AS DOUBLE)",
    # It has no NaN, and keeps one that is bound to a statement as NULL; a number that is too large is its infinity.
    "sqlite": lambda value: "NULL" if math.isnan(value) else "9e999" if value > 0 else "-9e999",
}


class Literals:
    """The literals of a table's rows in one dialect (generic, postgres, mysql, sqlite, duckdb)."""

    def __init__(self, dialect: str, columns: Sequence[Column]) -> None:
        self._dialect = dialect
        self._columns = columns
        generator = Dialect.get_or_raise("" if dialect == "generic" else dialect).generator()
        self._escape: Callable[[str], str] = generator.escape_str
        self._writers = [self._writer(column) for column in columns]

    def query(self, view: str) -> str:
        """The query whose rows `line` takes."""
        return f"SELECT {', '.join(self._item(column) for column in self._columns)} FROM {quote(view)}"  # noqa: S608 - quoted

    def line(self, values: Sequence[Any]) -> str:
        """A row's literals, separated by commas. Errors: `NodeError` for a value that the dialect has no literal for."""
        return ", ".join("NULL" if value is None else write(value) for write, value in zip(self._writers, values, strict=True))

    def _item(self, column: Column) -> str:
        name, kind = quote(column.name), kind_of(column.type).kind
        if kind in (Kind.BOOLEAN, Kind.FLOAT):
            return name
        if kind == Kind.BINARY:
            return f"hex({name})"
        if kind == Kind.TIMESTAMP_TZ:
            # In UTC, and said so where the type has a zone: DuckDB's own text would be in the session's.
            zone = "" if self._dialect in ("mysql", "sqlite") else " || '+00:00'"
            return f"CASE WHEN isfinite({name}) THEN CAST(make_timestamp(epoch_us({name})) AS VARCHAR){zone} ELSE CAST({name} AS VARCHAR) END"
        return f"CAST(to_json({name}) AS VARCHAR)" if kind == Kind.JSON and column.type != "JSON" else f"CAST({name} AS VARCHAR)"

    def _writer(self, column: Column) -> Callable[[Any], str]:
        kind = kind_of(column.type).kind
        if kind in _NUMBERS:
            return str
        if kind == Kind.BOOLEAN:
            return (lambda value: "1" if value else "0") if self._dialect == "sqlite" else (lambda value: "TRUE" if value else "FALSE")
        if kind == Kind.FLOAT:
            return lambda value: repr(value) if math.isfinite(value) else self._not_finite(column, value)
        if kind == Kind.BINARY:
            return {"postgres": "CAST('\\x{}' AS BYTEA)", "duckdb": "unhex('{}')"}.get(self._dialect, "X'{}'").format
        prefix = _STANDARD_PREFIX.get(kind, "") if self._dialect == "generic" else ""
        if kind in _TIMES and self._dialect not in ("postgres", "duckdb"):
            return lambda value: prefix + self._text(column, self._finite_time(column, value))
        return lambda value: prefix + self._text(column, value)

    def _text(self, column: Column, value: str) -> str:
        if "\0" in value:
            raise NodeError(f"Column '{column.name}' holds a NUL character, which SQL text cannot. Remove it in a transform before this node.")
        return f"'{self._escape(value)}'"

    def _finite_time(self, column: Column, value: str) -> str:
        if value.endswith("infinity"):
            raise NodeError(
                f"Column '{column.name}' holds the time '{value}', for which {self._dialect} SQL has no word. Replace it before this node."
            )
        return value

    def _not_finite(self, column: Column, value: float) -> str:
        if self._dialect not in _NOT_FINITE:
            raise NodeError(f"Column '{column.name}' holds {value}, for which {self._dialect} SQL has no number. Replace it before this node.")
        return _NOT_FINITE[self._dialect](value)
