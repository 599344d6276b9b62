"""Values of quality rules against columns of a type, as SQL. Numbers are compared as numbers and times as times, never as texts.

Texts may hold numbers or times: each is read as such, and one that cannot be read breaks the rule.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from brokoli_site.common.errors import NodeError
from pipelines.expressions import literal, quote
from pipelines.nodes.base import Column
from pipelines.nodes.column_types import is_integer, is_number, is_text, is_time
from pipelines.nodes.quality_rules import LimitValue, parse_limit

_ZONED = "TIMESTAMP WITH TIME ZONE"


class RuleFault(NodeError):
    """A quality rule does not fit the data. `path` leads to the value at fault within the rule."""

    code = "invalid_quality_rule"

    def __init__(self, message: str, path: str = "", line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.path, self.line, self.column = path, line, column


@dataclass(frozen=True, slots=True)
class Ordered:
    """A column as SQL that can be ordered; `unread` is the condition that a value was no such thing."""

    sql: str
    unread: str = "false"


def text_of(column: Column) -> str:
    name = quote(column.name)
    return name if column.type == "VARCHAR" else f"CAST({name} AS VARCHAR)"


def ordered(column: Column, limit: LimitValue, path: str) -> tuple[Ordered, str]:
    """The column and the limit as SQL of one kind. Errors: `RuleFault`."""
    if isinstance(limit, dt.date):
        return as_moment(column, path), moment(limit, column)
    if isinstance(limit, str):
        raise RuleFault(f"'{limit}' is neither a number nor a date.", path)
    name = quote(column.name)
    if is_number(column.type):
        return Ordered(name), literal(limit)
    if is_text(column.type):
        return _read(column, "DOUBLE"), literal(limit)
    raise RuleFault(f"Column '{column.name}' is {column.type} and cannot be compared with the number {limit}.", path)


def as_moment(column: Column, path: str) -> Ordered:
    """The column as points in time. Errors: `RuleFault`."""
    if is_time(column.type):
        return Ordered(quote(column.name))
    if is_text(column.type):
        return _read(column, "TIMESTAMP")
    raise RuleFault(f"Column '{column.name}' is {column.type} and cannot be compared with a date or time.", path)


def _read(column: Column, type_name: str) -> Ordered:
    sql = f"TRY_CAST({text_of(column)} AS {type_name})"
    return Ordered(sql, f"({quote(column.name)} IS NOT NULL AND {sql} IS NULL)")


def moment(value: dt.date, column: Column) -> str:
    """A date or time as SQL, to be compared with the column. Times without a zone are UTC."""
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return f"CAST({literal(value.isoformat())} AS {_ZONED if column.type == _ZONED else 'TIMESTAMP'})"


# --- accepted values ----------------------------------------------------------------------------------------------


def accepted(column: Column, values: Sequence[Any]) -> str:
    """The condition that a value is none of `values`. Errors: `RuleFault` naming the one that no value of the column can be."""
    written = [_accepted_value(column, value, f"params.values.{index}") for index, value in enumerate(values)]
    subject = quote(column.name) if is_number(column.type) or is_time(column.type) or column.type == "BOOLEAN" else text_of(column)
    return f"{subject} NOT IN ({', '.join(written)})"


def _accepted_value(column: Column, value: Any, path: str) -> str:
    plain = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    if is_number(column.type) or is_time(column.type):
        try:
            found = parse_limit(value)
        except ValueError as error:
            raise RuleFault(f"'{plain}' is no value of column '{column.name}', which is {column.type}.", path) from error
        if isinstance(found, int | float | Decimal) and is_number(column.type):
            return literal(found)
        if isinstance(found, dt.date) and is_time(column.type):
            return moment(found, column)
        raise RuleFault(f"'{plain}' is no value of column '{column.name}', which is {column.type}.", path)
    if column.type == "BOOLEAN":
        if plain.lower() not in ("true", "false"):
            raise RuleFault(f"'{plain}' is no value of column '{column.name}', which is BOOLEAN: use true or false.", path)
        return literal(plain.lower() == "true")
    return literal(plain)


# --- types --------------------------------------------------------------------------------------------------------

_TYPES = {"boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP", "time": "TIME", "uuid": "UUID"}


def breaks_type(column: Column, expected: str) -> str:
    """The condition that a value is not of the expected type, and does not spell a value of it either."""
    name = quote(column.name)
    if is_text(column.type):
        return _breaks_spelling(column, expected)
    if _is_of(column.type, expected):
        return "false"
    if expected == "integer" and is_number(column.type):
        return f"({name} <> trunc({name}) OR NOT isfinite(CAST({name} AS DOUBLE)))"
    if expected == "date" and is_time(column.type):
        return f"{name} <> date_trunc('day', {name})"
    return f"{name} IS NOT NULL"


def _is_of(type_name: str, expected: str) -> bool:
    if expected == "number":
        return is_number(type_name)
    if expected == "integer":
        return is_integer(type_name)
    if expected == "timestamp":
        return is_time(type_name)
    return type_name.split(" ", maxsplit=1)[0] == _TYPES.get(expected)


def _breaks_spelling(column: Column, expected: str) -> str:
    text = text_of(column)
    if expected == "string":
        return "false"
    if expected == "integer":
        return f"NOT regexp_full_match(trim({text}), '[+-]?[0-9]+')"
    return _read(column, "DOUBLE" if expected == "number" else _TYPES[expected]).unread
