"""A quality rule as SQL: the aggregates that one scan computes for it, what their values mean, and which rows break it."""

import datetime as dt
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import orjson

from pipelines.expressions import ExpressionError, literal, parse_scalar, quote
from pipelines.expressions.parser import cursor
from pipelines.nodes import quality_rules as rules
from pipelines.nodes.base import Column, Schema
from pipelines.nodes.column_types import common_type, is_text
from pipelines.nodes.columns import find, free_name, unknown_column
from pipelines.nodes.quality_values import RuleFault, accepted, as_moment, breaks_type, ordered, text_of
from pipelines.references import References

# White space of any script: RE2's \s knows ASCII's only.
_BLANK = r"[\s\p{Z}]*"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule found, in words; `failing_rows` None where no row can be blamed; `value` is what `limit` is held against."""

    passed: bool
    found: str
    failing_rows: int | None = None
    value: int | float | str | None = None


Judge = Callable[[Sequence[Any], int], Verdict]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule made ready for one input.

    `judge` gets the values of `aggregates`, in order, and the number of rows. `breaks` is the condition of an offending row
    ("" when no row can be blamed), `join` what it needs beside the input. `distinct`: counts distinct values, which is heavy.
    """

    label: str
    columns: tuple[str, ...]
    judge: Judge
    limit: str = ""
    aggregates: tuple[str, ...] = ()
    breaks: str = ""
    join: str = ""
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Other:
    """An input after the first. `names`: what a rule may call it; empty when that is not known yet. `schema` None: unknown."""

    names: frozenset[str]
    view: str
    schema: Schema | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules are compiled against: the input `view` on `connection`, with columns `schema`, and the inputs after it."""

    connection: duckdb.DuckDBPyConnection
    view: str
    schema: Schema
    others: tuple[Other, ...]
    references: References | None
    now: dt.datetime


def compile_rule(rule: rules.AnyRule, number: int, around: Surroundings) -> Check:
    """The rule as a check; `number` is its place. Errors: `RuleFault` for whatever does not fit the data."""
    columns = [_column(name, around.schema) for name in rule.column]
    return _COMPILERS[type(rule)](rule, columns, number, around)


def _column(name: str, schema: Schema) -> Column:
    column = find(schema, name)
    if column is None:
        raise RuleFault(unknown_column(name, schema), "column")
    return column


def _rows_check(label: str, columns: Sequence[Column], breaks: str, what: str, limit: str = "", extreme: tuple[str, str] | None = None) -> Check:
    """A rule that single rows break. `what` names those rows; `extreme` is an aggregate worth showing and its name."""

    def judge(values: Sequence[Any], row_count: int) -> Verdict:
        failing, seen = int(values[0] or 0), values[1] if extreme else None
        found = f"{what}: {failing:,} of {row_count:,}" + (f"; {extreme[1]}: {seen}" if extreme and seen is not None else "")
        return Verdict(failing == 0, found, failing, seen if extreme else failing)

    aggregates = (f"count_if({breaks})", *((extreme[0],) if extreme else ()))
    return Check(label, tuple(column.name for column in columns), judge, limit, aggregates, breaks)


def _label(rule: rules.AnyRule, *arguments: object) -> str:
    return f"{rule.rule}({', '.join([*rule.column, *map(str, arguments)])})"


# --- single rules -------------------------------------------------------------------------------------------------


def _not_null(rule: rules.NotNull, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    breaks = " OR ".join(f"{quote(column.name)} IS NULL" for column in columns)
    return _rows_check(_label(rule), columns, f"({breaks})", "rows without a value")


def _no_blank(rule: rules.NoBlank, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    column = columns[0]
    breaks = f"{quote(column.name)} IS NULL"
    if is_text(column.type):
        breaks = f"({breaks} OR regexp_full_match({text_of(column)}, {literal(_BLANK)}))"
    return _rows_check(_label(rule), columns, breaks, "rows without a value, or with a blank one")


def _unique(rule: rules.Unique, columns: list[Column], _number: int, around: Surroundings) -> Check:
    names = [quote(column.name) for column in columns]
    present = " AND ".join(f"{name} IS NOT NULL" for name in names)
    value = names[0] if len(names) == 1 else f"row({', '.join(names)})"
    repeated = f"SELECT {value} FROM {quote(around.view)} WHERE {present} GROUP BY {', '.join(names)} HAVING count(*) > 1"  # noqa: S608

    def judge(values: Sequence[Any], row_count: int) -> Verdict:
        extra = int(values[0] or 0) - int(values[1])
        return Verdict(extra == 0, f"rows that repeat the value of another: {extra:,} of {row_count:,}", extra, extra)

    aggregates = (f"count_if({present})", f"count(DISTINCT CASE WHEN {present} THEN {value} END)")
    breaks = f"({present} AND {value} IN ({repeated}))"
    return Check(_label(rule), tuple(column.name for column in columns), judge, "", aggregates, breaks, distinct=True)


def _limits(rule: rules.AnyRule, columns: list[Column], least: Any, most: Any, arguments: Sequence[object]) -> Check:
    """Rules min, max and range."""
    column, broken, shown, extreme = columns[0], [], [], None
    if least is not None:
        subject, limit = ordered(column, least, "params.min")
        broken += [f"{subject.sql} < {limit}", subject.unread]
        shown.append(f"below {least}")
        extreme = (f"CAST(min({subject.sql}) AS VARCHAR)", "smallest")
    if most is not None:
        subject, limit = ordered(column, most, "params.max")
        broken += [f"{subject.sql} > {limit}", subject.unread]
        shown.append(f"above {most}")
        extreme = (f"CAST(max({subject.sql}) AS VARCHAR)", "largest") if least is None else _both(subject.sql)
    breaks = f"({' OR '.join(dict.fromkeys(part for part in broken if part != 'false'))})"
    limit_text = " and ".join(f"{name} {value}" for name, value in (("min", least), ("max", most)) if value is not None)
    return _rows_check(_label(rule, *arguments), columns, breaks, f"rows {' or '.join(shown)}", limit_text, extreme)


def _both(subject: str) -> tuple[str, str]:
    return f"CAST(min({subject}) AS VARCHAR) || ' to ' || CAST(max({subject}) AS VARCHAR)", "values"


def _min(rule: rules.Min, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    return _limits(rule, columns, rule.params.min, None, [rule.params.min])


def _max(rule: rules.Max, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    return _limits(rule, columns, None, rule.params.max, [rule.params.max])


def _range(rule: rules.Range, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    given = [f"{key}={value}" for key, value in (("min", rule.params.min), ("max", rule.params.max)) if value is not None]
    shown = [rule.params.min, rule.params.max] if len(given) == 2 else given
    return _limits(rule, columns, rule.params.min, rule.params.max, shown)


def _row_count(rule: rules.RowCount, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    least, most = rule.params.min, rule.params.max
    given = [f"{key}={value}" for key, value in (("min", least), ("max", most)) if value is not None]

    def judge(_values: Sequence[Any], row_count: int) -> Verdict:
        passed = (least is None or row_count >= least) and (most is None or row_count <= most)
        return Verdict(passed, f"rows: {row_count:,}", None, row_count)

    return Check(f"row_count({', '.join(given)})", (), judge, " and ".join(given).replace("=", " "))


def _regex(rule: rules.Regex, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    check_pattern(rule.params.pattern)
    breaks = f"NOT regexp_matches({text_of(columns[0])}, {literal(rule.params.pattern)})"
    return _rows_check(_label(rule, rule.params.pattern), columns, breaks, "rows that do not match", rule.params.pattern)


def _type_check(rule: rules.TypeCheck, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    expected = rule.params.expected_type
    check = _rows_check(_label(rule, expected), columns, breaks_type(columns[0], expected), f"rows that are no {expected}", expected)
    return replace(check, limit=f"{expected} (the column is {columns[0].type})")


def _freshness(rule: rules.Freshness, columns: list[Column], _number: int, around: Surroundings) -> Check:
    allowed, now = rule.params.seconds, around.now.timestamp()
    moment = as_moment(columns[0], "column").sql

    def judge(values: Sequence[Any], _row_count: int) -> Verdict:
        seconds, newest = values
        if newest is None:
            return Verdict(passed=False, found="there is no value, so nothing is fresh")
        if seconds is None:  # infinity, which is always new, or its opposite
            return Verdict(passed=newest == "infinity", found=f"the newest value is {newest}")
        age = now - float(seconds)
        return Verdict(age <= allowed, f"the newest value, {newest}, is {_hours(age)} old", None, round(age))

    aggregates = (f"epoch(max({moment}))", f"CAST(max({moment}) AS VARCHAR)")
    return Check(_label(rule, f"max {_hours(allowed)}"), (columns[0].name,), judge, _hours(allowed), aggregates)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if abs(seconds) >= 3600 else f"{seconds:,.0f} s"


def _accepted_values(rule: rules.AcceptedValues, columns: list[Column], _number: int, _around: Surroundings) -> Check:
    shown = ", ".join(map(str, rule.params.values[:10])) + (", …" if len(rule.params.values) > 10 else "")
    return _rows_check(_label(rule, shown), columns, accepted(columns[0], rule.params.values), "rows with another value", shown)


# --- rules that look further --------------------------------------------------------------------------------------


def _foreign_key(rule: rules.ForeignKey, columns: list[Column], number: int, around: Surroundings) -> Check:
    other = _other(rule, around)
    keys = rule.params.column or rule.column
    if len(keys) != len(columns):
        raise RuleFault(f"{len(columns)} columns are checked against {len(keys)} key columns: they must be as many.", "params.column")
    target = f"{rule.params.input or 'the other input'}.{', '.join(keys)}"
    names = [quote(column.name) for column in columns]
    join, found = _key_join(columns, keys, other, number, around.schema)
    breaks = f"({' AND '.join(f'{name} IS NOT NULL' for name in names)} AND {found} IS NULL)"
    check = _rows_check(_label(rule, target), columns, breaks, f"rows whose value is not in {target}")
    return replace(check, join=join)


def _other(rule: rules.ForeignKey, around: Surroundings) -> Other:
    wanted = rule.params.input
    if not around.others:
        raise RuleFault("A foreign key needs a second input that holds the keys; draw an edge to it.", "params.input")
    named = [other for other in around.others if wanted in other.names]
    unnamed = [other for other in around.others if not other.names]
    if named or (len(around.others) == 1 and (not wanted or unnamed)):
        return (named or list(around.others))[0]
    if unnamed:  # the pipeline is being saved: which input it is will be known when it runs
        return Other(frozenset(), "", None)
    known = ", ".join(sorted({name for other in around.others for name in other.names}))
    raise RuleFault(f"There is no input '{wanted}' after the first. Inputs: {known}." if wanted else f"Say which input: {known}.", "params.input")


def _key_join(columns: Sequence[Column], keys: Sequence[str], other: Other, number: int, schema: Schema) -> tuple[str, str]:
    """The join with the distinct keys, and the name of what is NULL where there is none. No name meets one of the data's."""
    taken = {column.name.casefold() for column in schema}
    found = quote(free_name(f"found_{number}", "key_", taken))
    selected, present, equal = [], [], []
    for index, (column, key) in enumerate(zip(columns, keys, strict=True)):
        target = column if other.schema is None else find(other.schema, key)
        if target is None:
            raise RuleFault(unknown_column(key, other.schema or (), "the input with the keys"), "params.column")
        type_name = common_type(column.type, target.type)
        if type_name is None:
            raise RuleFault(
                f"Column '{column.name}' is {column.type} and key column '{key}' is {target.type}: they are never equal.", "params.column"
            )
        name = quote(free_name(f"{number}_{index}", "key_", taken))
        selected.append(f"CAST({quote(target.name)} AS {type_name}) AS {name}")
        present.append(f"{quote(target.name)} IS NOT NULL")
        equal.append(f"CAST({quote(column.name)} AS {type_name}) = {name}")
    inner = f"SELECT DISTINCT {', '.join(selected)}, true AS {found} FROM {quote(other.view or 'input')} WHERE {' AND '.join(present)}"  # noqa: S608
    return f" LEFT JOIN ({inner}) ON {' AND '.join(equal)}", found


def _expression(rule: rules.Expression, _columns: list[Column], _number: int, around: Surroundings) -> Check:
    text = rule.params.expression
    try:
        scalar = parse_scalar(text, around.schema, around.references)
    except ExpressionError as error:
        raise RuleFault(f"{error.message.rstrip('.')}.", "params.expression", error.line, error.column) from error
    if not scalar.folds_much:  # else asking alone may take minutes, and the run finds out
        _check_is_condition(scalar.sql, around)
    columns = [column for column in around.schema if column.name in scalar.columns]
    return _rows_check(f"expression({text})", columns, f"NOT {scalar.sql}", "rows for which it is not true", text)


def _check_is_condition(sql: str, around: Surroundings) -> None:
    """As WHERE takes it: true or false, of one row. Errors: `RuleFault`."""
    try:
        described = around.connection.execute(f"DESCRIBE SELECT {sql} FROM {quote(around.view)} WHERE {sql}").fetchall()  # noqa: S608
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise RuleFault(f"The expression must be true or false of each row: {_without_class(error)}", "params.expression") from error
    if described[0][1] not in ("BOOLEAN", "NULL", '"NULL"', "INTEGER" if sql == "(NULL)" else ""):
        raise RuleFault(f"The expression gives {described[0][1]}, not true or false. Compare it with something.", "params.expression")


def check_pattern(pattern: str) -> None:
    """Errors: `RuleFault` with the place where the regular expression is wrong."""
    fault = _pattern_fault(pattern)
    if fault is not None:
        message, column = fault
        raise RuleFault(f"The regular expression is not valid: {message}.", "params.pattern", 1, column)


@functools.lru_cache(maxsize=1024)
def _pattern_fault(pattern: str) -> tuple[str, int] | None:
    """What RE2 says (`missing ): (a`: the fault, and the part of the pattern that has it) and where, counted from 1."""
    with cursor() as connection:
        try:
            connection.execute("SELECT regexp_matches('', ?)", [pattern]).fetchall()
        except duckdb.Error as error:
            message = _without_class(error).removesuffix(".")
        else:
            return None
    what, _, part = message.rpartition(": ")
    if what.startswith("missing") or not part or part not in pattern:
        return message, len(pattern) + 1 if what.startswith("missing") else len(pattern)
    return message, pattern.index(part) + 1


def _without_class(error: duckdb.Error) -> str:
    """DuckDB's sentence without its class, its picture of the SQL, and the JSON that the parser's instance wraps it in."""
    text = re.sub(r"^[A-Z][A-Za-z ]{2,40} Error: ", "", str(error))
    if text.startswith("{"):
        text = str(orjson.loads(text).get("exception_message", text))
    return text.split("\n\n")[0].strip().rstrip("!.") + "."


_COMPILERS: dict[type, Callable[[Any, list[Column], int, Surroundings], Check]] = {
    rules.NotNull: _not_null,
    rules.NoBlank: _no_blank,
    rules.Unique: _unique,
    rules.Min: _min,
    rules.Max: _max,
    rules.Range: _range,
    rules.RowCount: _row_count,
    rules.Regex: _regex,
    rules.TypeCheck: _type_check,
    rules.Freshness: _freshness,
    rules.AcceptedValues: _accepted_values,
    rules.ForeignKey: _foreign_key,
    rules.Expression: _expression,
}
