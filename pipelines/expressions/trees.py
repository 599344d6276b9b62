"""Small syntax trees, made by us, in the parser's form."""

from typing import Any

from pipelines.expressions.parser import Tree

_NO_POSITION = 18446744073709551615


def _expression(class_: str, type_: str, **rest: Any) -> Tree:
    return {"class": class_, "type": type_, "alias": "", "query_location": _NO_POSITION, "query_location_length": 0, **rest}


def constant(value: object) -> Tree:
    """A literal: text, whole number, other number, true or false, null. What it holds is data: the renderer quotes it."""
    match value:
        case None:
            kind, text = "NULL_LITERAL", ""
        case bool():
            kind, text = "BOOLEAN", "true" if value else "false"
        case int():
            kind, text = "INTEGER", str(value)
        case float():
            return cast(constant(repr(value)), "DOUBLE")
        case _:
            kind, text = "STRING", str(value)
    return _expression("CONSTANT", "VALUE_CONSTANT", literal={"kind": kind, "text": text})


def column(name: str) -> Tree:
    return _expression("COLUMN_REF", "COLUMN_REF", column_names=[name])


def cast(tree: Tree, type_name: str, *, may_fail: bool = False) -> Tree:
    """CAST, or TRY_CAST (NULL for what cannot be converted) when `may_fail`."""
    type_tree = _expression("TYPE", "TYPE", catalog="", schema="", type_name=type_name, children=[], qualified_name={"path": [type_name]})
    return _expression("CAST", "OPERATOR_CAST", child=tree, try_cast=may_fail, type_expr=type_tree)


def call(name: str, *arguments: Tree, is_operator: bool = False) -> Tree:
    """A function, or an operator, of `arguments`."""
    return _expression(
        "FUNCTION",
        "FUNCTION",
        function_name=name,
        schema="",
        filter=None,
        order_bys={"type": "ORDER_MODIFIER", "orders": []},
        distinct=False,
        is_operator=is_operator,
        export_state=False,
        catalog="",
        arguments=[{"name": "", "expression": argument} for argument in arguments],
        qualified_name={"path": [name]},
    )


def operator(type_: str, *arguments: Tree) -> Tree:
    """`OPERATOR_NOT`, `OPERATOR_IS_NULL`, `COMPARE_IN`, …"""
    return _expression("OPERATOR", type_, children=list(arguments))


def replace(target: Tree, replacement: Tree) -> None:
    """Make `target` what `replacement` is, keeping its place in the text and the name that was given to it."""
    alias, location, length = target.get("alias", ""), target.get("query_location", _NO_POSITION), target.get("query_location_length", 0)
    content = dict(replacement)
    target.clear()
    target.update(content)
    target.update(alias=alias, query_location=location, query_location_length=length)
