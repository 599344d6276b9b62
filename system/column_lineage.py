"""From which columns of what a pipeline reads those of what it writes come: the facts of its last successful run, end to end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brokoli_site.common.errors import NotFound
from pipelines import spec
from pipelines.assets import graph, rows
from pipelines.definitions import identify
from pipelines.graph import Graph
from pipelines.models import Pipeline
from pipelines.spec import NodeSpec, PipelineSpec
from runs.models import NodeOutput, Run
from runs.states import RunStatus

MOST_ENTRIES = 20_000  # of an answer, and
_MOST_WORK = 500_000  # columns that are looked at for it
_STRENGTH = ("identity", "expression", "aggregate")
NONE_YET = "The pipeline has no successful run yet, or all were deleted: column lineage is told by what a run executed."

Place = tuple[str, str]  # a node and its column


@dataclass(slots=True)
class Origin:
    """Where the values of one column come from, in terms of the columns where a trace ends, and what else decides about them."""

    direct: dict[Place, str] = field(default_factory=dict)  # with the transformation
    indirect: set[Place] = field(default_factory=set)


@dataclass(slots=True)
class Trace:
    """The origins of all columns of a run's nodes. `unknown`: nodes at which it ends although they have inputs."""

    columns: dict[str, dict[str, Origin]] = field(default_factory=dict)
    rows: dict[str, set[Place]] = field(default_factory=dict)  # by node: what decides which rows there are
    unknown: list[str] = field(default_factory=list)
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one node of a run: its columns, and what is known of them."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    lineage: Mapping[str, Any] | None


def of_pipeline(key: str) -> dict[str, Any]:
    """The answer of the API. Errors: `NotFound`."""
    pipeline_id = identify(key)
    pipeline = Pipeline.objects.live().filter(id=pipeline_id).first() if pipeline_id else None
    if pipeline is None:
        raise NotFound("There is no such pipeline.")
    about = {"pipeline_id": str(pipeline.id), "pipeline": pipeline.name}
    run = Run.objects.filter(pipeline=pipeline, status=RunStatus.SUCCESS).select_related("version").order_by("-id").first()
    if run is None:
        empty: dict[str, Any] = {"columns": [], "rows": [], "steps": [], "unknown": []}
        return {**about, "run_id": None, "pipeline_version": None, "finished_at": None, **empty, "truncated": False, "message": NONE_YET}
    definition = spec.read(run.version.document)[0]
    facts = facts_of_run(run)
    found = traced(definition, facts)
    return {
        **about,
        "run_id": str(run.id),
        "pipeline_version": run.version.number,
        "finished_at": run.finished_at,
        **_shown(definition, facts, found),
        "message": "",
    }


def facts_of_run(run: Run, node_id: str = "") -> dict[str, Facts]:
    """By node, for those that have an output; or of one node alone. One query."""
    outputs = NodeOutput.objects.filter(run=run, **({"node_id": node_id} if node_id else {}))
    found = {}
    for node, schema, lineage in outputs.values_list("node_id", "schema", "lineage"):
        found[node] = Facts(tuple(column["name"] for column in schema), tuple(column["type"] for column in schema), lineage)
    return found


def traced(definition: PipelineSpec, facts: Mapping[str, Facts]) -> Trace:
    """Follow the facts through the pipeline, from its sources on."""
    found, work = Trace(), 0
    for node_id in Graph(definition).order:
        fact = facts.get(node_id)
        if fact is None:
            continue
        work += len(fact.columns)
        if work > _MOST_WORK:
            found.truncated = True
            break
        if fact.lineage is None:
            found.columns[node_id] = {name: Origin({(node_id, name): "identity"}) for name in fact.columns}
            found.rows[node_id] = set()
            if definition.inputs_of(node_id):
                found.unknown.append(node_id)
            continue
        work += _follow(node_id, fact.lineage, found)
    return found


def ends(definition: PipelineSpec, writers: Iterable[str]) -> list[NodeSpec]:
    """The nodes that write to an asset; where there is none, those after which nothing comes."""
    writing = set(writers)
    if not writing:
        feeding = {edge.source for edge in definition.edges}
        writing = {node.id for node in definition.nodes} - feeding
    return [node for node in definition.nodes if node.id in writing]


def _follow(node_id: str, lineage: Mapping[str, Any], found: Trace) -> int:
    """Put the columns of a node into terms of where they come from at first. Returns how much there was to do."""
    deciding = {place for one in lineage["indirect"] for place in _all(found, one)}
    inputs = {one["node_id"] for column in lineage["columns"] for one in column["from"]} | {one["node_id"] for one in lineage["indirect"]}
    found.rows[node_id] = deciding.union(*(found.rows.get(one, set()) for one in inputs))
    columns = found.columns[node_id] = {}
    work = 0
    for column in lineage["columns"]:
        columns[column["column"]] = origin = _origin(column, found)
        work += len(origin.direct) + len(origin.indirect)
    return work


def _origin(column: Mapping[str, Any], found: Trace) -> Origin:
    sources, beside = column["from"], column.get("indirect", ())
    if len(sources) == 1 and not beside and column["transformation"] == "identity":
        return _known(found, sources[0])  # the very same: wide tables pass through many nodes
    origin = Origin()
    for one in sources:
        earlier = _known(found, one)
        origin.indirect |= earlier.indirect
        for place, transformation in earlier.direct.items():
            stronger = max(transformation, column["transformation"], origin.direct.get(place, "identity"), key=_STRENGTH.index)
            origin.direct[place] = stronger
    for one in beside:
        origin.indirect |= _all(found, one)
    return origin


def _known(found: Trace, place: Mapping[str, str]) -> Origin:
    return found.columns.get(place["node_id"], {}).get(place["column"]) or Origin({(place["node_id"], place["column"]): "identity"})


def _all(found: Trace, place: Mapping[str, str]) -> set[Place]:
    origin = _known(found, place)
    return {*origin.direct, *origin.indirect}


# --- as the API shows it --------------------------------------------------------------------------------------------


def _shown(definition: PipelineSpec, facts: Mapping[str, Facts], found: Trace) -> dict[str, Any]:
    databases = rows.databases_named(graph.named_of(definition))
    assets = graph.assets_by_node(definition, databases)
    nodes = {node.id: node for node in definition.nodes}
    reads = {node_id: [graph.item_of(one, nodes[node_id]).id for one in of_node.reads if one.known] for node_id, of_node in assets.items()}
    writes = {node_id: [graph.item_of(one, nodes[node_id]).id for one in of_node.writes if one.known] for node_id, of_node in assets.items()}
    columns: list[dict[str, Any]] = []
    deciding: list[dict[str, Any]] = []
    left = MOST_ENTRIES
    for node in ends(definition, (node_id for node_id, of_node in assets.items() if of_node.writes)):
        if found.rows.get(node.id):
            deciding.append({"node_id": node.id, "assets": writes[node.id], "from": _places(found.rows[node.id], reads)[:left]})
            left -= len(found.rows[node.id])
        for name, origin in found.columns.get(node.id, {}).items():
            left -= 1 + len(origin.direct) + len(origin.indirect)
            if left < 0:
                break
            columns.append(_column(node.id, name, origin, writes[node.id], reads))
    steps = _steps(facts)
    return {
        "columns": columns,
        "rows": deciding,
        "steps": steps[:MOST_ENTRIES],
        "unknown": found.unknown,
        "truncated": found.truncated or left < 0 or len(steps) > MOST_ENTRIES,
    }


def _column(node_id: str, name: str, origin: Origin, written: Sequence[str], reads: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    direct = [{**place, "transformation": origin.direct[place["node_id"], place["column"]]} for place in _places(origin.direct, reads)]
    return {"node_id": node_id, "assets": written, "column": name, "from": direct, "indirect": _places(origin.indirect, reads)}


def _places(places: Iterable[Place], reads: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    return [{"node_id": node_id, "assets": reads.get(node_id, []), "column": column} for node_id, column in sorted(places)]


def _steps(facts: Mapping[str, Facts]) -> list[dict[str, Any]]:
    """From column to column, one node at a time."""
    return [
        {"from": source, "to": {"node_id": node_id, "column": column["column"]}, "transformation": column["transformation"]}
        for node_id, fact in facts.items()
        if fact.lineage is not None
        for column in fact.lineage["columns"]
        for source in column["from"]
    ]
