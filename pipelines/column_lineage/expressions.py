"""Where the value of a scalar expression comes from."""

from collections.abc import Callable
from functools import cache

from pipelines.column_lineage.scopes import Scope
from pipelines.column_lineage.values import Influence, Table, Untraceable, Value, combined, deciding
from pipelines.expressions import parser
from pipelines.expressions.checking import children, function_name, walk
from pipelines.expressions.parser import Tree
from pipelines.expressions.rewriting import parameter_names

# Subqueries are the query tracer's: it is handed in, so that the two need not import each other.
TraceSubquery = Callable[[Tree, Scope], Table]

_PLAIN = frozenset({"CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "CAST", "TYPE", "BETWEEN", "COLLATE", "LAMBDA_REF", "PARAMETER"})
_WINDOW_PARTS = ("partitions", "orders", "arg_orders", "start_expr", "end_expr")


class ExpressionTracer:
    def __init__(self, subquery: TraceSubquery) -> None:
        self._subquery = subquery

    def value(self, tree: Tree, scope: Scope) -> Value:
        """Errors: `Untraceable`."""
        kind = tree.get("class")
        tracer = _TRACERS.get(str(kind))
        if tracer is not None:
            return tracer(self, tree, scope)
        if kind not in _PLAIN:
            raise Untraceable(f"a {kind}")
        return combined(self.value(child, scope) for child in expressions_in(tree))

    def _column(self, tree: Tree, scope: Scope) -> Value:
        return scope.column(tree["column_names"])

    def _lambda(self, tree: Tree, scope: Scope) -> Value:
        return self.value(tree["expr"], scope.within_lambda(parameter_names(tree["lhs"]))).computed()

    def _function(self, tree: Tree, scope: Scope) -> Value:
        name = function_name(tree)
        transformation = "aggregate" if name in aggregates() else "expression"
        if transformation == "aggregate":
            scope = scope.with_columns_first()  # also in HAVING, `sum(x)` is of the column, whatever the alias x is
        arguments = combined((self.value(argument["expression"], scope) for argument in tree["arguments"]), "expression")
        indirect = arguments.indirect
        if tree.get("filter"):
            indirect |= self.value(tree["filter"], scope).influences("filter")
        indirect |= self._all(tree["order_bys"], scope, "sort")
        if transformation == "aggregate" or arguments.transformation == "aggregate":
            return Value(arguments.direct, indirect, "aggregate")
        return Value(arguments.direct, indirect)

    def _window(self, tree: Tree, scope: Scope) -> Value:
        name = function_name(tree)
        arguments = combined(self.value(argument["expression"], scope) for argument in tree["arguments"])
        indirect = arguments.indirect
        for key in _WINDOW_PARTS:
            indirect |= self._all({key: tree.get(key)}, scope, "window")
        if tree.get("filter_expr"):
            indirect |= self.value(tree["filter_expr"], scope).influences("filter")
        known = {*_WINDOW_PARTS, "arguments", "filter_expr", "qualified_name"}
        if any(key not in known and child.get("class") for key, child in tree.items() if isinstance(child, dict)):
            raise Untraceable("a part of a window that is not known")
        is_aggregate = name in aggregates() or arguments.transformation == "aggregate"
        return Value(arguments.direct, indirect, "aggregate" if is_aggregate else "expression")

    def _case(self, tree: Tree, scope: Scope) -> Value:
        """OpenLineage's CONDITIONAL: what decides which value is taken is indirect."""
        checks = tree["case_checks"]
        results = combined([*(self.value(check["then_expr"], scope) for check in checks), self.value(tree["else_expr"], scope)])
        conditions = deciding((self.value(check["when_expr"], scope) for check in checks), "condition")
        return Value(results.direct, results.indirect | conditions, results.transformation)

    def _in_subquery(self, tree: Tree, scope: Scope) -> Value:
        found = self._subquery(tree["subquery"]["node"], scope)
        child = [self.value(tree["child"], scope)] if tree.get("child") else []
        columns = [] if tree["subquery_type"] in ("EXISTS", "NOT_EXISTS") else [column.value for column in found.columns]
        value = combined([*child, *columns])
        return Value(value.direct, value.indirect | found.rows, value.transformation)

    def _all(self, tree: Tree, scope: Scope, how: str) -> frozenset[Influence]:
        return deciding((self.value(child, scope) for child in expressions_in(tree)), how)


_TRACERS: dict[str, Callable[[ExpressionTracer, Tree, Scope], Value]] = {
    "COLUMN_REF": ExpressionTracer._column,
    "FUNCTION": ExpressionTracer._function,
    "WINDOW": ExpressionTracer._window,
    "CASE": ExpressionTracer._case,
    "LAMBDA": ExpressionTracer._lambda,
    "SUBQUERY": ExpressionTracer._in_subquery,
}


def expressions_in(tree: Tree) -> list[Tree]:
    """The expressions directly below, also those within parts that are none themselves (the orders of an ORDER BY)."""
    found = []
    for child in children(tree):
        if child.get("class"):
            found.append(child)
        else:
            found += expressions_in(child)
    return found


def has_aggregate(tree: Tree) -> bool:
    """Whether an aggregate function is called in it, outside of its subqueries."""
    if tree.get("class") == "SUBQUERY":
        return False
    if tree.get("class") == "FUNCTION" and function_name(tree) in aggregates():
        return True
    return any(has_aggregate(child) for child in children(tree))


def unnests(tree: Tree) -> bool:
    """Whether it makes several rows of one."""
    return any(node.get("class") == "FUNCTION" and function_name(node) == "unnest" for node in walk(tree))


@cache
def aggregates() -> frozenset[str]:
    with parser.cursor() as connection:
        rows = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'").fetchall()
    return frozenset(str(row[0]).lower() for row in rows)
