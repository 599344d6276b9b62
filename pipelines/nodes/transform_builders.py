"""What each rule of a transform is in SQL, and what it does to the columns."""

# ruff: noqa: S608 - all that goes into the statement was written by `quote`, `literal` or the expression checker
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from pipelines.expressions import ExpressionError, converts, kinds, literal, parse_ahead, quote, type_named
from pipelines.nodes import transform_functions as functions
from pipelines.nodes import transform_rules as rules
from pipelines.nodes import transform_strings
from pipelines.nodes.base import Column, Schema
from pipelines.nodes.columns import find
from pipelines.nodes.transform_plan import Plan
from pipelines.nodes.transform_rules import Rule
from pipelines.references import References


def plan_of(schema: Schema | None, config_rules: Sequence[Rule | None], references: References | None) -> Plan:
    """The plan of rules over an input with `schema` (None: unknown). A rule that is None cannot be read; the columns behind it are unknown.

    Without `references` (when a pipeline is saved) references are unknown values. Errors: `NodeError` for references that
    do not exist; all else is a problem in the plan.
    """
    plan = Plan(schema, references)
    parse_ahead(getattr(rule, key) for rule in config_rules if rule is not None and not isinstance(rule, rules.Expression) for key in rule.sql_fields)
    for index, rule in enumerate(config_rules):
        if rule is None:
            plan.columns = None
        else:
            _add(plan, index, rule)
    return plan


def _add(plan: Plan, index: int, rule: Rule) -> None:
    plan.begin(index)
    if isinstance(rule, rules.Expression):
        text = rule.expression
        try:
            written = transform_strings.parse(text)
        except ExpressionError as error:
            plan.problem("expression", error.sentence, error)
            _keep(plan, rule)
            return
        plan.begin(index, text, written.start)
        rule = written.rule
    try:
        rule = _resolved(rule, plan.references)
    except ValidationError as error:
        for item in error.errors():
            plan.problem(".".join(map(str, item["loc"])), f"The value {item['msg'].removeprefix('Value error, ')}.")
    _BUILDERS[type(rule)](plan, rule)


def _resolved(rule: Rule, references: References | None) -> Rule:
    """References outside expressions, replaced by their values."""
    if references is None:
        return rule
    document = rule.model_dump()
    values = {key: value if key in rule.sql_fields else references.substitute(value) for key, value in document.items()}
    return rule if values == document else type(rule).model_validate(values)


def _rename_columns(plan: Plan, rule: rules.RenameColumns) -> None:
    found = [(column, new) for old, new in rule.mapping.items() if (column := plan.column(old, f"mapping.{old}")) is not None]
    renamed = {column.name: new for column, new in found}
    if plan.columns is not None:
        names = [renamed.get(column.name, column.name) for column in plan.columns]
        double = _first_double(names)
        if double is not None:
            plan.problem("mapping", f"Two columns would be called '{double}'.")
        plan.columns = [Column(name, column.type) for name, column in zip(names, plan.columns, strict=True)]
    pairs = ", ".join(f"{quote(column.name)} AS {quote(new)}" for column, new in found)
    selected = f"* RENAME ({pairs})" if pairs else "*"
    plan.append(rule.type, ", ".join(f"{column.name} → {new}" for column, new in found), f"SELECT {selected} FROM {plan.source}")


def _first_double(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return None


def _add_column(plan: Plan, rule: rules.AddColumn) -> None:
    scalar = plan.scalar(rule.expression, "expression")
    existing = None if plan.columns is None else find(tuple(plan.columns), rule.name)
    sql = plan.sql_of(scalar)
    if existing is not None and plan.columns is not None:
        plan.columns = [Column(column.name, "") if column is existing else column for column in plan.columns]
        plan.append(rule.type, f"{existing.name} replaced", f"SELECT * REPLACE ({sql} AS {quote(existing.name)}) FROM {plan.source}")
        return
    if plan.columns is not None:
        plan.columns = [*plan.columns, Column(rule.name, "")]
    plan.append(rule.type, f"+ {rule.name}", f"SELECT *, {sql} AS {quote(rule.name)} FROM {plan.source}")


def _filter_rows(plan: Plan, rule: rules.FilterRows) -> None:
    scalar = plan.scalar(rule.condition, "condition")
    plan.append(rule.type, "", f"SELECT * FROM {plan.source} WHERE {plan.sql_of(scalar)}", changes_rows=True)


def _drop_null(plan: Plan, rule: rules.DropNull) -> None:
    columns = plan.all_columns(rule.columns, "columns") if rule.columns else list(plan.columns or ())
    condition = " AND ".join(f"{quote(column.name)} IS NOT NULL" for column in columns) or "true"
    plan.append(rule.type, "", f"SELECT * FROM {plan.source} WHERE {condition}", changes_rows=True)


def _replace_column(plan: Plan, rule_type: str, column: Column, sql: str, type_name: str = "") -> None:
    if plan.columns is not None:
        plan.columns = [Column(other.name, type_name) if other.name == column.name else other for other in plan.columns]
    plan.append(rule_type, column.name, f"SELECT * REPLACE ({sql} AS {quote(column.name)}) FROM {plan.source}")


def _keep(plan: Plan, rule: Rule) -> None:
    """A rule that cannot be built: the plan has a problem, and goes on so that it may find more."""
    plan.append(rule.type, "", f"SELECT * FROM {plan.source}")


def _apply_function(plan: Plan, rule: rules.ApplyFunction) -> None:
    name = functions.known(rule.function)
    if name is None and not plan.is_open(rule.function):
        plan.problem("function", f"There is no function '{rule.function}'. Functions: {', '.join(functions.NAMES)}.")
    column = plan.column(rule.column, "column")
    if column is None or name is None:
        _keep(plan, rule)
        return
    column = plan.typed(column)
    _replace_column(plan, rule.type, column, functions.apply(name, quote(column.name), column.type, rule.digits))


def _replace_values(plan: Plan, rule: rules.ReplaceValues) -> None:
    column = plan.column(rule.column, "column")
    if column is None:
        _keep(plan, rule)
        return
    column = plan.typed(column)
    kind, name = kinds.of_type(column.type), quote(column.name)
    # Where the column is no text, what is put in may still be: then all of it becomes text.
    new_kinds = {_kind_of_value(value) for value in rule.mapping.values() if value is not None}
    as_text = kind == kinds.TEXT or not new_kinds <= {kind}
    cases = [f"WHEN {_equals(name, kind, old)} THEN {_value(new, as_text=as_text)}" for old, new in rule.mapping.items()]
    otherwise = f"CAST({name} AS VARCHAR)" if as_text and kind != kinds.TEXT else name
    _replace_column(plan, rule.type, column, f"CASE {' '.join(cases)} ELSE {otherwise} END")


def _kind_of_value(value: rules.Scalar) -> str:
    if isinstance(value, bool):
        return kinds.BOOLEAN
    return kinds.NUMBER if isinstance(value, (int, float)) else kinds.TEXT


def _equals(column: str, kind: str, old: str) -> str:
    if kind == kinds.NUMBER:
        try:
            return f"{column} = {literal(int(old) if old.lstrip('-').isdecimal() else float(old))}"
        except ValueError:
            return "false"
    return f"{column if kind == kinds.TEXT else f'CAST({column} AS VARCHAR)'} = {literal(old)}"


def _value(value: rules.Scalar, *, as_text: bool) -> str:
    if not as_text or value is None:
        return literal(value)
    return literal(str(value).lower() if isinstance(value, bool) else str(value))


def _drop_columns(plan: Plan, rule: rules.DropColumns) -> None:
    dropped = plan.all_columns(rule.columns, "columns")
    names = {column.name for column in dropped}
    if plan.columns is not None:
        kept = [column for column in plan.columns if column.name not in names]
        if plan.columns and not kept:
            plan.problem("columns", "No column would be left.")
        plan.columns = kept
    excluded = ", ".join(quote(name) for name in sorted(names))
    selected = f"* EXCLUDE ({excluded})" if names else "*"
    plan.append(rule.type, "- " + ", ".join(column.name for column in dropped), f"SELECT {selected} FROM {plan.source}")


def _select(plan: Plan, rule: rules.Select) -> None:
    chosen = plan.all_columns(rule.columns, "columns")
    double = _first_double([column.name for column in chosen])
    if double is not None:
        plan.problem("columns", f"The column '{double}' is named twice.")
    names = ", ".join(quote(column.name) for column in chosen) or "*"
    plan.columns = chosen
    plan.append(rule.type, f"only {', '.join(column.name for column in chosen)}", f"SELECT {names} FROM {plan.source}")


def _sort(plan: Plan, rule: rules.Sort) -> None:
    columns = plan.all_columns(rule.columns, "columns")
    ascending = rule.ascending if isinstance(rule.ascending, tuple) else (rule.ascending,) * len(rule.columns)
    row = _free(plan, "row")
    keys = [f"{quote(c.name)} {'ASC' if up else 'DESC'} NULLS LAST" for c, up in zip(columns, ascending, strict=False)]
    sql = f"SELECT * EXCLUDE ({row}) FROM {_numbered(plan, row)} ORDER BY {', '.join([*keys, row])}"
    plan.append(rule.type, "", sql, is_light=False)


def _deduplicate(plan: Plan, rule: rules.Deduplicate) -> None:
    columns = plan.all_columns(rule.columns, "columns") if rule.columns else list(plan.columns or ())
    row, rows = _free(plan, "row"), quote("brokoli_rows")
    keys = ", ".join(quote(column.name) for column in columns) or row
    # The smallest row number of each key, then the rows that have it: half the time and memory of a window over the keys.
    sql = (
        f"WITH {rows} AS (SELECT * FROM {_numbered(plan, row)}) SELECT * EXCLUDE ({row}) FROM {rows} "
        f"WHERE {row} IN (SELECT min({row}) FROM {rows} GROUP BY {keys}) ORDER BY {row}"
    )
    plan.append(rule.type, "", sql, changes_rows=True, is_light=False)


def _numbered(plan: Plan, row: str) -> str:
    return f"(SELECT *, row_number() OVER () AS {row} FROM {plan.source})"


def _free(plan: Plan, what: str) -> str:
    """A quoted name for a helping column, which no column has."""
    taken = {column.name.casefold() for column in plan.columns or ()}
    name = f"brokoli_{what}"
    while name in taken:
        name += "_"
    return quote(name)


def _aggregate(plan: Plan, rule: rules.Aggregate) -> None:
    groups = plan.all_columns(rule.group_by, "group_by")
    row, is_numbered = _free(plan, "row"), any(item.function in ("first", "last") for item in rule.agg_fields)
    results, output = [], [Column(column.name, column.type) for column in groups]
    for index, item in enumerate(rule.agg_fields):
        column = None if item.column in ("", "*") else plan.column(item.column, f"agg_fields.{index}.column")
        if column is not None:
            column = plan.typed(column)
        results.append(f"{_aggregated(item.function, column, row)} AS {quote(item.name)}")
        output.append(Column(item.name, ""))
    double = _first_double([column.name for column in output])
    if double is not None:
        plan.problem("agg_fields", f"Two columns would be called '{double}'; give one an alias.")
    plan.columns = output
    keys = [quote(column.name) for column in groups]
    source = _numbered(plan, row) if is_numbered else plan.source
    sql = f"SELECT {', '.join([*keys, *results])} FROM {source}"
    if keys:
        sql += f" GROUP BY {', '.join(keys)} ORDER BY {', '.join(f'{key} NULLS LAST' for key in keys)}"
    plan.append(rule.type, f"now {', '.join(column.name for column in output)}", sql, changes_rows=True, is_light=False)


def _aggregated(function: str, column: Column | None, row: str) -> str:
    if column is None:
        return "count(*)"
    name = quote(column.name)
    match function:
        case "count_distinct":
            return f"count(DISTINCT {name})"
        case "first":
            return f"arg_min_null({name}, {row})"
        case "last":
            return f"arg_max_null({name}, {row})"
        case "sum" | "avg" | "median" | "stddev":
            # A text that holds numbers is summed as numbers; one that does not fails, and says which.
            is_text = kinds.of_type(column.type) == kinds.TEXT
            return f"{function}({f'CAST({name} AS DOUBLE)' if is_text else name})"
    return f"{function}({name})"


def _cast(plan: Plan, rule: rules.Cast) -> None:
    column = plan.column(rule.column, "column")
    type_name = None
    try:
        type_name = None if plan.is_open(rule.to) else type_named(rule.to)
    except ExpressionError as error:
        plan.problem("to", error.sentence)
    if column is None or type_name is None:
        _keep(plan, rule)
        return
    function = "CAST" if rule.on_error == "fail" else "TRY_CAST"
    _replace_column(plan, rule.type, column, f"{function}({quote(column.name)} AS {type_name})", type_name)


def _fill_null(plan: Plan, rule: rules.FillNull) -> None:
    column = plan.column(rule.column, "column")
    if column is None:
        _keep(plan, rule)
        return
    column = plan.typed(column)
    given = None if plan.is_open(rule.value) else rule.value
    value = literal(given)
    if column.type:
        if not converts(given, column.type):
            plan.problem(
                "value", f"The column '{column.name}' is {column.type}, and {given!r} is none. Cast the column first, or take another value."
            )
        value = f"CAST({value} AS {column.type})"
    _replace_column(plan, rule.type, column, f"coalesce({quote(column.name)}, {value})", column.type)


def _limit(plan: Plan, rule: rules.Limit) -> None:
    count = rule.n if isinstance(rule.n, int) else 0  # a reference, which only a run resolves
    plan.append(rule.type, "", f"SELECT * FROM {plan.source} LIMIT {literal(count)}", changes_rows=True)


_BUILDERS: dict[type[Rule], Callable[[Plan, Any], None]] = {
    rules.RenameColumns: _rename_columns,
    rules.AddColumn: _add_column,
    rules.FilterRows: _filter_rows,
    rules.DropNull: _drop_null,
    rules.ApplyFunction: _apply_function,
    rules.ReplaceValues: _replace_values,
    rules.DropColumns: _drop_columns,
    rules.Select: _select,
    rules.Sort: _sort,
    rules.Deduplicate: _deduplicate,
    rules.Aggregate: _aggregate,
    rules.Cast: _cast,
    rules.FillNull: _fill_null,
    rules.Limit: _limit,
}
