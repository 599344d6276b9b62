"""What is wrong with a pipeline: one problem, and how its sentence names things. Pure."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong (or doubtful) with a pipeline, at a place that a person can find.

    `node_id` is "" for the pipeline itself; `field` is a dotted path in the node's config (`rules.2.condition`) or the name
    of a key of the pipeline (`schedule`); `line` and `column` count from 1 inside the text of that field.
    """

    message: str
    node_id: str = ""
    field: str = ""
    line: int | None = None
    column: int | None = None
    severity: Literal["error", "warning"] = "error"
    pointer: str = ""  # JSON Pointer into the document, when the problem is one of structure


def broken(message: str, pointer: str, node_id: str = "", field: str = "") -> Problem:
    """An error of the document's structure."""
    return Problem(message=message, node_id=node_id, field=field, pointer=pointer)


def shortened(text: str, most: int = 60) -> str:
    """`text` for a message: what a client sent may be a megabyte."""
    return text if len(text) <= most else text[: most - 1] + "…"


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    kinds = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "something else")
