"""Runs of the past as rows: for tests of what is shown, where no worker needs to have executed anything."""

import dataclasses
import datetime as dt
import itertools
import uuid
from typing import Any

import duckdb
from django.conf import settings
from django.utils import timezone

from pipelines.models import Pipeline, PipelineVersion
from pipelines.nodes.base import Query, Stop
from runs import output as writer
from runs.artifacts import ArtifactStore
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.states import TERMINAL, EntryKind, NodeStatus, RunStatus

START = dt.datetime(2024, 1, 15, 6, 0, tzinfo=dt.UTC)


_made = itertools.count(1)


def id_at(moment: dt.datetime) -> uuid.UUID:
    """A UUIDv7 made at `moment`, after all that were made before for the same millisecond."""
    return uuid.UUID(int=(round(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | next(_made))


def past_pipeline(slug: str = "orders", name: str = "Orders") -> Pipeline:
    """A saved pipeline of one node."""
    now = timezone.now()
    pipeline = Pipeline.objects.create(pipeline_id=slug, name=name, node_count=1, created_at=now, updated_at=now)
    node = {"id": "first", "type": "sql", "name": "First", "config": {"query": "SELECT 1 AS x"}}
    PipelineVersion.objects.create(pipeline=pipeline, number=1, document={"name": name, "nodes": [node], "edges": []}, created_at=now)
    return pipeline


def past_run(pipeline: Pipeline, status: RunStatus = RunStatus.SUCCESS, *, at: dt.datetime = START, **fields: Any) -> Run:
    """An unsaved run created at `at`, started 0.1 s and finished 83 s later as far as its status got."""
    started = None if status == RunStatus.PENDING else at + dt.timedelta(milliseconds=100)
    return Run(
        id=id_at(at),
        pipeline=pipeline,
        version=fields.pop("version", None) or pipeline.versions.get(),
        status=status,
        owner="worker" if status == RunStatus.RUNNING else "",
        created_at=at,
        started_at=started,
        finished_at=at + dt.timedelta(seconds=83) if status in TERMINAL else None,
        **fields,
    )


def saved_run(pipeline: Pipeline, status: RunStatus = RunStatus.SUCCESS, **fields: Any) -> Run:
    run = past_run(pipeline, status, **fields)
    run.save(force_insert=True)
    return run


def many_runs(pipeline: Pipeline, count: int, **fields: Any) -> None:
    """`count` runs, one a minute from `START` on; every tenth failed."""
    version = pipeline.versions.get()
    Run.objects.bulk_create(
        (
            past_run(pipeline, RunStatus.SUCCESS if n % 10 else RunStatus.FAILED, at=START + dt.timedelta(minutes=n), version=version, **fields)
            for n in range(count)
        ),
        batch_size=500,
    )


def node_run(run: Run, node_id: str = "first", status: NodeStatus = NodeStatus.SUCCESS, **fields: Any) -> NodeRun:
    """An attempt that waited 4 ms and took 2.34 s."""
    ready = run.created_at + dt.timedelta(milliseconds=116)
    started = ready + dt.timedelta(milliseconds=4)
    values = {"name": node_id.title(), "type": "sql", "position": 0, "row_count": 1500, "ready_at": ready, "started_at": started}
    return NodeRun.objects.create(
        run=run, node_id=node_id, status=status, **(values | {"finished_at": started + dt.timedelta(milliseconds=2340)} | fields)
    )


def output(run: Run, node_id: str = "first", artifact: str = "", **fields: Any) -> NodeOutput:
    values: dict[str, Any] = {
        "row_count": 1,
        "byte_count": 1,
        "schema": [{"name": "x", "type": "INTEGER"}],
        "preview": {"columns": ["x"], "rows": [[1]], "row_count": 1, "truncated": False},
        "profile": {"row_count": 1, "column_count": 1, "profiling_ms": 1, "columns": []},
        "created_at": run.created_at,
    }
    return NodeOutput.objects.create(run=run, node_id=node_id, artifact=artifact or f"{run.id}/{node_id}.parquet", **(values | fields))


def produce(run: Run, sql: str) -> NodeOutput:
    """The output of the node `first`, written and measured by the engine's own writer from what the query gives."""
    key = f"{run.id}/first-1.parquet"
    with duckdb.connect() as engine:
        facts = writer.write(ArtifactStore(settings.ARTIFACTS).draft(key), engine, Query(sql), key, Stop(), narrow=True)
    node_run(run)
    return output(run, **{field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)})


def lines(run: Run, count: int, node_id: str = "first", level: str = "info", message: str = "Line {n}") -> list[LogEntry]:
    """`count` log lines, one a second."""
    return LogEntry.objects.bulk_create(
        LogEntry(
            run=run,
            node_id=node_id,
            attempt=1,
            kind=EntryKind.LOG,
            level=level,
            message=message.format(n=n),
            timestamp=run.created_at + dt.timedelta(seconds=n),
        )
        for n in range(count)
    )
