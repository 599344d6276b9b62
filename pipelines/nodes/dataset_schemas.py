"""Schemas of data sets as the SDK writes them: `{contract: brokoli.dataset-schema/v1, columns: [{name, type: {kind}}], additional_columns}`."""

from collections.abc import Mapping
from typing import Any

CONTRACT = "brokoli.dataset-schema/v1"
_KINDS = {
    "boolean": "BOOLEAN",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "enum": "VARCHAR",
    "bytes": "BLOB",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "duration": "INTERVAL",
    "json": "VARCHAR",
}


def is_schema(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("columns"), list)


def is_open(value: Mapping[str, Any]) -> bool:
    """Whether the data may have more columns than are declared."""
    return bool(value.get("additional_columns", "unknown") != "closed")


def columns(value: Mapping[str, Any]) -> list[Any]:
    """`[{name, type}]` with SQL types; what cannot be read stays as it is, to be complained of."""
    return [
        {**column, "type": sql_type(column["type"])} if isinstance(column, Mapping) and isinstance(column.get("type"), Mapping) else column
        for column in value["columns"]
    ]


def sql_type(descriptor: Mapping[str, Any]) -> str:
    """DuckDB's type for a descriptor; "" leaves it to what is found."""
    kind = descriptor.get("kind")
    if kind == "decimal":
        precision, scale = descriptor.get("precision"), descriptor.get("scale")
        return f"DECIMAL({precision}, {scale})" if isinstance(precision, int) and isinstance(scale, int) else "DECIMAL(38, 9)"
    if kind == "array" and isinstance(descriptor.get("items"), Mapping):
        inner = sql_type(descriptor["items"])
        return f"{inner}[]" if inner else ""
    return _KINDS.get(str(kind), "")
