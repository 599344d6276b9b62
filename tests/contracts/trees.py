"""Expression trees, in the form in which the SDK's builders make them."""

from typing import Any

Tree = dict[str, Any]


def _tree(value: Any) -> Any:
    return value if isinstance(value, dict) and "op" in value else literal(value)


def column(*path: str) -> Tree:
    return {"op": "column", "path": list(path)}


def literal(value: Any) -> Tree:
    return {"op": "literal", "value": value}


TRUE = literal(value=True)


def op(name: str, *sides: Any, **keys: Any) -> Tree:
    """An operator of two sides, or with keys of its own."""
    return {"op": name, **({"left": _tree(sides[0]), "right": _tree(sides[1])} if sides else {}), **keys}


def add(left: Any, right: Any) -> Tree:
    return op("add", left, right)


def concat(left: Any, right: Any) -> Tree:
    return op("concat", left, right)
