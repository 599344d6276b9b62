"""Columns as the configs of sources declare them: by name, with a type or without."""

from collections.abc import Mapping
from typing import Annotated

import duckdb
import sqlglot
from pydantic import BeforeValidator, Field, field_validator
from sqlglot import exp
from sqlglot.errors import SqlglotError

from pipelines.nodes.base import NodeConfig


class SourceColumn(NodeConfig):
    """A column to read."""

    name: str = Field(min_length=1, description="Its name in the file; without a header, the name to give it.")
    type: str = Field("", description="A SQL type, such as BIGINT, DOUBLE, VARCHAR, DATE or TIMESTAMP. Empty: what the values look like.")

    @field_validator("type")
    @classmethod
    def _known_type(cls, value: str) -> str:
        if not value.strip():
            return ""
        try:
            (cast,) = sqlglot.parse(f"CAST(NULL AS {value})", dialect="duckdb")
            kind = str(duckdb.sqltype(cast.to.sql(dialect="duckdb"))) if isinstance(cast, exp.Cast) else ""
        except (SqlglotError, duckdb.Error, ValueError) as error:
            raise ValueError(f"'{value}' is not a type. Use BIGINT, DOUBLE, DECIMAL(18, 2), VARCHAR, BOOLEAN, DATE, TIMESTAMP, …") from error
        # Parquet has no integers of 128 bits; DuckDB would write them as DOUBLE and round.
        return "DECIMAL(38,0)" if kind in ("HUGEINT", "UHUGEINT") else kind


def as_columns(value: object) -> object:
    """`{name: type}` and `[name]` as `[{name, type}]`; the rest as it is, for pydantic to judge."""
    if isinstance(value, Mapping):
        return [{"name": name, "type": kind} for name, kind in value.items()]
    return [{"name": item} if isinstance(item, str) else item for item in value] if isinstance(value, list | tuple) else value


SourceColumns = Annotated[tuple[SourceColumn, ...], BeforeValidator(as_columns)]
