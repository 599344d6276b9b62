"""`union`: the rows of any number of inputs, one input after the other in the order of the edges.

By name (the default), the output has every column that some input has, in order of first appearance, and is NULL where an
input lacks it. By position, all inputs need as many columns, and the first one names them. With `distinct`, equal rows
(NULL equals NULL here) are kept once, at the place of the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from brokoli_site.common.errors import NodeError
from pipelines.expressions import quote
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Query, Result, Schema
from pipelines.nodes.column_types import common_type
from pipelines.nodes.columns import free_name
from pipelines.problems import Problem
from pipelines.spec import NodeSpec

_MODE_ALIASES = {"union": "by_name", "name": "by_name", "position": "by_position"}


class UnionConfig(NodeConfig):
    """How inputs are put together."""

    mode: Literal["by_name", "by_position"] = Field(
        default="by_name",
        description="`by_name`: columns of one name are one column, and NULL where an input lacks it. `by_position`: first with first, "
        "second with second; all inputs need as many columns.",
    )
    distinct: bool = Field(default=False, description="Keep equal rows once.")


@dataclass(slots=True)
class _Merged:
    """A column of the output while it is put together: where its type comes from, for the sentence when another does not fit."""

    column: Column
    source: str
    sources: dict[int, Column]  # by the index of the input


class Union(NodeType):
    name = "union"
    label = "Union"
    category = "transform"
    help = "Puts the rows of all inputs into one output, in the order of the edges."
    ports = Ports(1, None)
    Config = UnionConfig

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        mode = config.get("mode")
        if isinstance(mode, str):
            lowered = mode.strip().lower().replace(" ", "_").replace("-", "_")
            return {**config, "mode": _MODE_ALIASES.get(lowered, lowered) or "by_name"}
        return dict(config)

    def analyse(self, node: NodeSpec, config: UnionConfig, inputs: Sequence[Schema | None]) -> Analysis:
        known = [schema for schema in inputs if schema is not None]
        names = [f"input {index + 1}" for index, schema in enumerate(inputs) if schema is not None]
        merged, problems = _merge(config, known, names)
        complete = len(known) == len(inputs) and bool(inputs) and not problems
        return Analysis(tuple(problems), tuple(one.column for one in merged) if complete else None)

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` naming the inputs and columns whose types, or numbers, do not fit."""
        config: UnionConfig = context.config
        if len(context.inputs) == 1 and not config.distinct:
            return PassThrough()
        merged, problems = _merge(config, [one.schema for one in context.inputs], [f"'{one.name}'" for one in context.inputs])
        if problems:
            raise NodeError(" ".join(f"Field '{problem.field}': {problem.message}" for problem in problems))
        selects = [
            f"SELECT {', '.join(_selected(one, index) for one in merged if index in one.sources)} FROM {quote(one_input.view)}"  # noqa: S608
            for index, one_input in enumerate(context.inputs)
        ]
        # By name, DuckDB fills in what an input lacks: ten times faster to plan than a NULL written out for each.
        rows = (" UNION ALL BY NAME " if config.mode == "by_name" else " UNION ALL ").join(selects)
        return Query(_first_of_equal(rows, [one.column for one in merged]) if config.distinct else rows)


def _merge(config: UnionConfig, schemas: Sequence[Schema], names: Sequence[str]) -> tuple[list[_Merged], list[Problem]]:
    """The output's columns. `names` are those of the inputs, as sentences show them."""
    merged: dict[str, _Merged] = {}
    problems: list[Problem] = []
    for index, (schema, name) in enumerate(zip(schemas, names, strict=True)):
        if config.mode == "by_position" and len(schema) != len(schemas[0]):
            text = f"{_capital(names[0])} has {len(schemas[0])} columns and {name} has {len(schema)}: by position, they must be as many."
            problems.append(Problem(text, field="mode"))
            continue
        for position, column in enumerate(schema):
            key = str(position) if config.mode == "by_position" else column.name.casefold()
            known = merged.get(key)
            if known is None:
                merged[key] = _Merged(column, name, {index: column})
                continue
            type_name = common_type(known.column.type, column.type)
            if type_name is None:
                problems.append(Problem(_unfit(known, column, name), field="mode"))
                continue
            known.sources[index] = column
            if type_name != known.column.type:
                known.column, known.source = Column(known.column.name, type_name), name
    return list(merged.values()), problems


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unfit(known: _Merged, column: Column, name: str) -> str:
    return (
        f"Column '{known.column.name}' is {known.column.type} in {known.source}, but '{column.name}' is {column.type} in {name}. "
        "Cast one of them in a transform before the union."
    )


def _selected(one: _Merged, index: int) -> str:
    source = one.sources[index]
    value = quote(source.name) if source.type == one.column.type else f"CAST({quote(source.name)} AS {one.column.type})"
    return f"{value} AS {quote(one.column.name)}"


def _first_of_equal(rows: str, columns: Sequence[Column]) -> str:
    """Each row once, at the place of the first of its equals, so that the same inputs always give the same file."""
    position = quote(free_name("position", "row_", [column.name.casefold() for column in columns]))
    names = ", ".join(quote(column.name) for column in columns)
    return (
        f"SELECT {names} FROM (SELECT {names}, min({position}) AS {position} "  # noqa: S608
        f"FROM (SELECT row_number() OVER () AS {position}, * FROM ({rows})) GROUP BY {names}) ORDER BY {position}"
    )
