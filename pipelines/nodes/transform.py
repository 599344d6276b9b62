"""`transform`: a list of rules, run as one SQL statement."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from brokoli_site.common.errors import NodeError
from pipelines.expressions import parse_ahead, stored
from pipelines.nodes import transform_rules
from pipelines.nodes.base import Analysis, KnownInput, NodeConfig, NodeContext, NodeLogger, NodeType, PassThrough, Ports, Query, Result, Schema
from pipelines.nodes.transform_builders import plan_of
from pipelines.nodes.transform_plan import Effect, Plan
from pipelines.problems import Problem
from pipelines.references import References
from pipelines.spec import NodeSpec

# Up to here the rows after any rule are counted; beyond, only where it takes no second sort, join or aggregation.
_ROWS_THAT_ARE_CHEAP = 200_000
_MOST_RULES = 200


class TransformConfig(NodeConfig):
    """The rules, in order."""

    rules: tuple[transform_rules.AnyRule, ...] = Field(default=(), max_length=_MOST_RULES, description="The rules, applied one after the other.")


class Transform(NodeType):
    name = "transform"
    label = "Transform"
    category = "transform"
    help = "Filters, computes, renames, sorts, aggregates: a list of rules, run as one SQL statement."
    ports = Ports(1, 1)
    Config = TransformConfig
    sql_keys = frozenset({"rules"})

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        normal = dict(config)
        if isinstance(normal.get("rules"), (list, tuple)):
            normal["rules"] = [transform_rules.normalise(rule) for rule in normal["rules"]]
        return normal

    def expect(self, configs: Iterable[Mapping[str, Any]]) -> None:
        parse_ahead(text for config in configs for text in transform_rules.expressions(config.get("rules")))

    def analyse(self, node: NodeSpec, config: TransformConfig, inputs: Sequence[Schema | None]) -> Analysis:
        plan = plan_of(inputs[0] if inputs else None, config.rules, references=None)
        schema = plan.bind()
        if schema is None and plan.columns is not None and all(column.type for column in plan.columns):
            schema = tuple(plan.columns)
        return Analysis((*plan.problems, *plan.doubts), None if schema is None else stored(schema))

    def analyse_faulty(self, node: NodeSpec, inputs: Sequence[KnownInput]) -> tuple[Problem, ...]:
        given = node.config.get("rules")
        if not isinstance(given, (list, tuple)) or len(given) > _MOST_RULES:
            return ()
        plan = plan_of(inputs[0].schema, [_readable(rule) for rule in given], references=None)
        return (*plan.problems, *plan.doubts)

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` naming rule, field and, for an unknown column, those that there are."""
        config: TransformConfig = context.config
        if not config.rules:
            return PassThrough()
        source = context.inputs[0]
        plan = plan_of(source.schema, config.rules, References.of(context.run))
        plan.bind()
        if plan.problems:
            raise NodeError(" ".join(_sentence(problem, config) for problem in plan.problems))
        counts = _counts_between(plan, context)
        return Query(plan.sql, after=lambda row_count: _log(context.log, plan.effects, source.row_count, counts, row_count))


def _readable(rule: object) -> transform_rules.Rule | None:
    try:
        return transform_rules.read(rule)
    except ValueError:
        return None


def _sentence(problem: Problem, config: TransformConfig) -> str:
    """`Rule 3 (filter_rows), field 'rules.2.condition', line 1, column 8: …`"""
    index = int(problem.field.split(".")[1])
    place = "" if problem.line is None else f", line {problem.line}, column {problem.column}"
    return f"Rule {index + 1} ({config.rules[index].type}), field '{problem.field}'{place}: {problem.message}"


def _counts_between(plan: Plan, context: NodeContext) -> dict[int, int]:
    """How many rows there are after the rules that change their number, by rule; the last one's are the output's, and known then.

    One more scan, of the columns that conditions read; left out behind rules that would have to be computed twice.
    """
    changing = [effect.number for effect in plan.effects if effect.changes_rows][:-1]
    if context.inputs[0].row_count > _ROWS_THAT_ARE_CHEAP:
        heavy = [effect.number for effect in plan.effects if not effect.is_light]
        changing = [number for number in changing if not heavy or number < heavy[0]]
    if not changing:
        return {}
    counts = ", ".join(f"({plan.count_after(number)})" for number in changing)
    row = context.connection.execute(f"{plan.chain(changing[-1])} SELECT {counts}").fetchone()
    assert row is not None
    return dict(zip(changing, map(int, row), strict=True))


def _log(log: NodeLogger, effects: Sequence[Effect], row_count: int, counts: Mapping[int, int], output_row_count: int) -> None:
    last = max((effect.number for effect in effects if effect.changes_rows), default=0)
    before: int | None = row_count
    for effect in effects:
        after = before
        if effect.changes_rows:
            after = output_row_count if effect.number == last else counts.get(effect.number)
        changed = effect.changes_rows and (after is None or after != before)
        rows = f"{_count(before, unit=after is None)} → {_count(after)}" if changed else _count(before)
        log.info(f"Rule {effect.number} {effect.rule_type}: {rows}" + (f"; columns: {effect.columns}" if effect.columns else ""))
        before = after


def _count(rows: int | None, *, unit: bool = True) -> str:
    if rows is None:
        return "not counted"
    return f"{rows} {'row' if rows == 1 else 'rows'}" if unit else str(rows)
