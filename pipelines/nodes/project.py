"""`project`: the output's columns, each computed by an expression tree. What is not named is left out."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from brokoli_site.common.errors import NodeError
from pipelines.expressions import quote, stored
from pipelines.nodes.base import Analysis, NodeConfig, NodeContext, NodeType, Ports, Query, Result, Schema
from pipelines.nodes.expression_trees import Compiled, Compiler
from pipelines.nodes.expression_version import DECLARED_SCHEMA, ExpressionVersion
from pipelines.problems import Problem
from pipelines.spec import NodeSpec


class Projection(BaseModel):
    """One column of the output."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, description="Name of the column.")
    expr: Annotated[Any, Field(json_schema_extra={"type": "object"})] = Field(description="The expression tree that computes it.")


def _some(projections: tuple[Projection, ...]) -> tuple[Projection, ...]:
    # Not `min_length`: pydantic would count only those that are right, and complain twice of one that is wrong.
    if not projections:
        raise ValueError("must not be empty")
    return projections


class ProjectConfig(NodeConfig):
    """The columns of the output."""

    projections: Annotated[tuple[Projection, ...], AfterValidator(_some)] = Field(
        max_length=5_000, description="The columns of the output, in order."
    )
    expression_version: ExpressionVersion = Field(default=1, description="Version of the expressions' language; there is only 1.")
    declared_schema: Any = DECLARED_SCHEMA


class Project(NodeType):
    name = "project"
    label = "Project"
    category = "transform"
    help = "Computes the columns of its output with expression trees."
    ports = Ports(1, 1)
    Config = ProjectConfig

    def analyse(self, node: NodeSpec, config: ProjectConfig, inputs: Sequence[Schema | None]) -> Analysis:
        compiler = Compiler(inputs[0] if inputs else None, may_refer=True)
        schema = compiler.output(_columns(compiler, config))
        return Analysis(tuple(compiler.problems), None if schema is None else stored(schema))

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` naming each expression at fault."""
        config: ProjectConfig = context.config
        source = context.inputs[0]
        compiler = Compiler(source.schema, may_refer=False)
        columns = _columns(compiler, config)
        compiler.output(columns)
        refuse(compiler.problems)
        items = ", ".join(f"{compiled.sql} AS {quote(name)}" for name, compiled in columns)
        return Query(f"SELECT {items} FROM {quote(source.view)}")  # noqa: S608 - compiled and quoted


def refuse(problems: Sequence[Problem]) -> None:
    """Errors: `NodeError` with all of them."""
    if problems:
        raise NodeError(" ".join(f"Field '{problem.field}': {problem.message}" if problem.field else problem.message for problem in problems))


def _columns(compiler: Compiler, config: ProjectConfig) -> list[tuple[str, Compiled]]:
    columns: list[tuple[str, Compiled]] = []
    taken: set[str] = set()
    for index, projection in enumerate(config.projections):
        if projection.name.casefold() in taken:
            compiler.problems.append(Problem(f"Two columns would be called '{projection.name}'.", field=f"projections.{index}.name"))
        taken.add(projection.name.casefold())
        compiled = compiler.value(projection.expr, f"projections.{index}.expr")
        if compiled is not None:
            columns.append((projection.name, _wide(projection.expr, compiled)))
    return columns


def _wide(tree: Mapping[str, Any], compiled: Compiled) -> Compiled:
    """A whole number that is a column by itself has 64 bits, as the SDK declares it, whatever its size."""
    is_whole = tree["op"] == "literal" and type(tree["value"]) is int
    return Compiled(f"CAST({compiled.sql} AS BIGINT)", compiled.kind, compiled.path) if is_whole else compiled
