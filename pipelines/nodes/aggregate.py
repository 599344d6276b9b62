"""`aggregate`: one row for each group. The same as the transform's rule of that name, as a node of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from pipelines.expressions import stored
from pipelines.nodes.base import Analysis, NodeConfig, NodeContext, NodeType, Ports, Query, Result, Schema
from pipelines.nodes.columns import ColumnNames
from pipelines.nodes.config_errors import refused
from pipelines.nodes.expression_version import DECLARED_SCHEMA, ExpressionVersion
from pipelines.nodes.project import refuse
from pipelines.nodes.transform_builders import plan_of
from pipelines.nodes.transform_plan import Plan
from pipelines.nodes.transform_rules import Aggregate as Rule
from pipelines.nodes.transform_rules import AggregateField
from pipelines.problems import Problem
from pipelines.references import References
from pipelines.spec import NodeSpec

_MOST_NAMES = 5_000


class AggregateConfig(NodeConfig):
    """The groups, and what to compute for each."""

    group_by: ColumnNames = Field(default=(), max_length=_MOST_NAMES, description="The columns that make a group; none means one group of all rows.")
    agg_fields: tuple[AggregateField, ...] = Field(
        default=(), max_length=_MOST_NAMES, description="What to compute for each group: `{column, function, alias}`."
    )
    expression_version: ExpressionVersion = Field(default=1, description="Version of the expressions' language; there is only 1.")
    declared_schema: Any = DECLARED_SCHEMA

    @model_validator(mode="after")
    def _has_a_result(self) -> Self:
        if not self.group_by and not self.agg_fields:
            raise refused("agg_fields", "is empty: name columns to group by, or something to compute")
        return self


class Aggregate(NodeType):
    name = "aggregate"
    label = "Aggregate"
    category = "transform"
    help = "Makes one row of each group: sums, counts, averages and the like."
    ports = Ports(1, 1)
    Config = AggregateConfig

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        normal = dict(config)
        if "aggregations" in normal and not normal.get("agg_fields"):
            normal["agg_fields"] = normal.pop("aggregations")
        return normal

    def analyse(self, node: NodeSpec, config: AggregateConfig, inputs: Sequence[Schema | None]) -> Analysis:
        plan = _plan(config, inputs[0] if inputs else None, None)
        schema = plan.bind()
        return Analysis(_problems(plan), None if schema is None else stored(schema))

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` naming the fields at fault."""
        source = context.inputs[0]
        plan = _plan(context.config, source.schema, References.of(context.run))
        plan.bind()
        refuse(_problems(plan))
        before, log = source.row_count, context.log
        return Query(plan.sql, after=lambda row_count: log.info(f"{before} rows in {row_count} groups"))


def _plan(config: AggregateConfig, schema: Schema | None, references: References | None) -> Plan:
    return plan_of(schema, [Rule(group_by=config.group_by, agg_fields=config.agg_fields)], references)


def _problems(plan: Plan) -> tuple[Problem, ...]:
    """With the fields of this config, not those of a transform's first rule."""
    return tuple(Problem(problem.message, field=problem.field.removeprefix("rules.0").removeprefix(".")) for problem in plan.problems)
