"""The first rows of an output as values that survive JSON, and every client's JSON parser.

64-bit integers beyond 2^53, decimals and huge integers become strings; NaN and infinities null; dates and times ISO 8601;
binary base64; lists, structs and maps stay what they are, with the same rules inside. Long texts are cut and end in `…`.
"""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from duckdb.sqltypes import DuckDBPyType

from pipelines.expressions import quote

ROWS = 50
# Characters of one cell: fewer where there are many cells, so that a preview stays within a few megabytes at any width.
_MOST_CELL, _LEAST_CELL, _BUDGET = 1_000, 40, 2_000_000
_SAFE_INTEGER = 2**53
_MARK = "…"

_Converter = Callable[[Any], Any]
_PLAIN = frozenset({"boolean", "tinyint", "smallint", "integer", "utinyint", "usmallint", "uinteger"})
_NESTED = frozenset({"list", "array", "struct", "map", "union"})


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a relation as Python has them. Texts are cut one character after `limit`; a nested cell is
    `{text, value}`, one of which is None: `text` where the value was too long to show.
    """

    types: Sequence[tuple[str, DuckDBPyType]]
    rows: Sequence[tuple[Any, ...]]
    limit: int

    def shown(self, row_count: int) -> dict[str, Any]:
        """`{columns: [names], rows: [[values in column order]], row_count, truncated}`, safe for JSON. `row_count`: of the relation."""
        converters = [_cell(kind, self.limit) for _, kind in self.types]
        return {
            "columns": [name for name, _ in self.types],
            "rows": [[convert(value) for convert, value in zip(converters, row, strict=True)] for row in self.rows],
            "row_count": row_count,
            "truncated": row_count > len(self.rows),
        }

    def is_whole(self, row_count: int) -> bool:
        """Whether nothing is missing: every row is there, and no cell was cut."""
        return row_count == len(self.rows) and not any(self._was_cut(cell) for row in self.rows for cell in row)

    def _was_cut(self, cell: Any) -> bool:
        if isinstance(cell, str | bytes):
            return len(cell) > self.limit
        return isinstance(cell, dict) and cell["text"] is not None


def sample(connection: DuckDBPyConnection, source: str, types: Sequence[tuple[str, DuckDBPyType]], count: int = ROWS) -> Sample:
    """The first `count` rows of the relation `source` (SQL). Errors: `duckdb.Error`."""
    limit = max(_LEAST_CELL, min(_MOST_CELL, _BUDGET // (len(types) * ROWS)))
    items = ", ".join(_expression(quote(name), kind, limit) for name, kind in types)
    rows = connection.execute(f"SELECT {items} FROM (SELECT * FROM {source} LIMIT {count})").fetchall()  # noqa: S608 - quoted identifiers
    return Sample(types, rows, limit)


def _expression(column: str, kind: DuckDBPyType, limit: int) -> str:
    """What to select so that no cell is longer than about `limit` and the value needs no class that Python may lack."""
    family = kind.id
    if family == "varchar":
        return f"left({column}, {limit + 1})"
    if family == "blob":
        return f"{column}[1:{limit + 1}]"
    if family in _NESTED:
        text = f"CAST({column} AS VARCHAR)"
        cut = f"{{'text': left({text}, {limit}), 'value': NULL}}"
        whole = f"{{'text': NULL, 'value': CAST({column} AS {_showable(kind)})}}"
        return f"CASE WHEN length({text}) > {limit * 4} THEN {cut} ELSE {whole} END"
    return column if _showable(kind) == str(kind) else f"CAST({column} AS VARCHAR)"


def _showable(kind: DuckDBPyType) -> str:
    """The type to cast to before values reach Python: text for whatever Python has no exact and JSON-ready class for."""
    family = kind.id
    if family in ("list", "array"):
        return f"{_showable(_children(kind)['child'])}[]"
    if family in ("struct", "union"):
        return "STRUCT(" + ", ".join(f"{quote(name)} {_showable(child)}" for name, child in _children(kind).items()) + ")"
    if family == "map":
        return f"MAP(VARCHAR, {_showable(_children(kind)['value'])})"
    if family in _PLAIN or family in ("bigint", "ubigint", "float", "double", "blob"):
        return str(kind)
    return "VARCHAR"


def _children(kind: DuckDBPyType) -> dict[str, DuckDBPyType]:
    return {name: child for name, child in kind.children if isinstance(child, DuckDBPyType)}


def _cell(kind: DuckDBPyType, limit: int) -> _Converter:
    """As `_converter`, for a top-level cell that may have been cut."""
    if kind.id in _NESTED:
        inner = _converter(kind)
        return lambda cell: None if cell is None else (cell["text"] + _MARK if cell["text"] is not None else inner(cell["value"]))
    if kind.id == "blob":
        return lambda content: None if content is None else base64.b64encode(content[:limit]).decode("ascii")
    if kind.id == "varchar":
        return lambda text: None if text is None else clean(text if len(text) <= limit else text[:limit] + _MARK)
    return _converter(kind)


def _converter(kind: DuckDBPyType) -> _Converter:
    """How a value of that type, as Python has it, becomes one for JSON."""
    if kind.id in _NESTED:
        return _nested(kind)
    if kind.id.startswith("timestamp"):
        return _moment
    return _same if kind.id in _PLAIN else _BY_FAMILY.get(kind.id, _text)


def _nested(kind: DuckDBPyType) -> _Converter:
    children = {name: _converter(child) for name, child in _children(kind).items()}
    if kind.id in ("struct", "union"):
        return lambda record: None if record is None else {clean(name): children[name](value) for name, value in record.items()}
    if kind.id == "map":
        return lambda entries: None if entries is None else {clean(name): children["value"](value) for name, value in entries.items()}
    return lambda values: None if values is None else [children["child"](value) for value in values]


def _same(value: Any) -> Any:
    return value


def _integer(value: int | None) -> int | str | None:
    return value if value is None or -_SAFE_INTEGER <= value <= _SAFE_INTEGER else str(value)


def _real(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _binary(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def _text(value: str | None) -> str | None:
    return None if value is None else clean(value)


def _moment(value: str | None) -> str | None:
    return None if value is None else iso_time(value)


def iso_time(value: str) -> str:
    """`2024-01-15T06:00:00Z` of DuckDB's `2024-01-15 06:00:00+00`; the session's zone is UTC."""
    iso = value.replace(" ", "T", 1)
    return iso[:-3] + "Z" if iso.endswith("+00") else iso


def clean(text: str) -> str:
    """Text that PostgreSQL's JSON accepts: it has no NUL, so NUL shows as its symbol."""
    return text.replace("\0", "\u2400")


_BY_FAMILY: dict[str, _Converter] = {"bigint": _integer, "ubigint": _integer, "float": _real, "double": _real, "blob": _binary}


def types_of(connection: DuckDBPyConnection, source: str) -> list[tuple[str, DuckDBPyType]]:
    """The columns of the relation `source` (SQL), by binding only."""
    description = connection.execute(f"SELECT * FROM {source} LIMIT 0").description  # noqa: S608 - our own relation
    if description is None:
        raise duckdb.InvalidInputException("no columns")
    return [(column[0], column[1]) for column in description]
