"""`filter`: the rows for which an expression tree holds, in their order."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from pipelines.expressions import quote
from pipelines.nodes.base import Analysis, NodeConfig, NodeContext, NodeType, Ports, Query, Result, Schema
from pipelines.nodes.expression_trees import Compiler
from pipelines.nodes.expression_version import DECLARED_SCHEMA, ExpressionVersion
from pipelines.nodes.project import refuse
from pipelines.spec import NodeSpec


class FilterConfig(NodeConfig):
    """Which rows are kept."""

    predicate: Annotated[Any, Field(json_schema_extra={"type": "object"})] = Field(description="The condition, an expression tree.")
    expression_version: ExpressionVersion = Field(default=1, description="Version of the expressions' language; there is only 1.")
    declared_schema: Any = DECLARED_SCHEMA


class Filter(NodeType):
    name = "filter"
    label = "Filter"
    category = "transform"
    help = "Keeps the rows for which an expression tree holds."
    ports = Ports(1, 1)
    Config = FilterConfig

    def analyse(self, node: NodeSpec, config: FilterConfig, inputs: Sequence[Schema | None]) -> Analysis:
        schema = inputs[0] if inputs else None
        compiler = Compiler(schema, may_refer=True)
        condition = compiler.condition(config.predicate, "predicate")
        if condition is not None:
            compiler.output((), condition)
        return Analysis(tuple(compiler.problems), schema)

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` naming the part of the predicate at fault."""
        config: FilterConfig = context.config
        source = context.inputs[0]
        compiler = Compiler(source.schema, may_refer=False)
        condition = compiler.condition(config.predicate, "predicate")
        if condition is not None:
            compiler.output((), condition)
        refuse(compiler.problems)
        assert condition is not None
        before, log = source.row_count, context.log
        return Query(
            f"SELECT * FROM {quote(source.view)} WHERE {condition.sql}",  # noqa: S608 - compiled and quoted
            after=lambda row_count: log.info(f"Kept {row_count} of {before} rows"),
        )
