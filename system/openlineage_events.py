"""Entries of the log as events of OpenLineage, spec 2-0-2: a run is a run of the job that its pipeline is, each attempt of a node one of its own.

https://openlineage.io/spec/2-0-2/OpenLineage.json. The rows are read when an event is made, in a few queries for each run; nothing is written.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from django.conf import settings

from brokoli_site.common.time import iso
from brokoli_site.common.version import VERSION
from pipelines import spec
from pipelines.assets import graph, rows
from pipelines.assets.values import Assets
from pipelines.spec import PipelineSpec
from runs.models import LogEntry, NodeRun, Run
from runs.states import EntryKind, NodeStatus
from system import column_lineage
from system.column_lineage import Facts, Place
from system.openlineage_datasets import Connections, Dataset

PRODUCER = f"urn:brokoli:{VERSION}"
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
MOST_BYTES = 1024**2  # of an event; beyond, columns are left out
_MOST_FIELDS = 2_000  # of a dataset
_FACETS = {
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "nominalTime": "1-0-1/NominalTimeRunFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "parent": "1-2-0/ParentRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
}
_TYPES = {
    EntryKind.RUN_STARTED: "START",
    EntryKind.RUN_COMPLETED: "COMPLETE",
    EntryKind.RUN_FAILED: "FAIL",
    EntryKind.RUN_CANCELLED: "ABORT",
    EntryKind.NODE_STARTED: "START",
    EntryKind.NODE_COMPLETED: "COMPLETE",
    EntryKind.NODE_FAILED: "FAIL",
    EntryKind.NODE_CANCELLED: "ABORT",
}
KINDS = tuple(_TYPES)
_SUBTYPES = {"identity": "IDENTITY", "expression": "TRANSFORMATION", "aggregate": "AGGREGATION"}


@dataclass(frozen=True, slots=True)
class Definition:
    """What a version reads and writes, node by node, as datasets."""

    spec: PipelineSpec
    reads: Mapping[str, Sequence[Dataset]]
    writes: Mapping[str, Sequence[Dataset]]

    @classmethod
    def of(cls, document: Any) -> "Definition":
        found = spec.read(document if isinstance(document, Mapping) else {})[0]
        names = graph.named_of(found)
        connections = Connections.named(names)
        assets = graph.assets_by_node(found, rows.databases_named(names))
        return cls(found, _datasets(assets, connections, "reads"), _datasets(assets, connections, "writes"))


def _datasets(assets: Mapping[str, Assets], connections: Connections, side: str) -> dict[str, list[Dataset]]:
    return {node_id: [named for one in getattr(of_node, side) if (named := connections.dataset(one))] for node_id, of_node in assets.items()}


@dataclass
class Writer:
    """Makes the events of a batch of entries. Keeps what it has read of definitions, so one writer serves one batch."""

    entries: Sequence[LogEntry]
    _definitions: dict[int, Definition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = {entry.run_id for entry in self.entries}
        found = Run.objects.filter(id__in=ids).select_related("pipeline", "version")
        self._runs = {run.id: run for run in found}
        attempts = NodeRun.objects.filter(run_id__in={entry.run_id for entry in self.entries if entry.node_id})
        self._attempts = {(one.run_id, one.node_id, one.attempt): one for one in attempts}

    def event(self, entry: LogEntry) -> bytes | None:
        """None where there is nothing to tell: a run that was purged, one that another worker goes on with, a node that never began."""
        run = self._runs.get(entry.run_id)
        if run is None or (entry.kind == EntryKind.RUN_STARTED and (entry.data or {}).get("epoch", 1) > 1):
            return None
        if not entry.node_id:
            return _bounded(partial(self._of_run, entry, run))
        attempt = self._attempts.get((entry.run_id, entry.node_id, entry.attempt or 1))
        if attempt is None or attempt.started_at is None:
            return None
        return _bounded(partial(self._of_node, entry, run, attempt))

    def _definition(self, run: Run) -> Definition:
        if run.version_id not in self._definitions:
            self._definitions[run.version_id] = Definition.of(run.version.document)
        return self._definitions[run.version_id]

    def _of_run(self, entry: LogEntry, run: Run, *, columns: bool) -> dict[str, Any]:
        definition = self._definition(run)
        facets: dict[str, Any] = {"processing_engine": _facet("processing_engine", version=VERSION, name="Brokoli")}
        if run.interval_start:
            ends = {"nominalEndTime": iso(run.interval_end)} if run.interval_end else {}
            facets["nominalTime"] = _facet("nominalTime", nominalStartTime=iso(run.interval_start), **ends)
        ended = entry.kind != EntryKind.RUN_STARTED
        facts = column_lineage.facts_of_run(run) if ended and columns else {}
        written = _rows_written(run.id) if ended else {}
        fields = _column_fields(definition, facts) if entry.kind == EntryKind.RUN_COMPLETED and columns else {}
        inputs = _inputs(definition, facts, definition.reads)
        outputs = _outputs(definition, facts, definition.writes, written, fields)
        return _event(entry, run.id, _job(run, ""), facets | _error(entry, run.error), inputs, outputs)

    def _of_node(self, entry: LogEntry, run: Run, attempt: NodeRun, *, columns: bool) -> dict[str, Any]:
        definition, node_id = self._definition(run), entry.node_id
        reads, writes = definition.reads.get(node_id, ()), definition.writes.get(node_id, ())
        done = entry.kind == EntryKind.NODE_COMPLETED and attempt.row_count is not None
        facts = column_lineage.facts_of_run(run, node_id) if done and columns and (reads or writes) else {}
        parent = _facet("parent", run={"runId": str(run.id)}, job={key: _job(run, "")[key] for key in ("namespace", "name")})
        inputs = _inputs(definition, facts, {node_id: reads})
        outputs = _outputs(definition, facts, {node_id: writes}, {node_id: attempt.row_count} if done else {}, {})
        return _event(entry, attempt.id, _job(run, node_id), {"parent": parent} | _error(entry, attempt.error), inputs, outputs)


def _bounded(make: Callable[..., dict[str, Any]]) -> bytes:
    event = orjson.dumps(make(columns=True))
    return event if len(event) <= MOST_BYTES else orjson.dumps(make(columns=False))


def _event(entry: LogEntry, run_id: uuid.UUID, job: Any, facets: Any, inputs: Any, outputs: Any) -> dict[str, Any]:
    return {
        "eventType": _TYPES[EntryKind(entry.kind)],
        "eventTime": iso(entry.timestamp),
        "run": {"runId": str(run_id), "facets": facets},
        "job": job,
        "inputs": inputs,
        "outputs": outputs,
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
    }


def _facet(kind: str, /, **content: Any) -> dict[str, Any]:
    path = _FACETS[kind]
    return {"_producer": PRODUCER, "_schemaURL": f"https://openlineage.io/spec/facets/{path}.json#/$defs/{path.partition('/')[2]}", **content}


def _job(run: Run, node_id: str) -> dict[str, Any]:
    """A pipeline is named by its slug, a node behind it."""
    name = f"{run.pipeline.pipeline_id}.{node_id}" if node_id else run.pipeline.pipeline_id
    kind = _facet("jobType", processingType="BATCH", integration="BROKOLI", jobType="TASK" if node_id else "PIPELINE")
    return {"namespace": settings.OPENLINEAGE_NAMESPACE, "name": name, "facets": {"jobType": kind}}


def _error(entry: LogEntry, error: str) -> dict[str, Any]:
    """Errors in rows hold no secrets: nodes' words go through their vault before they are stored."""
    if _TYPES[EntryKind(entry.kind)] != "FAIL":
        return {}
    return {"errorMessage": _facet("errorMessage", message=error or entry.message, programmingLanguage="python")}


def _rows_written(run_id: uuid.UUID) -> dict[str, int | None]:
    done = NodeRun.objects.filter(run_id=run_id, status=NodeStatus.SUCCESS).values_list("node_id", "row_count")
    return dict(done)


def _inputs(definition: Definition, facts: Mapping[str, Facts], reads: Mapping[str, Sequence[Dataset]]) -> list[dict[str, Any]]:
    """Each dataset once. The columns of a node that reads a single one are that one's."""
    found: dict[Dataset, dict[str, Any]] = {}
    for node_id, datasets in reads.items():
        for dataset in datasets:
            schema = _schema(facts.get(node_id)) if len(datasets) == 1 and not definition.writes.get(node_id) else {}
            found.setdefault(dataset, {"namespace": dataset.namespace, "name": dataset.name, "facets": schema})
    return list(found.values())


def _outputs(
    definition: Definition,
    facts: Mapping[str, Facts],
    writes: Mapping[str, Sequence[Dataset]],
    written: Mapping[str, int | None],
    fields: Mapping[str, Any],
) -> list[dict[str, Any]]:
    found: dict[Dataset, dict[str, Any]] = {}
    for node_id, datasets in writes.items():
        for dataset in datasets:
            count = written.get(node_id)
            statistics = {} if count is None else {"outputStatistics": _facet("outputStatistics", rowCount=count)}
            # A node that reads for itself, such as a migration, gives on what it did, not what it wrote.
            schema = {} if definition.reads.get(node_id) else _schema(facts.get(node_id))
            lineage = {"columnLineage": fields[node_id]} if node_id in fields else {}
            shown = {"namespace": dataset.namespace, "name": dataset.name, "facets": schema | lineage, "outputFacets": statistics}
            found.setdefault(dataset, shown)
    return list(found.values())


def _schema(fact: Facts | None) -> dict[str, Any]:
    if fact is None:
        return {}
    columns = zip(fact.columns, fact.types, strict=True)
    return {"schema": _facet("schema", fields=[{"name": name, "type": kind} for name, kind in list(columns)[:_MOST_FIELDS]])}


def _column_fields(definition: Definition, facts: Mapping[str, Facts]) -> dict[str, Any]:
    """The facet of column lineage for each node that writes, from end to end."""
    traced = column_lineage.traced(definition.spec, facts)
    if traced.truncated:
        return {}
    found = {}
    for node in column_lineage.ends(definition.spec, (node_id for node_id, datasets in definition.writes.items() if datasets)):
        columns = traced.columns.get(node.id)
        if not columns or len(columns) > _MOST_FIELDS or node.id in traced.unknown:
            continue
        fields = {}
        for name, origin in columns.items():
            direct = [_input_field(definition, place, "DIRECT", _SUBTYPES[how]) for place, how in sorted(origin.direct.items())]
            indirect = [_input_field(definition, place, "INDIRECT", "") for place in sorted(origin.indirect - origin.direct.keys())]
            fields[name] = {"inputFields": [one for one in (*direct, *indirect) if one]}
        deciding = [_input_field(definition, place, "INDIRECT", "") for place in sorted(traced.rows.get(node.id, ()))]
        found[node.id] = _facet("columnLineage", fields=fields, dataset=[one for one in deciding if one])
    return found


def _input_field(definition: Definition, place: Place, kind: str, subtype: str) -> dict[str, Any] | None:
    """None for a column of a node that reads no dataset, or several, of which it does not say whose it is."""
    node_id, column = place
    datasets = definition.reads.get(node_id, ())
    if len(datasets) != 1:
        return None
    how = {"type": kind, **({"subtype": subtype} if subtype else {}), "description": "", "masking": False}
    return {"namespace": datasets[0].namespace, "name": datasets[0].name, "field": column, "transformations": [how]}
