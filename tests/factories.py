"""Objects for tests, made through the product's own code where it has some."""

from typing import Any

from django.utils import timezone

from pipelines import definitions
from pipelines.models import Pipeline, PipelineVersion
from runs import queue, transitions, triggers
from runs.models import Run, Worker
from runs.states import RunStatus
from runs.transitions import Lease


def make_pipeline(nodes: list[dict[str, Any]] | None = None, edges: list[tuple[str, str]] | None = None, name: str = "Orders") -> Pipeline:
    """A saved pipeline with one version; by default two `sql` nodes in a row."""
    if nodes is None:
        nodes = [sql_node("first", "SELECT 1 AS x"), sql_node("second", "SELECT x + 1 AS x FROM input")]
        edges = [("first", "second")]
    now = timezone.now()
    slug = f"{name.lower().replace(' ', '-')}-{Pipeline.objects.count() + 1}"
    pipeline = Pipeline.objects.create(pipeline_id=slug, name=name, node_count=len(nodes), created_at=now, updated_at=now)
    document = {"name": name, "pipeline_id": slug, "nodes": nodes, "edges": [{"from": source, "to": target} for source, target in edges or []]}
    PipelineVersion.objects.create(pipeline=pipeline, number=1, document=document, created_at=now)
    return pipeline


def save_pipeline(name: str, **keys: Any) -> Pipeline:
    """A pipeline as the API would save it, with its name as its slug and one node; `keys` are those of its document."""
    return definitions.create({"name": name, "pipeline_id": name.lower(), "nodes": [sql_node("only", "SELECT 1 AS x")], **keys}).pipeline


def sql_node(node_id: str, query: str, **settings: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "sql", "name": node_id.title(), "config": {"query": query, **settings}}


def accept_run(pipeline: Pipeline | None = None, **arguments: Any) -> Run:
    """A pending run."""
    return triggers.run(pipeline or make_pipeline(), **arguments)


def register_worker(lease_seconds: int = 15) -> Worker:
    return queue.register(concurrency=1, lease_seconds=lease_seconds)


def claim_one(worker: Worker) -> Lease:
    """The lease of the one run that waits."""
    (lease,) = queue.claim(worker.id, 1)
    return lease


def end_run(run: Run, status: RunStatus, error: str = "") -> Run:
    """Take a pending run to a terminal status, as a worker would."""
    lease = transitions.start_run(run.id, register_worker().id)
    assert lease is not None
    queue.finish(lease, status, error)
    run.refresh_from_db()
    return run
