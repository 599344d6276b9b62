"""The lineage of all pipelines: files, tables and APIs, what is done between them, and which connections and variables that takes.

It is put together of what `pipelines.assets.rows` keeps for each pipeline's current version. What several pipelines share is one node.
"""

import re
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from brokoli_site.common.errors import NotFound
from brokoli_site.common.ids import parse_id
from pipelines.assets import graph, rows
from pipelines.assets.rows import Part

MOST_DEPTH = 20
DEFAULT_DEPTH = 3
_MOST_ASKED = 500  # assets that are looked up by name; beyond, everything is read at once
_OWN_ID = re.compile(r"(?:proc|(?:file|table|api):\?):([0-9a-f-]{36}):")
# Nothing flows into them, so a way upstream ends there, and who else uses them need not be known.
_ENDS = frozenset({"connection", "variable"})


@dataclass(slots=True)
class Lineage:
    """Nodes by id and edges, as the API shows them, in a stable order."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    edges: list[dict[str, Any]] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Put a pipeline's part into the whole."""
        pipeline_id = str(part.pipeline_id)
        items, edges = graph.loaded(part.text)
        ids = []
        for start, kind, name, sub_type, place, known, own in items:
            node_id = f"{start}:{pipeline_id}:{own}" if own else start
            ids.append(node_id)
            if node_id not in self.nodes:
                self.nodes[node_id] = {
                    "id": node_id,
                    "type": kind,
                    "name": name,
                    "sub_type": sub_type,
                    "pipeline_id": pipeline_id if own else None,
                    "pipeline": part.pipeline if own else None,
                    "place": place,
                    "understood": known,
                }
        self.edges += [{"from": ids[source], "to": ids[target], "pipeline_id": pipeline_id, "pipeline": part.pipeline} for source, target in edges]


def whole() -> Lineage:
    """Of all live pipelines. One query."""
    return _together(rows.parts())


def around(asset: str, depth: int) -> Lineage:
    """What is up to `depth` edges away from the node of that id, against the flow or with it. A query for each edge of the way, at most.

    Upstream is followed upstream only, and downstream downstream: what else a neighbour feeds has nothing to do with the asset.
    Errors: `NotFound` when no pipeline has it.
    """
    neighbourhood = _Neighbourhood()
    neighbourhood.look_for({asset})
    if asset not in neighbourhood.lineage.nodes:
        raise NotFound(f"No pipeline has '{asset[:200]}' in its lineage. The ids are those of GET /api/lineage.")
    ways = (neighbourhood.after, neighbourhood.before)
    seen = ({asset}, {asset})
    last = ({asset}, {asset})
    for step in range(depth):
        if step:
            neighbourhood.look_for(last[0] | last[1])
        last = (neighbourhood.next(last[0], ways[0], seen[0]), neighbourhood.next(last[1], ways[1], seen[1]))
        if not any(last):
            break
    kept = seen[0] | seen[1]
    found = neighbourhood.lineage
    edges = [edge for edge in found.edges if edge["from"] in kept and edge["to"] in kept]
    return Lineage({node_id: found.nodes[node_id] for node_id in sorted(kept)}, edges)


def pending() -> int:
    """How many pipelines the workers have not told the lineage of yet."""
    return rows.pending().count()


class _Neighbourhood:
    """The parts of those pipelines that were come by so far."""

    def __init__(self) -> None:
        self.lineage = Lineage()
        self.after: dict[str, list[str]] = {}
        self.before: dict[str, list[str]] = {}
        self._seen: set[uuid.UUID] = set()
        self._asked: set[str] = set()
        self._has_all = False

    def look_for(self, nodes: Iterable[str]) -> None:
        """Read the pipelines that have one of these nodes."""
        wanted = set(nodes) - self._asked
        self._asked |= wanted
        shared = {node for node in wanted if self._may_lead_on(node)}
        if not shared or self._has_all:
            return
        self._has_all = len(shared) > _MOST_ASKED
        parts = rows.parts() if self._has_all else rows.parts(shared, _pipelines_in(shared))
        for part in parts:
            if part.pipeline_id not in self._seen:
                self._seen.add(part.pipeline_id)
                self._add(part)

    def _may_lead_on(self, node: str) -> bool:
        """Whether pipelines that were not read yet may have it too."""
        known = self.lineage.nodes.get(node)
        return known is None or (known["pipeline_id"] is None and known["type"] not in _ENDS)

    def next(self, nodes: Iterable[str], edges: dict[str, list[str]], seen: set[str]) -> set[str]:
        """Those one edge further that were not seen yet."""
        found = {other for node in nodes for other in edges.get(node, ()) if other not in seen}
        seen |= found
        return found

    def _add(self, part: Part) -> None:
        done = len(self.lineage.edges)
        self.lineage.add(part)
        for edge in self.lineage.edges[done:]:
            self.after.setdefault(edge["from"], []).append(edge["to"])
            self.before.setdefault(edge["to"], []).append(edge["from"])


def _pipelines_in(nodes: Collection[str]) -> list[uuid.UUID]:
    """The pipelines that the ids of nodes name: `proc:PIPELINE:NODE`, `table:?:PIPELINE:NODE`."""
    named = (_OWN_ID.match(node) for node in nodes)
    found = (parse_id(match[1]) for match in named if match)
    return [one for one in found if one is not None]


def _together(parts: Iterable[Part]) -> Lineage:
    found = Lineage()
    for part in parts:
        found.add(part)
    return found
