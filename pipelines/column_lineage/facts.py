"""The facts of a node, in the form that is stored and shown. `facts_of` is the way in; it never fails a node."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipelines.column_lineage.queries import trace
from pipelines.column_lineage.values import MOST_COLUMNS, Column, Influence, Source, Table, Untraceable, Value, distinct_names
from pipelines.expressions.parser import SyntaxProblem
from pipelines.nodes.base import Schema

_log = logging.getLogger(__name__)

# {"columns": [{"column", "from": [{"node_id", "column"}], "transformation", "indirect"?: […]}], "indirect": [{"node_id", "column", "by": […]}]}
Facts = dict[str, Any]

# Beyond these, facts would cost more than a run should pay for them, in time and in the database.
_LONGEST_SQL = 100_000
_MOST_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class TracedInput:
    """An input of a node: the view that its SQL reads, and the node that it comes from."""

    view: str
    node_id: str
    schema: Schema


def facts_of(sql: str, inputs: Sequence[TracedInput], output: Sequence[str]) -> Facts | None:
    """What the query `sql` makes of its inputs; `output` are the names of the columns that came out. None: not known."""
    if len(sql) > _LONGEST_SQL or sum(len(one.schema) for one in inputs) > MOST_COLUMNS or len(output) > MOST_COLUMNS:
        return None
    names = tuple((one.view, tuple(column.name for column in one.schema)) for one in inputs)
    try:
        found = _traced(sql, names)
    except (Untraceable, SyntaxProblem, RecursionError):
        return None
    except Exception:  # lineage is told beside a node's work, and must not fail it whatever DuckDB's tree holds
        _log.exception("column lineage failed")
        return None
    return _document(found, inputs, output) if _fits(found.columns, output) else None


def identity(node_id: str, schema: Schema) -> Facts:
    """Of a node that passes an input through."""
    columns = [{"column": one.name, "from": [{"node_id": node_id, "column": one.name}], "transformation": "identity"} for one in schema]
    return {"columns": columns, "indirect": []}


@lru_cache(maxsize=512)
def _traced(sql: str, inputs: tuple[tuple[str, tuple[str, ...]], ...]) -> Table:
    views = {view.lower(): Table(tuple(_source(view, name) for name in names)) for view, names in inputs}
    return trace(sql, views)


def _source(view: str, name: str) -> Column:
    return Column(name, Value(frozenset({(view, name)}), transformation="identity"))


def _fits(columns: Sequence[Column], output: Sequence[str]) -> bool:
    """Whether the columns are those that came out: a last look that the tracing missed nothing."""
    if len(columns) != len(output):
        return False
    found = distinct_names(columns)
    pairs = zip(columns, found, output, strict=True)
    return all(one.name is None or name.casefold() in (one.name.casefold(), str(other.name).casefold()) for one, other, name in pairs)


def _document(found: Table, inputs: Sequence[TracedInput], output: Sequence[str]) -> Facts | None:
    places = {(one.view, column.name): (index, position) for index, one in enumerate(inputs) for position, column in enumerate(one.schema)}
    nodes = {one.view: one.node_id for one in inputs}
    entries = len(found.rows) + sum(len(column.value.direct) + len(column.value.indirect) for column in found.columns)
    if entries > _MOST_ENTRIES:
        return None
    columns = [
        {
            "column": name,
            "from": [{"node_id": nodes[view], "column": source} for view, source in sorted(column.value.direct, key=places.__getitem__)],
            "transformation": column.value.transformation,
            **({"indirect": _influences(column.value.indirect, places, nodes)} if column.value.indirect else {}),
        }
        for column, name in zip(found.columns, output, strict=True)
    ]
    return {"columns": columns, "indirect": _influences(found.rows, places, nodes)}


def _influences(found: Iterable[Influence], places: Mapping[Source, tuple[int, int]], nodes: Mapping[str, str]) -> list[dict[str, Any]]:
    """By column, with all the ways in which it decides."""
    ways: dict[Source, set[str]] = {}
    for view, column, how in found:
        ways.setdefault((view, column), set()).add(how)
    return [{"node_id": nodes[view], "column": column, "by": sorted(ways[view, column])} for view, column in sorted(ways, key=places.__getitem__)]
