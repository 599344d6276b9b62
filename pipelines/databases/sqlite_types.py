"""How SQLite's values come as Arrow: a column is what all of its values are; where they differ, text.

| all values are | the column is |
|---|---|
| integers | BIGINT; BOOLEAN where it is declared so and all are 0 or 1 |
| integers and reals | DOUBLE; an integer beyond 2^53 among them makes it VARCHAR |
| text | VARCHAR; DATE or TIMESTAMP where it is declared so and all are such |
| blobs | BLOB |
| of several kinds | VARCHAR; with blobs among them, the node fails and says so |
| none (empty, all NULL) | what it is declared as, else VARCHAR |
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from brokoli_site.common.errors import NodeError

_EXACT = 2**53
_INTEGER, _REAL, _TEXT, _BLOB, _ODD = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column: `sql` is what is selected ("" as it is; `{}` is the column), `read` makes of a value what Arrow takes."""

    name: str
    type: pa.DataType
    sql: str = ""
    note: str = ""
    read: Callable[[Any], Any] | None = None

    def convert(self, values: Sequence[Any]) -> pa.Array:
        """Errors: `NodeError` naming the column."""
        if self.read is not None:
            values = [None if value is None else self.read(value) for value in values]
        try:
            return pa.array(values, self.type)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise NodeError(f"Column '{self.name}' holds other values than when it was first looked at: {str(error)[:200]}.") from error


def question(column: str, declared: str) -> str:
    """SQL of two items: a bit for each kind of value, and whether all of them are what is declared."""
    bits = f"CASE typeof({column}) WHEN 'integer' THEN {_INTEGER} WHEN 'real' THEN {_REAL} WHEN 'text' THEN {_TEXT} WHEN 'blob' THEN {_BLOB} END"
    kinds = f"group_concat(DISTINCT {bits})"
    wide = f"max(CASE WHEN typeof({column}) = 'integer' THEN {column} NOT BETWEEN -{_EXACT} AND {_EXACT} END)"
    return f"{kinds} || ',' || CASE WHEN {wide} THEN {_ODD} ELSE 0 END, {_fits(column, declared)}"


def _fits(column: str, declared: str) -> str:
    match _family(declared):
        case "boolean":
            return f"min({column} IS NULL OR (typeof({column}) = 'integer' AND {column} IN (0, 1)))"
        case "date":
            return f"min({column} IS NULL OR (typeof({column}) = 'text' AND {column} IS date({column})))"
        case "timestamp":
            # Python's own spelling, ISO 8601, with a fraction of up to six digits.
            seconds = f"replace(substr({column}, 1, 19), 'T', ' ')"
            digits = f"substr({column}, 20) GLOB '.[0-9]*' AND NOT substr({column}, 21) GLOB '*[^0-9]*'"
            rest = f"(length({column}) = 19 OR length({column}) <= 26 AND {digits})"
            return f"min({column} IS NULL OR (typeof({column}) = 'text' AND {seconds} IS datetime({seconds}) AND {rest}))"
    return "0"


def plan(name: str, declared: str, found: str | None, fits: int | None) -> ColumnPlan:
    """`found` and `fits` are what the two items of `question` gave. Errors: `NodeError` for blobs beside other values."""
    bits = 0
    for part in (found or "").split(","):
        bits |= int(part or 0)
    odd, bits = bool(bits & _ODD), bits & ~_ODD
    family = _family(declared)
    if bits == 0:
        return ColumnPlan(name, _DECLARED.get(family, pa.string()))
    if fits and family in _READERS:
        return ColumnPlan(name, _DECLARED[family], read=_READERS[family])
    if bits & _BLOB and bits != _BLOB:
        raise NodeError(f"Column '{name}' holds blobs beside other values; cast it in the query: CAST({name} AS TEXT), or AS BLOB.")
    if bits in _ALONE and not (odd and bits == _INTEGER | _REAL):
        return ColumnPlan(name, _ALONE[bits])
    return ColumnPlan(name, pa.string(), note=f"Column '{name}' holds values of several kinds; it comes as text.", read=str)


_ALONE = {_INTEGER: pa.int64(), _REAL: pa.float64(), _INTEGER | _REAL: pa.float64(), _TEXT: pa.string(), _BLOB: pa.binary()}
_DECLARED = {
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "integer": pa.int64(),
    "real": pa.float64(),
    "blob": pa.binary(),
}
_READERS: dict[str, Callable[[Any], Any]] = {"boolean": bool, "date": dt.date.fromisoformat, "timestamp": dt.datetime.fromisoformat}


def _family(declared: str) -> str:
    upper = declared.upper().partition("(")[0].strip()
    if upper in ("BOOL", "BOOLEAN", "DATE"):
        return "boolean" if upper != "DATE" else "date"
    if upper in ("TIMESTAMP", "DATETIME", "TIMESTAMP WITHOUT TIME ZONE"):
        return "timestamp"
    if "INT" in upper:
        return "integer"
    if any(part in upper for part in ("REAL", "FLOA", "DOUB", "DEC", "NUM")):
        return "real"
    return "blob" if upper in ("BLOB", "BYTEA", "BINARY", "VARBINARY") else ""
