"""What is wrong with a pipeline: one problem, and how its sentence names things. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


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


def list_under(document: Mapping[str, Any], key: str, most: int, crowded: str, problems: list[Problem]) -> list[Any]:
    """The list under `key`; none where it is missing, wrong, or longer than `most` (which bounds all work that follows).

    `crowded` is what is said of one that is too long, with `{count}` for its length.
    """
    found = document.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        problems.append(broken(f"'{key}' must be a list, not {kind_of(found)}.", f"/{key}", field=key))
        return []
    if len(found) > most:
        problems.append(broken(crowded.format(count=len(found)), f"/{key}", field=key))
        return []
    return found
