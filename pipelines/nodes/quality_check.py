"""`quality_check`: holds its first input against rules, and passes it on unchanged.

All rules are measured in one scan of the data (a rule that counts distinct values is heavy: fifty of those share a scan).
Rows that break a rule are looked up for broken rules only. Each result is logged, and kept with the node's output. A broken
rule with `block` fails the node, with `warn` it is a warning. Inputs after the first hold the keys for `foreign_key`.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from brokoli_site.common.errors import NodeError
from pipelines.expressions import ExpressionError, canonical_type, parse_scalar, quote
from pipelines.expressions.parser import cursor
from pipelines.nodes import quality_rules, registry
from pipelines.nodes.base import Analysis, Input, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Result, Schema
from pipelines.nodes.columns import free_name
from pipelines.nodes.quality_checks import Check, Other, Surroundings, Verdict, check_pattern, compile_rule
from pipelines.nodes.quality_values import RuleFault
from pipelines.problems import Problem
from pipelines.references import References, UnknownReference
from pipelines.spec import NodeSpec

_SAMPLE_ROWS = 5
_SAMPLE_COLUMNS = 10
_LONGEST_VALUE = 200
# Every count(DISTINCT) keeps a hash table, and planning many in one statement takes time that grows with their square.
_DISTINCT_A_SCAN = 50


class QualityCheckConfig(NodeConfig):
    """The rules that data must keep."""

    rules: tuple[quality_rules.Rule, ...] = Field(
        json_schema_extra={"minItems": 1},
        description="The rules, each an object `{rule, column, params, on_failure}` or a text such as `not_null(id)` or `range(age, 0, 120)`.",
    )
    on_failure: Literal["block", "warn"] = Field(default="block", description="What a broken rule does that does not say it itself.")

    @field_validator("rules")
    @classmethod
    def _has_rules(cls, value: tuple[quality_rules.AnyRule, ...]) -> tuple[quality_rules.AnyRule, ...]:
        # Not `min_length`: pydantic would also report the list as empty whenever its only rule is wrong.
        if not value:
            raise ValueError("must not be empty; without rules there is nothing to check")
        return value


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A rule, what was found, and the first rows that break it."""

    number: int
    rule: str
    on_failure: str
    check: Check
    verdict: Verdict
    sample: tuple[dict[str, Any], ...] = ()

    @property
    def sentence(self) -> str:
        limit = f" (limit: {self.check.limit})" if self.check.limit and not self.verdict.passed else ""
        return f"{self.check.label}: {self.verdict.found}{limit}"

    @property
    def examples(self) -> str:
        shown = [f"row {row['row']} ({_values(row['values'], self.check.columns)})" for row in self.sample]
        return f" For example {', '.join(shown)}." if shown else ""

    def facts(self) -> dict[str, Any]:
        """As it is kept; safe for JSON. `row` counts from 1."""
        return {
            "check": self.check.label,
            "rule": self.rule,
            "columns": list(self.check.columns),
            "on_failure": self.on_failure,
            "passed": self.verdict.passed,
            "found": self.verdict.found,
            "value": self.verdict.value,
            "limit": self.check.limit,
            "failing_rows": self.verdict.failing_rows,
            "sample": list(self.sample),
        }


def _values(values: Mapping[str, str | None], columns: Sequence[str]) -> str:
    return ", ".join(f"{name} = {'NULL' if values[name] is None else values[name]}" for name in columns[:_SAMPLE_COLUMNS])


class QualityCheckFailed(NodeError):
    """The data breaks a quality rule that blocks."""

    code = "quality_check_failed"


class QualityCheck(NodeType):
    name = "quality_check"
    label = "Quality check"
    category = "quality"
    help = "Holds data against rules: fails the run, or warns, when one is broken. The data passes through unchanged."
    ports = Ports(1, None)
    Config = QualityCheckConfig
    sql_keys = frozenset({"rules"})
    first_input_leads = True

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        if "checks" in found and "rules" not in found:
            found["rules"] = found.pop("checks")
        if isinstance(found.get("rules"), list | tuple):
            found["rules"] = [quality_rules.normalise_rule(rule) for rule in found["rules"]]
        return found

    def analyse(self, node: NodeSpec, config: QualityCheckConfig, inputs: Sequence[Schema | None]) -> Analysis:
        schema = inputs[0] if inputs else None
        if schema is None:
            faults = [(number, _unbound_fault(rule)) for number, rule in enumerate(config.rules)]
        else:
            faults = _faults_with(schema, inputs[1:], config.rules)
        problems = [Problem(fault.message, "", _field(number, fault), fault.line, fault.column) for number, fault in faults if fault is not None]
        return Analysis(tuple(problems), schema)

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` naming every rule that does not fit the data; `QualityCheckFailed` naming every broken one."""
        outcomes = _outcomes(context)
        _report(context, outcomes)
        _refuse_broken(outcomes)
        return PassThrough(checks=tuple(outcome.facts() for outcome in outcomes))

    def dry_run(self, context: NodeContext) -> Result:
        """As `run`, but a broken rule is only told: of a few rows, nobody can expect a thousand, or every key that a join looks for."""
        outcomes = _outcomes(context)
        _report(context, outcomes)
        return PassThrough(checks=tuple(outcome.facts() for outcome in outcomes))


def _field(number: int, fault: RuleFault) -> str:
    return f"rules.{number}" + (f".{fault.path}" if fault.path else "")


# --- before the run -----------------------------------------------------------------------------------------------


def _unbound_fault(rule: quality_rules.AnyRule) -> RuleFault | None:
    """What is wrong with a rule whatever the columns are."""
    try:
        if isinstance(rule, quality_rules.Regex) and not quality_rules.has_reference(rule.params.pattern):
            check_pattern(rule.params.pattern)
        if isinstance(rule, quality_rules.Expression):
            parse_scalar(rule.params.expression, None)
    except ExpressionError as error:
        return RuleFault(f"{error.message.rstrip('.')}.", "params.expression", error.line, error.column)
    except RuleFault as fault:
        return fault
    return None


def _faults_with(schema: Schema, others: Sequence[Schema | None], found: Sequence[quality_rules.AnyRule]) -> list[tuple[int, RuleFault | None]]:
    """What is wrong with rules for an input of these columns: each is compiled against an empty table of them."""
    with cursor() as connection:
        if any(isinstance(rule, quality_rules.Expression) for rule in found):
            columns = ", ".join(f"{quote(column.name)} {canonical_type(column.type)}" for column in schema)
            connection.execute(f"CREATE TEMP TABLE input ({columns})")
        around = Surroundings(connection, "input", schema, tuple(Other(frozenset(), "", one) for one in others), None, dt.datetime.now(dt.UTC))
        return [(number, _fault(rule, number, around)) for number, rule in enumerate(found)]


def _fault(rule: quality_rules.AnyRule, number: int, around: Surroundings) -> RuleFault | None:
    if _waits_for_run(rule):
        return _unbound_fault(rule)
    try:
        compile_rule(rule, number, around)
    except RuleFault as fault:
        return fault
    return None


def _waits_for_run(rule: quality_rules.AnyRule) -> bool:
    """Whether a value of it (other than SQL, which takes references itself) is a reference."""
    return any(quality_rules.has_reference(text) for text in _texts(_plain(rule)))


def _plain(rule: quality_rules.AnyRule) -> dict[str, Any]:
    """The rule as a document writes it, without its SQL."""
    found: dict[str, Any] = rule.model_dump(exclude_unset=True)
    if isinstance(rule, quality_rules.Expression):
        found["params"].pop("expression")
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


# --- the run ------------------------------------------------------------------------------------------------------


def _resolved(config: QualityCheckConfig, references: References) -> tuple[quality_rules.AnyRule, ...]:
    """The rules with their references replaced, and validated again. Errors: `NodeError`."""
    if not any(_waits_for_run(rule) for rule in config.rules):
        return config.rules
    found = []
    for number, rule in enumerate(config.rules):
        try:
            plain = references.substitute(_plain(rule))
        except UnknownReference as error:
            raise UnknownReference(f"Field 'rules.{number}': {error.message}") from error
        if isinstance(rule, quality_rules.Expression):
            plain["params"]["expression"] = rule.params.expression
        found.append(plain)
    validated = registry.validate(QualityCheck(), {"rules": found})
    assert isinstance(validated, QualityCheckConfig)
    return validated.rules


def _outcomes(context: NodeContext) -> list[_Outcome]:
    """The verdict on each rule. Errors: `NodeError` naming every rule that does not fit the data."""
    config, references = context.config, References.of(context.run)
    resolved = _resolved(config, references)
    around = _surroundings(context, references)
    checks = _compiled(resolved, around)
    data = context.inputs[0]
    return [
        _Outcome(number, rule.rule, rule.on_failure or config.on_failure, check, verdict, _sample(context, check, verdict))
        for number, (rule, check, verdict) in enumerate(zip(resolved, checks, _measure(context, data, checks), strict=True))
    ]


def _surroundings(context: NodeContext, references: References) -> Surroundings:
    data, *others = context.inputs
    known = tuple(Other(frozenset({one.node_id, one.name}), one.view, one.schema) for one in others)
    return Surroundings(context.connection, data.view, data.schema, known, references, dt.datetime.now(dt.UTC))


def _compiled(found: Sequence[quality_rules.AnyRule], around: Surroundings) -> list[Check]:
    """Errors: `NodeError` with a sentence for each rule that does not fit the data."""
    checks, sentences = [], []
    for number, rule in enumerate(found):
        try:
            checks.append(compile_rule(rule, number, around))
        except RuleFault as fault:
            sentences.append(f"Field '{_field(number, fault)}': {fault.message}")
    if sentences:
        raise NodeError(" ".join(sentences))
    return checks


def _measure(context: NodeContext, data: Input, checks: Sequence[Check]) -> Iterator[Verdict]:
    """The verdict on each check, in order."""
    for some in _scans(checks):
        aggregates = [aggregate for check in some for aggregate in check.aggregates]
        values: Iterator[Any] = iter(())
        if aggregates:
            joins = "".join(check.join for check in some)
            sql = f"SELECT {', '.join(aggregates)} FROM {quote(data.view)}{joins}"  # noqa: S608 - quoted names and literals
            values = iter(context.connection.execute(sql).fetchone() or ())
        for check in some:
            yield check.judge([next(values) for _ in check.aggregates], data.row_count)
        context.stop.check()


def _scans(checks: Sequence[Check]) -> Iterator[list[Check]]:
    """The checks in groups that share a scan: all, as a rule."""
    some: list[Check] = []
    for check in checks:
        if check.distinct and sum(one.distinct for one in some) == _DISTINCT_A_SCAN:
            yield some
            some = []
        some.append(check)
    yield some


def _sample(context: NodeContext, check: Check, verdict: Verdict) -> tuple[dict[str, Any], ...]:
    """The first rows that break the rule: `{row, values}`, the values as text."""
    if verdict.passed or not check.breaks:
        return ()
    data = context.inputs[0]
    position = quote(free_name("number", "row_", [column.name.casefold() for column in data.schema]))
    others = [column.name for column in data.schema if column.name not in check.columns]
    names = [*check.columns, *others][:_SAMPLE_COLUMNS]
    columns = ", ".join(f"left(CAST({quote(name)} AS VARCHAR), {_LONGEST_VALUE})" for name in names)
    rows = context.connection.execute(
        f"SELECT {position}, {columns} FROM (SELECT row_number() OVER () AS {position}, * FROM {quote(data.view)}){check.join} "  # noqa: S608
        f"WHERE {check.breaks} ORDER BY {position} LIMIT {_SAMPLE_ROWS}"
    ).fetchall()
    return tuple({"row": row[0], "values": dict(zip(names, map(_storable, row[1:]), strict=True))} for row in rows)


def _storable(value: str | None) -> str | None:
    """PostgreSQL stores no NUL character."""
    return None if value is None else value.replace("\0", "�")


def _report(context: NodeContext, outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.verdict.passed:
            context.log.info(f"Quality rule passed: {outcome.sentence}.")
        elif outcome.on_failure == "warn":
            context.log.warning(f"Quality rule failed (warning): {outcome.sentence}.{outcome.examples}")
        else:
            context.log.error(f"Quality rule failed: {outcome.sentence}.{outcome.examples}")


def _refuse_broken(outcomes: Sequence[_Outcome]) -> None:
    """Errors: `QualityCheckFailed`."""
    broken = [outcome for outcome in outcomes if not outcome.verdict.passed and outcome.on_failure == "block"]
    if broken:
        named = "; ".join(f"{outcome.sentence} (rules.{outcome.number})" for outcome in broken)
        raise QualityCheckFailed(f"{len(broken)} of {len(outcomes)} quality rules failed: {named}.")
