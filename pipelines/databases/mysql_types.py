"""How MySQL's and MariaDB's types come as Arrow. https://mariadb.com/kb/en/data-types/"""

import datetime as dt
import decimal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pymysql.constants import FIELD_TYPE, FLAG
from pymysql.converters import conversions
from pymysql.cursors import SSCursor

from brokoli_site.common.errors import NodeError

_BINARY_CHARSET = 63


@dataclass(frozen=True, slots=True)
class Field:
    """What the server says of a column."""

    name: str
    type: int
    length: int
    scale: int
    charset: int
    unsigned: bool


@dataclass(slots=True)
class Skipped:
    """Dates that are none (`0000-00-00`, a day 0): how many a column had."""

    counts: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        return [f"Column '{name}' holds {count} dates that do not exist, such as 0000-00-00; they are NULL." for name, count in self.counts.items()]


def _plain(text: str) -> str:
    return text


# Dates stay text until their column's plan reads them, which can count those that do not exist.
DECODERS: Mapping[Any, Any] = {
    **conversions,
    **dict.fromkeys((FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP, FIELD_TYPE.TIME), _plain),
}


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column: what it becomes, and what makes a value of the driver one for Arrow."""

    name: str
    type: pa.DataType
    read: Callable[[Any], Any] | None = None

    def convert(self, values: Sequence[Any]) -> pa.Array:
        """Errors: `NodeError` naming the column."""
        if self.read is not None:
            values = [None if value is None else self.read(value) for value in values]
        try:
            return pa.array(values, self.type)
        except (pa.ArrowException, ValueError, TypeError, decimal.DecimalException) as error:
            raise NodeError(
                f"Column '{self.name}' holds a value that is no {self.type}: {str(error)[:200]}. Cast it in the query, CAST(… AS CHAR) for instance."
            ) from error


def fields_of(cursor: SSCursor) -> list[Field]:
    """The columns of the result that is about to be read; PyMySQL's `description` leaves out sign and character set."""
    result: Any = cursor._result  # type: ignore[attr-defined]
    described = getattr(result, "fields", None) or ()
    return [Field(one.name, one.type_code, one.length, one.scale, one.charsetnr, bool(one.flags & FLAG.UNSIGNED)) for one in described]


def plan(name: str, column: Field, skipped: Skipped) -> ColumnPlan:
    kind = column.type
    if kind in _TIMES:
        arrow, read = _TIMES[kind]
        return ColumnPlan(name, arrow, _existing(name, skipped, read))
    if kind == FIELD_TYPE.TIME:
        return ColumnPlan(name, pa.time64("us"), lambda value: _time(name, value))
    if kind == FIELD_TYPE.BIT:
        return ColumnPlan(name, pa.bool_(), any) if column.length == 1 else ColumnPlan(name, pa.uint64(), _bits)
    plain = _plain_type(column)
    return ColumnPlan(name, plain, _bytes if pa.types.is_binary(plain) else None)


def _plain_type(column: Field) -> pa.DataType:
    """Of values that the driver gives as Arrow takes them."""
    if column.type in _INTEGERS:
        return _INTEGERS[column.type][column.unsigned]
    if column.type in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        return _decimal(column)
    if column.type in _OTHERS:
        return _OTHERS[column.type]
    return pa.binary() if column.charset == _BINARY_CHARSET else pa.string()


_INTEGERS = {
    FIELD_TYPE.TINY: (pa.int8(), pa.uint8()),
    FIELD_TYPE.SHORT: (pa.int16(), pa.uint16()),
    FIELD_TYPE.INT24: (pa.int32(), pa.uint32()),
    FIELD_TYPE.LONG: (pa.int32(), pa.uint32()),
    FIELD_TYPE.LONGLONG: (pa.int64(), pa.uint64()),
    FIELD_TYPE.YEAR: (pa.int16(), pa.int16()),
}
_OTHERS = {FIELD_TYPE.FLOAT: pa.float32(), FIELD_TYPE.DOUBLE: pa.float64(), FIELD_TYPE.JSON: pa.json_(), FIELD_TYPE.NULL: pa.string()}


def _decimal(column: Field) -> pa.DataType:
    """The declared precision; the server counts sign and point in the length. More than 38 digits (a sum of BIGINT has 41) are rarely used."""
    precision = column.length - (0 if column.unsigned else 1) - (1 if column.scale else 0)
    return pa.decimal128(min(38, max(precision, column.scale, 1)), min(column.scale, 38))


def _bits(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _existing(name: str, skipped: Skipped, read: Callable[[str], Any]) -> Callable[[Any], Any]:
    def existing(value: Any) -> Any:
        try:
            return read(value)
        except ValueError:
            skipped.counts[name] += 1
            return None

    return existing


def _in_utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def _time(name: str, text: str) -> dt.time:
    """Errors: `NodeError` for a duration that is no time of day."""
    try:
        return dt.time.fromisoformat(text)
    except ValueError:
        hint = f"TIME_TO_SEC({name}), or CAST({name} AS CHAR)"
        raise NodeError(f"Column '{name}' holds {text}, which is no time of day; cast it in the query: {hint}.") from None


# A TIMESTAMP is a moment, and the session's zone is UTC; a DATETIME is what a clock on some wall showed.
_TIMES: Mapping[int, tuple[pa.DataType, Callable[[str], Any]]] = {
    FIELD_TYPE.DATE: (pa.date32(), dt.date.fromisoformat),
    FIELD_TYPE.NEWDATE: (pa.date32(), dt.date.fromisoformat),
    FIELD_TYPE.DATETIME: (pa.timestamp("us"), dt.datetime.fromisoformat),
    FIELD_TYPE.TIMESTAMP: (pa.timestamp("us", "UTC"), _in_utc),
}
