"""Whether an expression gives text, a number or a truth value, as far as its columns' types and its form tell."""

import re
from collections.abc import Mapping

from pipelines.expressions.checking import function_name
from pipelines.expressions.functions import NUMBER_FUNCTIONS, TEXT_FUNCTIONS
from pipelines.expressions.parser import Tree

TEXT, NUMBER, BOOLEAN, OTHER, UNKNOWN = "text", "number", "boolean", "other", "unknown"

_NUMBER_TYPE = re.compile(
    r"(U?(BIG|SMALL|TINY|HUGE)INT|U?INTEGER|INT\d?|FLOAT\d?|DOUBLE|REAL|DECIMAL|NUMERIC|LONG|SHORT|SIGNED|OID|BIGNUM)(\(.*\))?$", re.IGNORECASE
)
_TEXT_TYPE = re.compile(r"(VARCHAR|TEXT|STRING|CHAR|BPCHAR|ENUM)(\(.*\))?$", re.IGNORECASE | re.DOTALL)
_ARITHMETIC = frozenset({"+", "-", "*", "/", "//", "%", "**", "^"})


def of_type(type_name: str) -> str:
    """The kind of a DuckDB type: of `DECIMAL(18,3)`, a number."""
    if _NUMBER_TYPE.match(type_name):
        return NUMBER
    if _TEXT_TYPE.match(type_name):
        return TEXT
    return BOOLEAN if type_name.upper() in ("BOOLEAN", "BOOL", "LOGICAL") else OTHER


def of_tree(tree: Tree, columns: Mapping[str, str]) -> str:
    """The kind of an expression; `columns` gives the kind of each column by its name in lower case."""
    handler = _BY_CLASS.get(str(tree.get("class")))
    return UNKNOWN if handler is None else handler(tree, columns)


def _of_column(tree: Tree, columns: Mapping[str, str]) -> str:
    names = tree["column_names"]
    return columns.get(names[0].lower(), UNKNOWN) if len(names) == 1 else UNKNOWN


def _of_cast(tree: Tree, _columns: Mapping[str, str]) -> str:
    return of_type(str((tree.get("type_expr") or {}).get("type_name", "")))


def _of_test(_tree: Tree, _columns: Mapping[str, str]) -> str:
    return BOOLEAN


def _of_case(tree: Tree, columns: Mapping[str, str]) -> str:
    return _common([check["then_expr"] for check in tree["case_checks"]] + [tree["else_expr"]], columns)


def _of_operator(tree: Tree, columns: Mapping[str, str]) -> str:
    return _common(tree["children"], columns) if tree["type"] == "OPERATOR_COALESCE" else UNKNOWN


def _of_constant(tree: Tree, _columns: Mapping[str, str]) -> str:
    kind = tree.get("literal", {}).get("kind")
    return {"STRING": TEXT, "INTEGER": NUMBER, "NUMERIC": NUMBER, "BOOLEAN": BOOLEAN}.get(str(kind), UNKNOWN)


def _of_function(tree: Tree, columns: Mapping[str, str]) -> str:
    name = function_name(tree)
    if name == "||" or name in TEXT_FUNCTIONS:
        return TEXT
    if name in NUMBER_FUNCTIONS:
        return NUMBER
    if name in _ARITHMETIC:
        return NUMBER if all(of_tree(argument["expression"], columns) == NUMBER for argument in tree["arguments"]) else UNKNOWN
    return UNKNOWN


def _common(trees: list[Tree], columns: Mapping[str, str]) -> str:
    kinds = {of_tree(tree, columns) for tree in trees} - {UNKNOWN}
    return kinds.pop() if len(kinds) == 1 else UNKNOWN


_BY_CLASS = {
    "CONSTANT": _of_constant,
    "COLUMN_REF": _of_column,
    "CAST": _of_cast,
    "COMPARISON": _of_test,
    "CONJUNCTION": _of_test,
    "BETWEEN": _of_test,
    "FUNCTION": _of_function,
    "CASE": _of_case,
    "OPERATOR": _of_operator,
}
