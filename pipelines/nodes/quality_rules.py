"""The rules of `quality_check`, as documents write them.

NULL is no value: it breaks `not_null` and `no_blank`, and every other rule looks past it (as a CHECK constraint does).
"""

import datetime as dt
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from pipelines.nodes.base import NodeConfig
from pipelines.nodes.columns import ColumnNames
from pipelines.nodes.config_errors import refused
from pipelines.nodes.quality_text import parse_rule
from pipelines.references import find as find_references

OnFailure = Literal["block", "warn"]

# What a limit is: a number, a moment, or a reference that the run resolves.
LimitValue = int | float | Decimal | dt.date | str


def parse_limit(value: Any) -> LimitValue:
    """A number, or a text that spells a number, a date or a moment (ISO 8601). Errors: `ValueError`."""
    if isinstance(value, int | float | Decimal | dt.date) and not isinstance(value, bool):
        if isinstance(value, float | Decimal) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value
    if not isinstance(value, str):
        raise ValueError("must be a number, a date or a time")  # noqa: TRY004 - pydantic collects ValueErrors
    text = value.strip()
    if has_reference(text):
        return value
    for read in (int, _decimal, dt.date.fromisoformat, dt.datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise ValueError(f"'{text[:60]}' is neither a number nor a date or time (2024-01-31, 2024-01-31T06:00:00)")


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError from error
    if not number.is_finite():
        raise ValueError
    return number


def has_reference(text: str) -> bool:
    """Whether only the run knows what this text will be."""
    return any(not reference.escaped for reference in find_references(text))


def _count(value: Any) -> int | str:
    limit = parse_limit(value)
    if isinstance(limit, str):
        return limit
    if isinstance(limit, dt.date) or limit != int(limit) or limit < 0:
        raise ValueError("must be a whole number, 0 or more")
    return int(limit)


def _amount(value: Any) -> LimitValue:
    limit = parse_limit(value)
    if isinstance(limit, dt.date) or (not isinstance(limit, str) and limit < 0):
        raise ValueError("must be a number, 0 or more")
    return limit


Limit = Annotated[Any, PlainValidator(parse_limit, json_schema_input_type=float | str)]
Count = Annotated[Any, PlainValidator(_count, json_schema_input_type=int | str)]
Amount = Annotated[Any, PlainValidator(_amount, json_schema_input_type=float | str)]
OneColumn = Annotated[ColumnNames, Field(min_length=1, max_length=1, description="The column to check.")]
SomeColumns = Annotated[ColumnNames, Field(min_length=1, description="The column to check, or a list of columns that are checked together.")]


class NoParams(NodeConfig):
    """The rule needs nothing but its column."""


class MinParams(NodeConfig):
    """The smallest value that is allowed."""

    min: Limit = Field(description="Smallest allowed value: a number, a date or a time.")


class MaxParams(NodeConfig):
    """The largest value that is allowed."""

    max: Limit = Field(description="Largest allowed value: a number, a date or a time.")


def _check_order(least: object, most: object) -> None:
    if least is None and most is None:
        raise refused("min", "is missing; give min, max or both")
    numbers = [value for value in (least, most) if isinstance(value, int | float | Decimal)]
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise refused("min", f"({least}) is greater than max ({most}): no value can pass")


class RangeParams(NodeConfig):
    """Smallest and largest allowed value, both included; one may be left out."""

    min: Limit | None = Field(default=None, description="Smallest allowed value.")
    max: Limit | None = Field(default=None, description="Largest allowed value.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self.min, self.max)
        return self


class RowCountParams(NodeConfig):
    """Smallest and largest allowed number of rows, both included; one may be left out."""

    min: Count | None = Field(default=None, description="Fewest rows that are allowed.")
    max: Count | None = Field(default=None, description="Most rows that are allowed.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self.min, self.max)
        return self


class RegexParams(NodeConfig):
    """What every value must match somewhere."""

    pattern: str = Field(min_length=1, description="Regular expression (RE2) that must match somewhere in the value; ^ and $ anchor it.")


class TypeParams(NodeConfig):
    """What every value must be."""

    expected_type: Literal["string", "integer", "number", "boolean", "date", "timestamp", "time", "uuid"] = Field(
        description="What every value must be. Texts pass when they spell such a value: '12' is an integer."
    )


_SECONDS = {"max_seconds": 1, "max_minutes": 60, "max_hours": 3600, "max_days": 86400}


class FreshnessParams(NodeConfig):
    """How old the newest value may be when the node runs; several are added up."""

    max_seconds: Amount | None = Field(default=None, description="Seconds.")
    max_minutes: Amount | None = Field(default=None, description="Minutes.")
    max_hours: Amount | None = Field(default=None, description="Hours.")
    max_days: Amount | None = Field(default=None, description="Days.")

    @model_validator(mode="after")
    def _is_given(self) -> Self:
        if all(getattr(self, key) is None for key in _SECONDS):
            raise refused("max_hours", "is missing; say how old the newest value may be (max_days, max_hours, max_minutes, max_seconds)")
        return self

    @property
    def seconds(self) -> float:
        return sum(float(getattr(self, key) or 0) * factor for key, factor in _SECONDS.items())


class AcceptedValuesParams(NodeConfig):
    """What a value may be."""

    values: tuple[str | int | float | bool, ...] = Field(min_length=1, description="The values that are allowed.")


class ForeignKeyParams(NodeConfig):
    """Where the value must be found."""

    input: str = Field(default="", description="Id or name of the other input node that holds the keys. Not needed when there is only one.")
    column: ColumnNames = Field(default=(), description="The key column (or columns) there. Default: called as here.")


class ExpressionParams(NodeConfig):
    """What must be true of every row."""

    expression: str = Field(min_length=1, description="SQL that is true or false for a row. A row for which it is NULL passes.")


class BaseRule(NodeConfig):
    """What all rules have."""

    on_failure: OnFailure | None = Field(
        default=None, description="`block`: the node fails when the rule is broken. `warn`: it logs a warning. Default: the node's own."
    )


class NotNull(BaseRule):
    """Every row has a value."""

    rule: Literal["not_null"]
    column: SomeColumns
    params: NoParams = NoParams()


class NoBlank(BaseRule):
    """Every row has a value that is more than white space."""

    rule: Literal["no_blank"]
    column: OneColumn
    params: NoParams = NoParams()


class Unique(BaseRule):
    """No value, or no combination of values, occurs twice."""

    rule: Literal["unique"]
    column: SomeColumns
    params: NoParams = NoParams()


class Min(BaseRule):
    """No value is smaller."""

    rule: Literal["min"]
    column: OneColumn
    params: MinParams


class Max(BaseRule):
    """No value is larger."""

    rule: Literal["max"]
    column: OneColumn
    params: MaxParams


class Range(BaseRule):
    """No value lies outside."""

    rule: Literal["range"]
    column: OneColumn
    params: RangeParams


class RowCount(BaseRule):
    """As many rows as expected."""

    rule: Literal["row_count"]
    column: ColumnNames = Field(default=(), description="Not used: all rows count.")
    params: RowCountParams


class Regex(BaseRule):
    """Every value matches a regular expression."""

    rule: Literal["regex"]
    column: OneColumn
    params: RegexParams


class TypeCheck(BaseRule):
    """Every value is of a type, or spells a value of it."""

    rule: Literal["type_check"]
    column: OneColumn
    params: TypeParams


class Freshness(BaseRule):
    """The newest value is young enough. Times without a zone are UTC; a date is its midnight; no value at all is not fresh."""

    rule: Literal["freshness"]
    column: OneColumn
    params: FreshnessParams


class AcceptedValues(BaseRule):
    """Every value is one of a list."""

    rule: Literal["accepted_values"]
    column: OneColumn
    params: AcceptedValuesParams


class ForeignKey(BaseRule):
    """Every value (or combination) occurs in a column of another input. The first input is the data that is checked."""

    rule: Literal["foreign_key"]
    column: SomeColumns
    params: ForeignKeyParams = ForeignKeyParams()


class Expression(BaseRule):
    """A condition holds for every row."""

    rule: Literal["expression"]
    column: ColumnNames = Field(default=(), description="Not used: the expression names its columns.")
    params: ExpressionParams


AnyRule = (
    NotNull | NoBlank | Unique | Min | Max | Range | RowCount | Regex | TypeCheck | Freshness | AcceptedValues | ForeignKey | Expression
)  # fmt: skip


def _from_text(value: Any) -> Any:
    return normalise_rule(parse_rule(value) if isinstance(value, str) else value)


Rule = Annotated[Annotated[AnyRule, Field(discriminator="rule")], BeforeValidator(_from_text, json_schema_input_type=str | AnyRule)]

_PARAM_ALIASES: dict[str, dict[str, str]] = {
    "min": {"value": "min", "limit": "min"},
    "max": {"value": "max", "limit": "max"},
    "regex": {"regex": "pattern"},
    "type_check": {"type": "expected_type", "expected": "expected_type"},
    "freshness": {"max_age_hours": "max_hours", "max_age_minutes": "max_minutes", "max_age_days": "max_days", "max_age_seconds": "max_seconds"},
    "accepted_values": {"accepted_values": "values", "allowed_values": "values", "allowed": "values"},
    "foreign_key": {"reference": "references", "reference_column": "column", "ref_column": "column", "node": "input", "table": "input"},
    "expression": {"condition": "expression", "sql": "expression"},
}
_TYPE_ALIASES = {
    **dict.fromkeys(("str", "text", "varchar"), "string"),
    **dict.fromkeys(("int", "int64", "bigint"), "integer"),
    **dict.fromkeys(("float", "float64", "double", "decimal", "numeric"), "number"),
    "bool": "boolean",
    "datetime": "timestamp",
}


def normalise_rule(rule: Any) -> Any:
    """A rule's aliases replaced; whatever cannot be read stays as it is."""
    if not isinstance(rule, Mapping):
        return rule
    found = dict(rule)
    if "columns" in found and "column" not in found:
        found["column"] = found.pop("columns")
    if isinstance(found.get("rule"), str):
        found["rule"] = found["rule"].strip().lower()
        if isinstance(found.get("params"), Mapping):
            found["params"] = _normalise_params(found["rule"], found["params"])
    return found


def _normalise_params(rule: str, params: Mapping[str, Any]) -> dict[str, Any]:
    aliases = _PARAM_ALIASES.get(rule, {})
    found = {key: value for key, value in params.items() if key not in aliases}
    for alias, name in aliases.items():
        if alias in params:
            found.setdefault(name, params[alias])
    kind = found.get("expected_type")
    if rule == "type_check" and isinstance(kind, str):
        found["expected_type"] = _TYPE_ALIASES.get(kind.strip().lower(), kind.strip().lower())
    if rule == "foreign_key" and isinstance(found.get("references"), str):
        return _split_reference(found)
    return found


def _split_reference(params: dict[str, Any]) -> dict[str, Any]:
    """`references: customers.id` says both, `references: customers` the input alone."""
    node, point, column = params.pop("references").rpartition(".")
    params.setdefault("input", node if point else column)
    if point:
        params.setdefault("column", column)
    return params
