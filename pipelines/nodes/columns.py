"""Columns as the configs of nodes name them: looked up without regard to case, as DuckDB does, with a sentence for a miss."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from pipelines.nodes.base import Column, Schema


def as_names(value: Any) -> Any:
    """`"a"` as `["a"]`, `""` and None as `[]`; the rest as it is, for pydantic to judge."""
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else value


# One column, or several: documents write a text or a list of texts.
ColumnNames = Annotated[tuple[str, ...], BeforeValidator(as_names, json_schema_input_type=str | list[str])]


def find(schema: Schema, name: str) -> Column | None:
    """The column of that name: spelled so, or else the first that differs in case only."""
    lowered = name.casefold()
    same = [column for column in schema if column.name.casefold() == lowered]
    return next((column for column in same if column.name == name), same[0] if same else None)


def unknown_column(name: str, schema: Schema, where: str = "") -> str:
    """The sentence for a column that is not there. `where` names the input, when there are several."""
    names = [column.name for column in schema]
    near = difflib.get_close_matches(name.casefold(), [other.casefold() for other in names], n=1, cutoff=0.6)
    sentence = f"There is no column '{name}'{f' in {where}' if where else ''}."
    if near:
        return f"{sentence} Did you mean '{next(other for other in names if other.casefold() == near[0])}'?"
    return f"{sentence} {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """`Columns: a, b, c.` with the rest of many counted."""
    if not names:
        return "It has no columns."
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"Columns: {', '.join(names[:20])}{more}."


def free_name(name: str, prefix: str, taken: Iterable[str]) -> str:
    """`name` with `prefix` before it as often as it takes to differ from all of `taken` (in lower case)."""
    used = set(taken)
    name = prefix + name
    while name.casefold() in used:
        name = prefix + name
    return name
