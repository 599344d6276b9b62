"""What a syntax tree may hold. Allow-lists throughout: a kind of node that nobody has looked at is refused."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.expressions.functions import FUNCTIONS, INFIX_OPERATORS, OPERATORS, TABLE_FUNCTIONS
from pipelines.expressions.parser import Tree, position_of

# Classes of expressions. Not among them: PARAMETER (there is nothing to bind), POSITIONAL_REFERENCE, DEFAULT.
SCALAR_CLASSES = frozenset(
    {"CONSTANT", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "OPERATOR", "FUNCTION", "CAST", "TYPE", "CASE", "BETWEEN", "LAMBDA", "LAMBDA_REF"}
    | {"COLLATE", "WINDOW"}
)
QUERY_CLASSES = SCALAR_CLASSES | {"STAR", "SUBQUERY"}

# Kinds of query nodes, table references and modifiers (which have a `type` and no `class`).
QUERY_TYPES = frozenset(
    {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
    | {"BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "EXPRESSION_LIST", "TABLE_FUNCTION", "PIVOT"}
    | {"ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"}
    | {"ORDER_DEFAULT", "ASCENDING", "DESCENDING"}
)
_INFIX = frozenset(INFIX_OPERATORS) | {f"!{operator}" for operator in INFIX_OPERATORS}

_WORDS = {
    "SUBQUERY": "a subquery",
    "STAR": "`*`",
    "PARAMETER": "a placeholder such as `?` or `$1`",
    "POSITIONAL_REFERENCE": "a column by its position (`#1`)",
    "SHOW_REF": "DESCRIBE, SHOW or SUMMARIZE",
    "DEFAULT": "DEFAULT",
}


class Refused(Exception):
    """The tree holds something that is not allowed. `position` counts bytes."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


def children(tree: Tree) -> Iterator[Tree]:
    """The trees right below `tree`, in the order of the text."""
    for value in tree.values():
        if isinstance(value, dict):
            yield value
        elif isinstance(value, list):
            yield from _within(value)


def _within(values: list[Any]) -> Iterator[Tree]:
    for value in values:
        if isinstance(value, dict):
            yield value
        elif isinstance(value, list):
            yield from _within(value)


def walk(tree: Tree) -> Iterator[Tree]:
    """`tree` and all below it, parents first."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(list(children(node))))


def check_scalar(tree: Tree) -> None:
    """Errors: `Refused`."""
    for node in walk(tree):
        kind = node.get("class")
        if kind is not None and kind not in SCALAR_CLASSES:
            raise _not_here(str(kind), node, "an expression")
        if kind is None and node.get("type") not in (None, "ORDER_MODIFIER", "ORDER_DEFAULT", "ASCENDING", "DESCENDING"):
            raise _not_here(str(node["type"]), node, "an expression")
        _check_function(node)


def check_query(tree: Tree) -> None:
    """Kinds of nodes and functions; which tables may be read is `queries.py`'s. Errors: `Refused`."""
    for node in walk(tree):
        kind, type_ = node.get("class"), node.get("type")
        if isinstance(type_, dict):
            continue  # a constant with its type, as TABLESAMPLE has one; what is within comes by itself
        if kind is not None and kind not in QUERY_CLASSES:
            raise _not_here(str(kind), node, "a query")
        if kind is None and type_ is not None and type_ not in QUERY_TYPES:
            raise _not_here(str(type_), node, "a query")
        if kind is None and type_ == "TABLE_FUNCTION":
            _check_table_function(node)
        else:
            _check_function(node)


def _not_here(kind: str, node: Tree, where: str) -> Refused:
    return Refused(f"{_WORDS.get(kind, kind.lower().replace('_', ' '))} cannot be used in {where}", position_of(node))


def _check_function(node: Tree) -> None:
    if node.get("class") not in ("FUNCTION", "WINDOW"):
        return
    name = function_name(node)
    if name in FUNCTIONS or name in OPERATORS or name in _INFIX:
        return
    raise Refused(unknown("function", name, FUNCTIONS), position_of(node))


def _check_table_function(node: Tree) -> None:
    name = function_name(node["function"])
    if name not in TABLE_FUNCTIONS:
        allowed = ", ".join(sorted(TABLE_FUNCTIONS))
        raise Refused(f"the table function {name} cannot be used: a query reads its inputs only (allowed are {allowed})", position_of(node))


def function_name(node: Tree) -> str:
    """In lower case, without catalog and schema: no schema that a node sees holds functions of its own, so the last part decides."""
    path = (node.get("qualified_name") or {}).get("path")
    name = path[-1] if path else node.get("function_name", "")
    return str(name).lower()


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`unknown function "uppr"; did you mean "upper"?`"""
    names = list(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    message = f'unknown {kind} "{name}"'
    if close:
        return f'{message}; did you mean "{lowered[close[0]]}"?'
    if kind == "function":
        return f"{message}, or one that is not allowed here"
    if not names:
        return f"{message}; there are no {kind}s"
    shown = ", ".join(f'"{candidate}"' for candidate in names[:10])
    return f"{message}; the {kind}s are {shown}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")
