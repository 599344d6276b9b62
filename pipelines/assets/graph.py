"""A pipeline's part of the lineage: its assets, its processing nodes, and what flows between them. Pure.

A node of which no more is known than one asset that it reads (a source), or writes (a sink), is shown as that asset. All others are
processing nodes, with what they read before them and what they write behind them.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from pipelines import uses
from pipelines.assets.values import Asset, Assets, Databases
from pipelines.nodes import registry
from pipelines.nodes.base import NodeType
from pipelines.spec import NodeSpec, PipelineSpec

_log = logging.getLogger(__name__)

Type = Literal["file", "table", "api", "processing", "connection", "variable"]

LONGEST_ID = 400  # characters; a longer one is cut, and a digest keeps it apart
_LONGEST_SHOWN = 200
_LONGEST_NAME = 100  # of a connection or variable that can exist
_MOST_OF_NODE = 100  # assets, and names, of one node
_MOST_OF_PIPELINE = 5_000
_MOST_SQL = 200_000  # characters of all queries of a pipeline; what comes after is not read


@dataclass(frozen=True, slots=True)
class Item:
    """A node of the lineage. `own`: of which node of the pipeline it is, if it belongs to this pipeline alone; its id then gets the pipeline's."""

    id: str
    type: Type
    name: str
    sub_type: str = ""
    place: str = ""
    known: bool = True
    own: str = ""

    def full_id(self, pipeline_id: object) -> str:
        return f"{self.id}:{pipeline_id}:{self.own}" if self.own else self.id


@dataclass(slots=True)
class Graph:
    """Items, and edges between them by their numbers."""

    items: list[Item] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)

    def shared_ids(self) -> list[str]:
        """Ids that other pipelines may have too."""
        return sorted({item.id for item in self.items if not item.own})

    def dumped(self) -> str:
        """As `loaded` reads it."""
        rows = [(one.id, one.type, one.name, one.sub_type, one.place, one.known, one.own) for one in self.items]
        return orjson.dumps({"items": rows, "edges": self.edges}).decode()


def loaded(text: str) -> tuple[list[Sequence[Any]], list[tuple[int, int]]]:
    """Items as rows `(id, type, name, sub_type, place, known, own)`, and edges."""
    found = orjson.loads(text)
    return found["items"], found["edges"]


def assets_of(node: NodeSpec, databases: Databases) -> Assets:
    """What a node reads and writes; nothing where its type is not known, or fails to say."""
    node_type = registry.find(node.type)
    if node_type is None:
        return Assets()
    try:
        found = node_type.assets(node_type.normalise(node.config), databases)
        return replace(found, reads=tuple(found.reads)[:_MOST_OF_NODE], writes=tuple(found.writes)[:_MOST_OF_NODE])
    except Exception:  # a type of another package, maybe: what it fails to say is no reason to refuse a pipeline
        _log.exception("assets of a node of type %s cannot be told", node.type)
        return Assets()


def assets_by_node(spec: PipelineSpec, databases: Databases) -> dict[str, Assets]:
    """Of each node; where statements decide which table is filled, it is the one that the nodes before make them for."""
    found, left = {}, _MOST_SQL
    for node in spec.nodes:
        left -= _sql_in(node)
        found[node.id] = assets_of(node, databases) if left >= 0 else Assets()
    before: dict[str, list[str]] = {}
    for edge in spec.edges:
        before.setdefault(edge.target, []).append(edge.source)
    for node_id, assets in found.items():
        if assets.by_statements and (table := _statements_for(node_id, found, before)):
            found[node_id] = replace(assets, writes=tuple(replace(one, name=table, known=True) for one in assets.writes), by_statements=False)
    return found


def of_pipeline(spec: PipelineSpec, databases: Databases) -> Graph:
    """The whole pipeline."""
    building = _Building()
    places: dict[str, int] = {}
    assets = assets_by_node(spec, databases)
    for node in spec.nodes:
        places[node.id] = building.add_node(node, assets[node.id])
    takes_data = {node.id: _takes_data(registry.find(node.type)) for node in spec.nodes}
    for edge in spec.edges:
        if takes_data[edge.target]:
            building.connect(places[edge.source], places[edge.target])
    for node in spec.nodes:
        for kind, name in _named(node):
            used = building.put(Item(f"{kind}:{name}", kind, name))
            building.connect(used, places[node.id])
    return Graph(building.items, list(building.edges))


def item_of(asset: Asset, node: NodeSpec) -> Item:
    """The asset as an item of the lineage; one that is not known is the node's own."""
    if not asset.known:
        return Item(f"{asset.kind}:?", asset.kind, _shown(node.name or node.id), place=_shown(asset.place), known=False, own=node.id)
    written = f"{asset.kind}://{asset.place}/{asset.name}" if asset.place else f"{asset.kind}:{asset.name}"
    return Item(_cut(written), asset.kind, _shown(asset.name), place=_shown(asset.place))


def named_of(spec: PipelineSpec) -> set[str]:
    """The connections that its configs name."""
    return {name for node in spec.nodes for kind, name in _named(node) if kind == "connection"}


class _Building:
    """The graph while it grows: what has the same id is one item."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.edges: dict[tuple[int, int], None] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def put(self, item: Item) -> int:
        number = self._numbers.setdefault((item.id, item.own), len(self.items))
        if number == len(self.items):
            self.items.append(item)
        return number

    def connect(self, source: int, target: int) -> None:
        self.edges.setdefault((source, target))

    def add_node(self, node: NodeSpec, assets: Assets) -> int:
        """The number of the item that stands for the node."""
        node_type = registry.find(node.type)
        category = node_type.category if node_type else ""
        alone = assets.reads if category == "source" else assets.writes if category == "sink" else ()
        if len(alone) == len(assets.reads) + len(assets.writes) == 1:
            return self.put(item_of(alone[0], node))
        process = self.put(Item("proc", "processing", _shown(node.name or node.id), node.type, own=node.id))
        if len(self.items) < _MOST_OF_PIPELINE:
            for asset in assets.reads:
                self.connect(self.put(item_of(asset, node)), process)
            for asset in assets.writes:
                self.connect(process, self.put(item_of(asset, node)))
        return process


def _takes_data(node_type: NodeType | None) -> bool:
    return node_type is None or node_type.takes_data


def _sql_in(node: NodeSpec) -> int:
    """Characters."""
    node_type = registry.find(node.type)
    texts = [node.config.get(key) for key in node_type.sql_keys] if node_type else []
    return sum(len(text) for text in texts if isinstance(text, str))


def _named(node: NodeSpec) -> Iterator[tuple[Literal["connection", "variable"], str]]:
    found = {(one.kind, one.name) for one in uses.named_in(node) if len(one.name) <= _LONGEST_NAME}
    yield from sorted(found)[:_MOST_OF_NODE]


def _statements_for(node_id: str, assets: Mapping[str, Assets], before: Mapping[str, list[str]]) -> str:
    waiting, seen = list(before.get(node_id, ())), {node_id}
    while waiting:
        current = waiting.pop(0)
        if current in seen or current not in assets:
            continue
        seen.add(current)
        if assets[current].statements_for:
            return assets[current].statements_for
        waiting += before.get(current, ())
    return ""


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def _cut(text: str) -> str:
    if len(text) <= LONGEST_ID:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[: LONGEST_ID - 17]}…{digest}"
