"""What a column's type means to any database: of DuckDB's many types, the few kinds that databases tell apart. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

_INTEGERS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")
_NESTED = re.compile(r"^(STRUCT|MAP|UNION|VARIANT)\b|\[\d*\]$")


class Kind(StrEnum):
    BOOLEAN = "boolean"
    INTEGER = "integer"
    DECIMAL = "decimal"
    FLOAT = "float"
    TEXT = "text"
    BINARY = "binary"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMP_TZ = "timestamp with time zone"
    UUID = "uuid"
    INTERVAL = "interval"
    JSON = "json"  # what is nested, too: databases get it as the text of its JSON


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """`bits` of an integer or a float; `precision` and `scale` of a decimal."""

    kind: Kind
    bits: int = 0
    signed: bool = True
    precision: int = 0
    scale: int = 0


_PLAIN = {
    "BOOLEAN": ColumnKind(Kind.BOOLEAN),
    "FLOAT": ColumnKind(Kind.FLOAT, bits=32),
    "DOUBLE": ColumnKind(Kind.FLOAT, bits=64),
    "BLOB": ColumnKind(Kind.BINARY),
    "DATE": ColumnKind(Kind.DATE),
    "TIME": ColumnKind(Kind.TIME),
    "TIME_NS": ColumnKind(Kind.TIME),
    "TIMESTAMP": ColumnKind(Kind.TIMESTAMP),
    "TIMESTAMP_S": ColumnKind(Kind.TIMESTAMP),
    "TIMESTAMP_MS": ColumnKind(Kind.TIMESTAMP),
    "TIMESTAMP_NS": ColumnKind(Kind.TIMESTAMP),
    "TIMESTAMP WITH TIME ZONE": ColumnKind(Kind.TIMESTAMP_TZ),
    "UUID": ColumnKind(Kind.UUID),
    "INTERVAL": ColumnKind(Kind.INTERVAL),
    "JSON": ColumnKind(Kind.JSON),
}


def kind_of(type_name: str) -> ColumnKind:
    """The kind of a DuckDB type. What databases have no word for (enums, bits, times with a zone) is text."""
    if type_name in _PLAIN:
        return _PLAIN[type_name]
    unsigned = type_name.startswith("U") and type_name[1:] in _INTEGERS
    if unsigned or type_name in _INTEGERS:
        return ColumnKind(Kind.INTEGER, bits=_INTEGERS[type_name.removeprefix("U")], signed=not unsigned)
    match = _DECIMAL.fullmatch(type_name)
    if match:
        return ColumnKind(Kind.DECIMAL, precision=int(match[1]), scale=int(match[2]))
    return ColumnKind(Kind.JSON if _NESTED.search(type_name) else Kind.TEXT)
