"""Where the columns and the rows of a query come from. `trace` is the way in.

The tree is that of DuckDB's own parser. What is not listed here, in `tables.py` or in `expressions.py` is refused: a form of query that nobody has
looked at gives no facts rather than wrong ones.
"""

from collections.abc import Mapping
from functools import partial

from pipelines.column_lineage import tables
from pipelines.column_lineage.expressions import ExpressionTracer, expressions_in, has_aggregate, unnests
from pipelines.column_lineage.scopes import Columns, From, Scope
from pipelines.column_lineage.values import Column, Influence, Table, Untraceable, Value, combined, deciding, distinct_names, either
from pipelines.expressions import parser
from pipelines.expressions.parser import Tree

_MOST_ROUNDS = 50  # of a recursive query, until its columns come from nowhere new


def trace(sql: str, views: Mapping[str, Table]) -> Table:
    """The query's columns, in terms of the columns of `views` (by lower-case name). Errors: `Untraceable`, `SyntaxProblem`, `RecursionError`."""
    statements = parser.parse(sql)
    if len(statements) != 1:
        raise Untraceable("several statements")
    return QueryTracer(views).query(statements[0]["node"], {}, None)


class QueryTracer:
    def __init__(self, views: Mapping[str, Table]) -> None:
        self.views = views

    def query(self, tree: Tree, definitions: Mapping[str, Table], outer: Scope | None) -> Table:
        """`definitions`: what WITH clauses define, by lower-case name. `outer`: the scope of the query around it."""
        definitions = self._with_entries(tree, definitions, outer)
        match tree["type"]:
            case "SELECT_NODE":
                return _Select(self, tree, definitions, outer).table()
            case "SET_OPERATION_NODE":
                return self._set_operation(tree, definitions, outer)
            case "RECURSIVE_CTE_NODE":
                return self._recursion(tree, definitions, outer)
            case kind:
                raise Untraceable(f"a {kind}")

    def expressions(self, definitions: Mapping[str, Table]) -> ExpressionTracer:
        return ExpressionTracer(lambda tree, scope: self.query(tree, definitions, scope))

    def _with_entries(self, tree: Tree, definitions: Mapping[str, Table], outer: Scope | None) -> Mapping[str, Table]:
        entries = (tree.get("cte_map") or {}).get("map", [])
        known = dict(definitions)
        for entry in entries:
            about = entry["value"]
            if about.get("key_targets") or about.get("payload_aggregates"):
                raise Untraceable("USING KEY")
            found = self.query(about["query_node"], known, outer)
            known[str(entry["key"]).lower()] = Table(distinct_names(found.columns, about["aliases"]), found.rows)
        return known if entries else definitions

    def _set_operation(self, tree: Tree, definitions: Mapping[str, Table], outer: Scope | None) -> Table:
        parts = [self.query(child, definitions, outer) for child in tree["children"]]
        by_name = tree["setop_type"] == "UNION_BY_NAME"
        if tree["setop_type"] not in ("UNION", "UNION_BY_NAME", "EXCEPT", "INTERSECT"):
            raise Untraceable(f"a {tree['setop_type']}")
        columns = _by_name(parts) if by_name else _by_position(parts)
        rows = frozenset[Influence]().union(*(part.rows for part in parts))
        if tree["setop_type"] in ("EXCEPT", "INTERSECT") or not tree["setop_all"]:
            rows |= deciding((column.value for column in columns), "distinct")
        if tree["setop_type"] == "EXCEPT":
            columns = list(parts[0].columns)  # the others' values are only compared with
        scope = Scope(From(visible=Columns(distinct_names(columns))), outer)
        return Table(tuple(columns), rows | _modifiers(tree, scope, columns, self.expressions(definitions)))

    def _recursion(self, tree: Tree, definitions: Mapping[str, Table], outer: Scope | None) -> Table:
        name = str(tree["cte_name"]).lower()
        known = {"type", "modifiers", "cte_map", "cte_name", "union_all", "left", "right", "aliases"}
        if any(value for key, value in tree.items() if key not in known) or tree.get("modifiers"):
            raise Untraceable("a recursive query with more")
        found = self.query(tree["left"], definitions, outer)
        for _ in range(_MOST_ROUNDS):
            named = Table(distinct_names(found.columns, tree["aliases"]), found.rows)
            step = self.query(tree["right"], {**definitions, name: named}, outer)
            columns = _by_position([found, step])
            grown = Table(tuple(columns), found.rows | step.rows)
            if grown == found:
                break
            found = grown
        else:
            raise Untraceable("a recursive query without an end")
        if not tree["union_all"]:
            found = Table(found.columns, found.rows | deciding((column.value for column in found.columns), "distinct"))
        return found


class _Select:
    """One SELECT."""

    def __init__(self, tracer: QueryTracer, tree: Tree, definitions: Mapping[str, Table], outer: Scope | None) -> None:
        self._tree = tree
        self._tracer = tracer
        self._expressions = tracer.expressions(definitions)
        reader = tables.TableReader(tracer.views, definitions, self._expressions, partial(tracer.query, definitions=definitions))
        self._scope = Scope(reader.read(tree["from_table"], outer), outer)
        self._items: list[tuple[Tree, Value]] = []  # as GROUP BY and ORDER BY count them
        self._columns: list[Column] = []

    def table(self) -> Table:
        for tree in self._tree["select_list"]:
            self._item(tree)
        rows = self._scope.source.rows | self._filters() | self._groups()
        rows |= deciding((value for tree, value in self._items if unnests(tree)), "unnest")
        rows |= _modifiers(self._tree, self._scope, self._columns, self._expressions)
        return Table(tuple(self._columns), rows)

    def _item(self, tree: Tree) -> None:
        if tree.get("class") == "STAR":
            for column in tables.star(tree, self._scope, self._expressions):
                self._items.append((tree, column.value))
                self._columns.append(column)
            return
        value = self._expressions.value(tree, self._scope)
        name = tree.get("alias") or (tree["column_names"][-1] if tree["class"] == "COLUMN_REF" else None)
        self._items.append((tree, value))
        self._columns.append(Column(name, value))
        if tree.get("alias"):
            self._scope.aliases.setdefault(str(name).casefold(), value)

    def _filters(self) -> frozenset[Influence]:
        found = frozenset[Influence]()
        for key in ("where_clause", "qualify"):
            if self._tree[key]:
                found |= self._expressions.value(self._tree[key], self._scope).influences("filter")
        if self._tree["having"]:
            found |= self._expressions.value(self._tree["having"], self._scope.with_aliases_first()).influences("filter")
        return found

    def _groups(self) -> frozenset[Influence]:
        if self._tree["aggregate_handling"] == "FORCE_AGGREGATES":
            return deciding((value for tree, value in self._items if not has_aggregate(tree)), "group_by")
        if self._tree["aggregate_handling"] != "STANDARD_HANDLING":
            raise Untraceable("a GROUP BY that is not known")
        return deciding((self._group(tree) for tree in self._tree["group_expressions"]), "group_by")

    def _group(self, tree: Tree) -> Value:
        position = _position(tree)
        return self._expressions.value(tree, self._scope) if position is None else self._items[position][1]


def _modifiers(tree: Tree, scope: Scope, columns: "list[Column] | tuple[Column, ...]", expressions: ExpressionTracer) -> frozenset[Influence]:
    """What ORDER BY, LIMIT and DISTINCT do to the rows."""
    found = frozenset[Influence]()
    values = [column.value for column in columns]
    for modifier in tree["modifiers"]:
        match modifier["type"]:
            case "ORDER_MODIFIER":
                found |= deciding((_ordered(order["expression"], scope, values, expressions) for order in modifier["orders"]), "sort")
            case "LIMIT_MODIFIER" | "LIMIT_PERCENT_MODIFIER":
                found |= deciding((expressions.value(part, scope) for part in expressions_in(modifier)), "limit")
            case "DISTINCT_MODIFIER":
                targets = modifier["distinct_on_targets"]
                found |= deciding([_ordered(target, scope, values, expressions) for target in targets] or values, "distinct")
            case kind:
                raise Untraceable(f"a {kind}")
    return found


def _ordered(tree: Tree, scope: Scope, values: list[Value], expressions: ExpressionTracer) -> Value:
    if tree.get("class") == "STAR":
        return combined(values)
    position = _position(tree)
    if position is not None:
        return values[position]
    return expressions.value(tree, scope.with_aliases_first() if tree.get("class") == "COLUMN_REF" else scope)


def _position(tree: Tree) -> int | None:
    """A whole number in GROUP BY or ORDER BY stands for an item of the SELECT list."""
    if tree.get("class") == "CONSTANT" and tree["literal"]["kind"] == "INTEGER":
        return int(tree["literal"]["text"]) - 1
    return None


def _by_position(parts: list[Table]) -> list[Column]:
    if len({len(part.columns) for part in parts}) != 1:
        raise Untraceable("a set operation over numbers of columns that differ")
    together = zip(*(part.columns for part in parts), strict=True)
    return [Column(columns[0].name, either([column.value for column in columns])) for columns in together]


def _by_name(parts: list[Table]) -> list[Column]:
    found: dict[str, tuple[str, list[Value]]] = {}
    for part in parts:
        names = [column.name for column in part.columns]
        if None in names or len({str(name).casefold() for name in names}) != len(names):
            raise Untraceable("a union by names that are not known")
        for column in part.columns:
            found.setdefault(str(column.name).casefold(), (str(column.name), []))[1].append(column.value)
    return [Column(name, either(values)) for name, values in found.values()]
