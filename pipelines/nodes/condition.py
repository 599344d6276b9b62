"""`condition`: asks one question about its input, and says along which of its edges the run goes on. The data passes through unchanged."""

from collections.abc import Sequence

from pydantic import Field

from brokoli_site.common.errors import NodeError
from pipelines.expressions import Condition as ParsedCondition
from pipelines.expressions import ExpressionError, parse_condition, quote
from pipelines.nodes.base import Analysis, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Result, Schema
from pipelines.problems import Problem
from pipelines.references import References
from pipelines.spec import NodeSpec


class ConditionConfig(NodeConfig):
    """The question."""

    expression: str = Field(
        min_length=1,
        description='True or false about all rows together: `row_count > 0`, `null_pct("email") < 5`, `column_exists("email")`, '
        '`max("amount") > 100`, `always_true`, or any SQL that has its columns within aggregates.',
    )


class Condition(NodeType):
    name = "condition"
    label = "Condition"
    category = "control"
    help = "Decides which branch is taken: edges whose `condition` is the answer. What only the other branch feeds is skipped."
    ports = Ports(1, 1)
    Config = ConditionConfig
    sql_keys = frozenset({"expression"})

    def analyse(self, node: NodeSpec, config: ConditionConfig, inputs: Sequence[Schema | None]) -> Analysis:
        schema = inputs[0] if inputs else None
        try:
            condition = parse_condition(config.expression, schema)
            if schema and not condition.folds_much:
                condition.bind(schema)
        except ExpressionError as error:
            return Analysis((Problem(error.sentence, field="expression", line=error.line, column=error.column),), schema)
        return Analysis((), schema)

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` with line and column of what is wrong with the expression, or naming the values that give no answer."""
        config: ConditionConfig = context.config
        try:
            condition = parse_condition(config.expression, context.inputs[0].schema, References.of(context.run))
            if not condition.folds_much:
                condition.bind(context.inputs[0].schema)
        except ExpressionError as error:
            raise NodeError(f"Field 'expression', line {error.line}, column {error.column}: {error.sentence}") from error
        answer, values = _decide(context, condition)
        shown = f" ({values})" if values else ""
        if answer is None:
            raise NodeError(f"The condition {config.expression} is NULL, not true or false{shown}. Say what it then means: coalesce(…, false).")
        if not isinstance(answer, bool):
            raise NodeError(f"The condition {config.expression} is {answer!r}, not true or false{shown}. Compare it with something.")
        context.log.info(f"{config.expression} → {str(answer).lower()}{shown}")
        return PassThrough(branch=answer)


def _decide(context: NodeContext, condition: ParsedCondition) -> tuple[object, str]:
    """The answer, and the values that it depends on: `row_count = 842, max("c") = 7`."""
    view = context.inputs[0].view
    assert view == "input", f"the only input is {quote(view)}"
    row = context.connection.execute(condition.sql).fetchone()
    if row is None:
        raise NodeError("The data engine gave no answer.")
    answer, _, *values = row
    return answer, ", ".join(f"{name} = {'NULL' if value is None else value}" for name, value in zip(condition.asked, values, strict=True))
