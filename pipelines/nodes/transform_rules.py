"""The rules of a transform, as documents write them: models, aliases and the older spellings."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from pipelines.nodes.columns import ColumnNames
from pipelines.nodes.config_errors import refused
from pipelines.references import find

Scalar = str | int | float | bool | None

_MOST_NAMES = 5_000  # of columns, and of values to replace

_AGGREGATE_ALIASES = {"mean": "avg", "average": "avg", "std": "stddev", "distinct": "count_distinct", "nunique": "count_distinct"}


def _holds_reference(value: object) -> bool:
    return isinstance(value, str) and any(not reference.escaped for reference in find(value))


def _row_count(value: object) -> object:
    if _holds_reference(value):
        return value
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("must be a whole number")
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise ValueError("must be a whole number") from error
    if not 0 <= number < 2**63:
        raise ValueError("must be 0 or more")
    return number


def _name(value: object) -> object:
    if isinstance(value, str) and not value:
        raise ValueError("must not be empty")
    return value


def _value(value: object) -> object:
    if value is None or not isinstance(value, (str, int, float, bool)):
        raise ValueError("must be a text, a number, true or false")
    return value


ColumnName = Annotated[str, BeforeValidator(_name)]


class Rule(BaseModel):
    """One step of a transform. `sql_fields` hold expressions: references in them become literals, not text."""

    model_config = ConfigDict(extra="allow", frozen=True)
    sql_fields: ClassVar[frozenset[str]] = frozenset()

    type: str


class RenameColumns(Rule):
    """Give columns new names."""

    type: Literal["rename_columns"] = "rename_columns"
    mapping: dict[ColumnName, ColumnName] = Field(min_length=1, max_length=_MOST_NAMES, description="New name by old name.")


class AddColumn(Rule):
    """Add a column that an expression computes, or replace the column of that name."""

    sql_fields: ClassVar[frozenset[str]] = frozenset({"expression"})
    type: Literal["add_column"] = "add_column"
    name: ColumnName = Field(description="Name of the column.")
    expression: str = Field(description="An expression over the input's columns, such as `amount * 1.19` or `first + ' ' + last`.")


class FilterRows(Rule):
    """Keep the rows for which a condition holds."""

    sql_fields: ClassVar[frozenset[str]] = frozenset({"condition"})
    type: Literal["filter_rows"] = "filter_rows"
    condition: str = Field(description="A condition over the input's columns, such as `status == paid and amount >= 100`.")


class DropNull(Rule):
    """Drop the rows that have a null in one of the columns (without columns: in any)."""

    type: Literal["drop_null"] = "drop_null"
    columns: ColumnNames = Field(default=(), max_length=_MOST_NAMES, description="The columns to look at; none means all.")


class ApplyFunction(Rule):
    """Replace a column by what a function makes of it."""

    type: Literal["apply_function"] = "apply_function"
    column: ColumnName = Field(description="The column.")
    function: str = Field(description="lower, upper, trim, title, abs, round, length, and others; see the documentation.")
    digits: int = Field(default=0, ge=-18, le=18, description="For `round`: digits after the point.")


class ReplaceValues(Rule):
    """Replace values of a column."""

    type: Literal["replace_values"] = "replace_values"
    column: ColumnName = Field(description="The column.")
    mapping: dict[str, Scalar] = Field(min_length=1, max_length=_MOST_NAMES, description="New value by old value.")


class DropColumns(Rule):
    """Leave out columns."""

    type: Literal["drop_columns"] = "drop_columns"
    columns: ColumnNames = Field(min_length=1, max_length=_MOST_NAMES, description="The columns to leave out.")


class Sort(Rule):
    """Sort rows; rows that are equal keep their order. Nulls come last."""

    type: Literal["sort"] = "sort"
    columns: ColumnNames = Field(min_length=1, max_length=_MOST_NAMES, description="The columns to sort by, the most important first.")
    ascending: bool | tuple[bool, ...] = Field(default=True, description="Smallest first; a list says it for each column.")

    @model_validator(mode="after")
    def _one_direction_a_column(self) -> "Sort":
        if isinstance(self.ascending, tuple) and len(self.ascending) != len(self.columns):
            raise refused("ascending", f"has {len(self.ascending)} entries for {len(self.columns)} columns; give one for each, or a single one")
        return self


class Deduplicate(Rule):
    """Keep the first of the rows that are equal in the columns (without columns: in all of them)."""

    type: Literal["deduplicate"] = "deduplicate"
    columns: ColumnNames = Field(default=(), max_length=_MOST_NAMES, description="The columns to compare; none means whole rows.")


class AggregateField(BaseModel):
    """One result of an aggregation."""

    model_config = ConfigDict(extra="allow", frozen=True)

    column: str = Field(default="*", description="The column; `*` for `count` of rows.")
    function: Literal["sum", "count", "avg", "min", "max", "median", "stddev", "first", "last", "count_distinct"] = Field(
        description="What to compute."
    )
    alias: str = Field(default="", description="Name of the result; `function_column` when left out.")

    @model_validator(mode="before")
    @classmethod
    def _normal_function(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("function"), str):
            name = value["function"].strip().lower()
            return {**value, "function": _AGGREGATE_ALIASES.get(name, name)}
        return value

    @model_validator(mode="after")
    def _only_count_takes_rows(self) -> "AggregateField":
        if self.column in ("", "*") and self.function != "count":
            raise refused("column", f"is missing: {self.function} needs a column")
        return self

    @property
    def name(self) -> str:
        if self.alias:
            return self.alias
        return "count" if self.column in ("", "*") else f"{self.function}_{self.column}"


class Aggregate(Rule):
    """One row for each group, with the groups in ascending order."""

    type: Literal["aggregate"] = "aggregate"
    group_by: ColumnNames = Field(default=(), max_length=_MOST_NAMES, description="The columns that make a group; none means one group of all rows.")
    agg_fields: tuple[AggregateField, ...] = Field(default=(), max_length=_MOST_NAMES, description="What to compute for each group.")

    @model_validator(mode="after")
    def _has_a_result(self) -> "Aggregate":
        if not self.group_by and not self.agg_fields:
            raise refused("agg_fields", "is empty: name columns to group by, or something to compute")
        return self


class Cast(Rule):
    """Give a column another type."""

    # The key cannot be `type`: that one names the rule.

    type: Literal["cast"] = "cast"
    column: ColumnName = Field(description="The column.")
    to: str = Field(description="The type: int, float, text, bool, date, timestamp, DECIMAL(18, 2), …")
    on_error: Literal["fail", "null"] = Field(default="fail", description="What becomes of a value that cannot be converted.")


class FillNull(Rule):
    """Put a value where a column has none."""

    type: Literal["fill_null"] = "fill_null"
    column: ColumnName = Field(description="The column.")
    value: Annotated[Any, BeforeValidator(_value, json_schema_input_type=str | int | float | bool)] = Field(description="The value.")


class Select(Rule):
    """Keep these columns, in this order."""

    type: Literal["select"] = "select"
    columns: ColumnNames = Field(min_length=1, max_length=_MOST_NAMES, description="The columns to keep.")


class Limit(Rule):
    """Keep the first rows."""

    type: Literal["limit"] = "limit"
    n: Annotated[int | str, BeforeValidator(_row_count)] = Field(description="How many rows.")


class Expression(Rule):
    """A rule written as a text: `drop_null(id)`, `filter(amount > 0)`, `rename(a, b)`, `total = price * quantity`."""

    sql_fields: ClassVar[frozenset[str]] = frozenset({"expression"})
    type: Literal["expression"] = "expression"
    expression: str = Field(description="The rule as a text.")


_MODELS: tuple[type[Rule], ...] = (
    RenameColumns,
    AddColumn,
    FilterRows,
    DropNull,
    ApplyFunction,
    ReplaceValues,
    DropColumns,
    Sort,
    Deduplicate,
    Aggregate,
    Cast,
    FillNull,
    Select,
    Limit,
    Expression,
)
MODELS: dict[str, type[Rule]] = {str(model.model_fields["type"].default): model for model in _MODELS}

TYPE_ALIASES = {
    "rename": "rename_columns",
    "filter": "filter_rows",
    "where": "filter_rows",
    "function": "apply_function",
    "replace": "replace_values",
    "drop": "drop_columns",
    "dedup": "deduplicate",
    "agg": "aggregate",
    "drop_nulls": "drop_null",
    "select_columns": "select",
}
_KEY_ALIASES = {
    "sort": {"column": "columns"},
    "aggregate": {"aggregations": "agg_fields"},
    "drop_columns": {"column": "columns"},
    "select": {"column": "columns"},
    "deduplicate": {"column": "columns"},
    "drop_null": {"column": "columns"},
    "cast": {"data_type": "to", "to_type": "to", "target_type": "to", "new_type": "to", "dtype": "to"},
}


def normalise(rule: object) -> object:
    """A rule with the names of the models instead of aliases; what cannot be read stays as it is, for validation to name."""
    if isinstance(rule, str):
        return {"type": "expression", "expression": rule}
    if not isinstance(rule, Mapping):
        return rule
    normal = _unwrapped(rule)
    if isinstance(normal.get("type"), str):
        lowered = normal["type"].strip().lower()
        normal["type"] = TYPE_ALIASES.get(lowered, lowered)
    for alias, key in _KEY_ALIASES.get(str(normal.get("type")), {}).items():
        if alias in normal and not normal.get(key):
            normal[key] = normal.pop(alias)
    if normal.get("type") == "rename_columns" and "mapping" not in normal and {"from", "to"} <= normal.keys():
        normal["mapping"] = {normal.pop("from"): normal.pop("to")}
    return normal


def expressions(rules: object) -> Iterator[str]:
    """The expressions in rules that may be wrong in any way; those written as texts are left out."""
    for rule in rules if isinstance(rules, (list, tuple)) else ():
        model = MODELS.get(str(rule.get("type"))) if isinstance(rule, Mapping) else None
        if model is not None and model is not Expression:
            yield from (rule[key] for key in model.sql_fields if isinstance(rule.get(key), str))


def _unwrapped(rule: Mapping[str, Any]) -> dict[str, Any]:
    """`{"cast": {"column": "a", "type": "int"}}` as `{"type": "cast", "column": "a", "to": "int"}`."""
    if len(rule) == 1:
        name, content = next(iter(rule.items()))
        known = TYPE_ALIASES.get(name, name) if isinstance(name, str) else ""
        if known in MODELS and isinstance(content, Mapping):
            content = dict(content)
            if "type" in content:
                content["to"] = content.pop("type")
            return {**content, "type": known}
    return dict(rule)


def read(value: object) -> Rule:
    """The model of the rule's type. Not pydantic's tagged union: it would put the tag into the path of every problem.

    Errors: `ValueError`, pydantic's `ValidationError`.
    """
    value = normalise(value)
    if isinstance(value, Rule):
        return value
    if not isinstance(value, Mapping):
        raise ValueError('must be a rule, such as {"type": "filter_rows", "condition": "amount > 0"}, or a text')  # noqa: TRY004
    name = value.get("type")
    if name is None:
        raise refused("type", f"is missing; the rules are {', '.join(sorted(MODELS))}")
    model = MODELS.get(name) if isinstance(name, str) else None
    if model is None:
        raise refused("type", _unknown_type(name))
    return model.model_validate(value)


def _unknown_type(name: object) -> str:
    close = difflib.get_close_matches(str(name), [*MODELS, *TYPE_ALIASES], n=1, cutoff=0.6)
    hint = f"perhaps {close[0]!r} is meant" if close else f"the rules are {', '.join(sorted(MODELS))}"
    return f"names no rule: {name!r}; {hint}"


_Tagged = Annotated[
    RenameColumns
    | AddColumn
    | FilterRows
    | DropNull
    | ApplyFunction
    | ReplaceValues
    | DropColumns
    | Sort
    | Deduplicate
    | Aggregate
    | Cast
    | FillNull
    | Select
    | Limit
    | Expression,
    Field(discriminator="type"),
]
AnyRule = Annotated[Rule, PlainValidator(read, json_schema_input_type=_Tagged | str)]
