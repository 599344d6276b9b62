"""What a FROM gives, and what `*` makes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pipelines.column_lineage.expressions import ExpressionTracer
from pipelines.column_lineage.scopes import Binding, Columns, From, Scope
from pipelines.column_lineage.values import Column, Table, Untraceable, Value, combined, deciding, distinct_names
from pipelines.expressions.checking import function_name
from pipelines.expressions.parser import Tree

# How a USING column gets its value, by the type of join.
_USING: dict[str, Callable[[Value, Value], Value]] = {
    "INNER": lambda left, _right: left,
    "LEFT": lambda left, _right: left,
    "SEMI": lambda left, _right: left,
    "ANTI": lambda left, _right: left,
    "RIGHT": lambda _left, right: right,
    "FULL": lambda left, right: combined([left, right]),
}
_JOINS = frozenset({"REGULAR", "NATURAL", "CROSS", "POSITIONAL", "ASOF"})
_ONE_COLUMN = frozenset({"unnest", "range", "generate_series"})


class TraceQuery(Protocol):
    def __call__(self, tree: Tree, *, outer: Scope | None) -> Table: ...


class TableReader:
    """Reads the FROM of one query. `definitions` are those of WITH clauses, which hide `views`."""

    def __init__(self, views: Mapping[str, Table], definitions: Mapping[str, Table], expressions: ExpressionTracer, query: TraceQuery) -> None:
        self._views = views
        self._definitions = definitions
        self._expressions = expressions
        self._query = query

    def read(self, tree: Tree, outer: Scope | None) -> From:
        """Errors: `Untraceable`."""
        match tree["type"]:
            case "EMPTY":
                return From()
            case "BASE_TABLE":
                return self._base(tree)
            case "SUBQUERY":
                return _bound(self._query(tree["subquery"]["node"], outer=outer), tree["alias"], tree["column_name_alias"])
            case "EXPRESSION_LIST":
                return self._values(tree, Scope(From(), outer))
            case "TABLE_FUNCTION":
                return self._function(tree, Scope(From(), outer))
            case "JOIN":
                return self._join(tree, outer)
            case kind:
                raise Untraceable(f"a {kind}")

    def _base(self, tree: Tree) -> From:
        path = [str(part) for part in tree["qualified_name"]["path"]]
        name = path[-1].lower()
        found = self._definitions.get(name) if len(path) == 1 else None
        if found is None and path[:-1] in ([], ["temp", "main"]):
            found = self._views.get(name)
        if found is None or tree.get("at_clause"):
            raise Untraceable(f"the table {'.'.join(path)}")
        return _bound(found, tree["alias"] or path[-1], tree["column_name_alias"])

    def _values(self, tree: Tree, scope: Scope) -> From:
        together = zip(*([self._expressions.value(cell, scope) for cell in row] for row in tree["values"]), strict=True)
        columns = [Column(f"col{index}", combined(values)) for index, values in enumerate(together)]
        return _bound(Table(tuple(columns)), tree["alias"], tree["expected_names"])

    def _function(self, tree: Tree, scope: Scope) -> From:
        call = tree["function"]
        name = function_name(call)
        is_named = any(argument["name"] for argument in call["arguments"])
        if name not in _ONE_COLUMN or tree["with_ordinality"] != "WITHOUT_ORDINALITY" or is_named:
            raise Untraceable(f"the table function {name}")
        arguments = [self._expressions.value(argument["expression"], scope) for argument in call["arguments"]]
        if name == "unnest" and len(arguments) != 1:
            raise Untraceable("unnest of several")
        table = Table((Column(name, combined(arguments)),), deciding(arguments, "unnest"))
        return _bound(table, tree["alias"] or name, tree["column_name_alias"])

    def _join(self, tree: Tree, outer: Scope | None) -> From:
        left = self.read(tree["left"], outer)
        right = self.read(tree["right"], Scope(left, outer))  # a subquery may read what stands to its left
        kind = tree["join_type"]
        has_more = tree.get("duplicate_eliminated_columns") or tree.get("ranking_expression") or tree.get("nearest_count", 1) != 1
        if tree["ref_type"] not in _JOINS or kind not in _USING or has_more:
            raise Untraceable(f"a {tree['ref_type']} {kind} join")
        names = _common(left, right) if tree["ref_type"] == "NATURAL" else [str(name) for name in tree["using_columns"]]
        joined, keys = _side_by_side(left, right, names, kind)
        rows = left.rows | right.rows | deciding(keys, "join")
        if tree["condition"]:
            rows |= self._expressions.value(tree["condition"], Scope(joined, outer)).influences("join")
        if kind in ("SEMI", "ANTI"):
            return From(left.bindings, left.visible, rows)
        return replace(joined, rows=rows)


def _bound(table: Table, alias: str, names: Sequence[str]) -> From:
    columns = distinct_names(table.columns, names)
    return From((Binding(columns, alias),), Columns(columns), table.rows)


def _common(left: From, right: From) -> list[str]:
    if any(column.name is None for column in (*left.visible.columns, *right.visible.columns)):
        raise Untraceable("a natural join over names that are not known")
    taken = {str(column.name).casefold() for column in right.visible.columns}
    return [str(column.name) for column in left.visible.columns if str(column.name).casefold() in taken]


def _side_by_side(left: From, right: From, names: Sequence[str], kind: str) -> tuple[From, list[Value]]:
    """Both sides, with the columns of `names` there once, at their place on the left; and the keys of both."""
    merged, keys = {}, []
    for name in names:
        of_left, of_right = Scope(left).column([name]), Scope(right).column([name])
        merged[name.casefold()] = _USING[kind](of_left, of_right)
        keys += [of_left, of_right]
    first = [
        Column(column.name, merged[column.name.casefold()]) if column.name is not None and column.name.casefold() in merged else column
        for column in left.visible.columns
    ]
    second = [column for column in right.visible.columns if column.name is None or column.name.casefold() not in merged]
    return From((*left.bindings, *right.bindings), Columns((*first, *second))), keys


def star(tree: Tree, scope: Scope, expressions: ExpressionTracer) -> list[Column]:
    """The columns that `*`, `t.*`, EXCLUDE, REPLACE and RENAME give. Errors: `Untraceable`."""
    if tree.get("columns") or tree.get("expr") or tree.get("unpacked"):
        raise Untraceable("COLUMNS")
    columns = list(scope.source.visible.columns)
    if tree["relation_name"]:
        table = scope.source.binding(tree["relation_name"])
        if table is None:
            raise Untraceable(f"no table {tree['relation_name']}")
        columns = list(table.columns)
    replaced = {str(one["key"]).casefold(): one["value"] for one in tree["replace_list"]}
    renamed = {str(one["key"]["column"]).casefold(): str(one["value"]) for one in tree["rename_list"]}
    excluded = {str(name).casefold() for name in tree["exclude_list"]}
    touched = replaced.keys() | renamed.keys() | excluded
    is_qualified = tree["qualified_exclude_list"] or any(one["key"].get("table") for one in tree["rename_list"])
    names = [column.name.casefold() for column in columns if column.name is not None]
    # With names that come twice or that DuckDB makes up, or belong to one of several tables, it is not clear which column is meant.
    if touched and (is_qualified or len(names) != len(columns) or any(names.count(name) > 1 for name in touched)):
        raise Untraceable("a star with changes to names that are not clear")
    if is_qualified:
        raise Untraceable("a star without columns of one table")
    found = []
    for column in columns:
        key = (column.name or "").casefold()
        if key in excluded:
            continue
        value = expressions.value(replaced[key], scope) if key in replaced else column.value
        found.append(Column(renamed.get(key, column.name), value))
    return found
