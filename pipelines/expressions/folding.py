"""Calls that DuckDB works out while it binds a statement, because they read no column: `repeat('x', 1000000000)`.

Binding is all that happens when a pipeline is saved, in the web process, without a timeout and outside any memory limit (measured:
16 s and 3 GB for the call above). So a statement that holds such a call is not bound by us, unless the function is known to be cheap:
its columns stay unknown until the engine runs it, which can be stopped.
"""

from pipelines.expressions import checking
from pipelines.expressions.checking import function_name
from pipelines.expressions.functions import CHEAP_FUNCTIONS, OPERATORS
from pipelines.expressions.parser import Tree
from pipelines.expressions.rewriting import LAMBDA, parameter_names


def folds_much(tree: Tree) -> bool:
    """Whether binding `tree` may compute something large."""
    finder = _Finder()
    try:
        finder.reads_columns(tree, frozenset())
    except RecursionError:
        return True
    return finder.found


class _Finder:
    def __init__(self) -> None:
        self.found = False

    def reads_columns(self, tree: Tree, lambdas: frozenset[str]) -> bool:
        kind = tree.get("class")
        if kind == "COLUMN_REF":
            return str(tree["column_names"][0]).lower() not in lambdas
        if kind == "LAMBDA" and tree["syntax_type"] == LAMBDA:
            return self.reads_columns(tree["expr"], lambdas | set(parameter_names(tree["lhs"])))
        if kind is None and tree.get("type") == "TABLE_FUNCTION":
            return self._any(tree["function"], lambdas)
        reads = self._any(tree, lambdas)
        if kind == "FUNCTION" and not reads and function_name(tree) not in CHEAP_FUNCTIONS | OPERATORS:
            self.found = True
        return reads or kind == "SUBQUERY"

    def _any(self, tree: Tree, lambdas: frozenset[str]) -> bool:
        found = [self.reads_columns(child, lambdas) for child in checking.children(tree)]  # all of them: each may be a find
        return any(found)
