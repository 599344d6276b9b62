"""`join`: the rows of two inputs side by side, where their keys are equal.

The first edge is the left side. NULL joins nothing, not even NULL. Output columns: all of the left in their order, then those
of the right in theirs. A key that is called the same on both sides appears once, at its place on the left, and holds
whichever side has a value; keys with different names are both kept. `semi` and `anti` give columns of the left only.
The order of the output's rows is not promised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from brokoli_site.common.errors import NodeError
from pipelines.expressions import quote
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, Ports, Query, Result, Schema
from pipelines.nodes.column_types import common_type
from pipelines.nodes.columns import ColumnNames, find, free_name, unknown_column
from pipelines.nodes.config_errors import refused
from pipelines.problems import Problem
from pipelines.spec import NodeSpec

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti", "cross"]

# What existing documents and SQL call it.
_KIND_ALIASES = {"outer": "full", "full_outer": "full", "left_outer": "left", "right_outer": "right", "left_semi": "semi", "left_anti": "anti"}
_LEFT_ONLY = ("semi", "anti")


class JoinConfig(NodeConfig):
    """How two inputs are joined."""

    left_key: ColumnNames = Field(default=(), description="Key column of the first input, or a list of them.")
    right_key: ColumnNames = Field(default=(), description="Key column of the second input, or a list of as many. Default: the left key.")
    join_type: JoinKind = Field(
        default="inner",
        description="Which rows are kept: those with a partner (inner), all of one side (left, right) or both (full); rows of the left "
        "with (semi) or without (anti) a partner, once each; every pair (cross).",
    )
    collision_policy: Literal["prefix", "error", "alias"] = Field(
        default="prefix",
        description="What happens to a column of the right whose name the left has too: it gets the prefix `right_`, or it is an error. "
        "With `alias`, every column of the right is prefixed with `right_alias` and an underscore.",
    )
    right_alias: str = Field(default="", description="The prefix of the right's columns, for collision policy `alias`.")

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        if self.join_type == "cross" and self.keys:
            raise refused("left_key" if self.left_key else "right_key", "must be empty: a cross join pairs every row with every other")
        if self.join_type != "cross" and not self.keys:
            raise refused("left_key", "is missing; say which column joins the inputs")
        for field, names in (("left_key", self.left_key), ("right_key", self.right_key)):
            if not all(names):
                raise refused(field, "must not hold an empty name")
        return self

    @model_validator(mode="after")
    def _alias_is_given(self) -> Self:
        if self.collision_policy == "alias" and not self.right_alias.strip():
            raise refused("right_alias", "is missing; collision policy 'alias' puts it before the names of the right's columns")
        return self

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Pairs of key columns, left and right."""
        left, right = self.left_key or self.right_key, self.right_key or self.left_key
        if len(left) != len(right):
            raise refused("right_key", f"names {len(right)} columns and left_key {len(left)}; they must be as many")
        return tuple(zip(left, right, strict=True))


@dataclass(frozen=True, slots=True)
class _Key:
    """A pair of keys, the type that both are compared as, and whether they are one column of the output."""

    left: Column
    right: Column
    type: str
    merged: bool


@dataclass(frozen=True, slots=True)
class _Output:
    column: Column
    sql: str


class Join(NodeType):
    name = "join"
    label = "Join"
    category = "transform"
    help = "Puts the rows of two inputs side by side where their keys are equal. The first edge is the left side."
    ports = Ports(2, 2)
    Config = JoinConfig

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        kind = config.get("join_type")
        if isinstance(kind, str):
            lowered = kind.strip().lower().replace(" ", "_").replace("-", "_")
            return {**config, "join_type": _KIND_ALIASES.get(lowered, lowered)}
        return dict(config)

    def analyse(self, node: NodeSpec, config: JoinConfig, inputs: Sequence[Schema | None]) -> Analysis:
        if len(inputs) != 2:
            return Analysis()
        left, right = inputs
        if left is None or right is None:
            problems = _missing(config, left, right)
            return Analysis(tuple(problems), left if config.join_type in _LEFT_ONLY else None)
        keys, problems = _keys(config, left, right)
        if problems:
            return Analysis(tuple(problems))
        outputs, problems = _outputs(config, keys, left, right)
        return Analysis(tuple(problems), None if problems else tuple(output.column for output in outputs))

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` for columns that are not there, types that do not go together and names that collide."""
        config: JoinConfig = context.config
        left, right = context.inputs
        keys, problems = _keys(config, left.schema, right.schema)
        outputs: list[_Output] = []
        if not problems:
            outputs, problems = _outputs(config, keys, left.schema, right.schema)
        if problems:
            raise NodeError(" ".join(f"Field '{problem.field}': {problem.message}" for problem in problems))
        columns = ", ".join(f"{output.sql} AS {quote(output.column.name)}" for output in outputs)
        condition = "" if config.join_type == "cross" else f" ON {' AND '.join(_equal(key) for key in keys)}"
        return Query(
            f"SELECT {columns} FROM {quote(left.view)} AS l {config.join_type.upper()} JOIN {quote(right.view)} AS r{condition}"  # noqa: S608
        )


def _missing(config: JoinConfig, left: Schema | None, right: Schema | None) -> list[Problem]:
    """The keys that are not in the side that is known."""
    sides = (("left_key", left, "the left input", 0), ("right_key", right, "the right input", 1))
    return [
        Problem(unknown_column(pair[index], schema, where), field=field)
        for field, schema, where, index in sides
        if schema is not None
        for pair in config.keys
        if find(schema, pair[index]) is None
    ]


def _keys(config: JoinConfig, left: Schema, right: Schema) -> tuple[list[_Key], list[Problem]]:
    problems = _missing(config, left, right)
    keys: list[_Key] = []
    for left_name, right_name in config.keys:
        left_column, right_column = find(left, left_name), find(right, right_name)
        if left_column is None or right_column is None:
            continue
        type_name = common_type(left_column.type, right_column.type)
        if type_name is None:
            problems.append(Problem(_incomparable(left_column, right_column), field="left_key"))
            continue
        merged = left_column.name.casefold() == right_column.name.casefold()
        keys.append(_Key(left_column, right_column, type_name, merged))
    return keys, problems


def _incomparable(left: Column, right: Column) -> str:
    return (
        f"Left column '{left.name}' is {left.type} and right column '{right.name}' is {right.type}: values of these types are never equal. "
        "Cast one of them in a transform before the join."
    )


def _equal(key: _Key) -> str:
    return f"{_cast('l', key.left, key.type)} = {_cast('r', key.right, key.type)}"


def _cast(side: str, column: Column, type_name: str) -> str:
    reference = f"{side}.{quote(column.name)}"
    return reference if column.type == type_name else f"CAST({reference} AS {type_name})"


def _outputs(config: JoinConfig, keys: Sequence[_Key], left: Schema, right: Schema) -> tuple[list[_Output], list[Problem]]:
    merged = {key.left.name: key for key in keys if key.merged}
    outputs = [_left_output(config, column, merged.get(column.name)) for column in left]
    if config.join_type in _LEFT_ONLY:
        return outputs, []
    taken = {column.name.casefold() for column in left}
    own = {column.name.casefold() for column in right}
    dropped = {key.right.name for key in merged.values()}
    problems: list[Problem] = []
    for column in right:
        if column.name in dropped:
            continue
        name = _right_name(config, column.name, taken, own)
        if name is None or name.casefold() in taken:
            problems.append(_collision(config, column.name, name))
            continue
        taken.add(name.casefold())
        outputs.append(_Output(Column(name, column.type), f"r.{quote(column.name)}"))
    return outputs, problems


def _left_output(config: JoinConfig, column: Column, key: _Key | None) -> _Output:
    """A merged key holds the right's value where the left has none, which only right and full joins can give."""
    if key is None or config.join_type not in ("right", "full"):
        return _Output(column, f"l.{quote(column.name)}")
    return _Output(Column(column.name, key.type), f"coalesce({_cast('l', key.left, key.type)}, {_cast('r', key.right, key.type)})")


def _right_name(config: JoinConfig, name: str, taken: set[str], own: set[str]) -> str | None:
    """What a column of the right is called in the output; None: it may not be there."""
    if config.collision_policy == "alias":
        return f"{config.right_alias.strip()}_{name}"
    if name.casefold() not in taken:
        return name
    return None if config.collision_policy == "error" else free_name(name, "right_", taken | own)


def _collision(config: JoinConfig, name: str, new_name: str | None) -> Problem:
    if new_name is None:
        return Problem(f"Both inputs have a column '{name}'. Rename one, or choose collision policy 'prefix' or 'alias'.", field="collision_policy")
    return Problem(f"The right column '{name}' would become '{new_name}', which is taken. Choose another alias.", field="right_alias")
