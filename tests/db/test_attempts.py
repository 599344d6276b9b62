"""Attempts of nodes, and what a resume executes again: by the real executor; nodes do what the test says."""

from collections.abc import Callable
from typing import Any

import pytest

from brokoli_site.common.errors import NodeError, NodeTimeout, TransientNodeError
from pipelines.models import Pipeline, PipelineVersion
from pipelines.nodes.base import Stop
from pipelines.spec import RetryPolicy
from runs import queue, transitions, triggers
from runs.artifacts import ArtifactStore
from runs.control import Control, Resources
from runs.engine import NodeTask
from runs.executor import Execution
from runs.log import NodeLog
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.progress import retry_delay
from tests.factories import accept_run, make_pipeline, register_worker, sql_node
from tests.races.test_database_away import resources  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)

MakeResources = Callable[..., Resources]


def execute(run: Run, opened: Resources) -> Run:
    """Claim the run and take it to its end."""
    lease = transitions.start_run(run.id, register_worker().id)
    assert lease is not None
    outcome = Execution(lease, opened, Control()).run()
    queue.finish(lease, outcome.status, outcome.reason)
    run.refresh_from_db()
    return run


class Executed:
    """Notes which nodes executed; those in `failing` fail."""

    def __init__(self, *failing: str) -> None:
        self.nodes: list[str] = []
        self._failing = failing

    def __call__(self, task: NodeTask, log: NodeLog, stop: Stop) -> None:
        self.nodes.append(task.node.id)
        if task.node.id in self._failing:
            raise NodeError("no luck")


# --- attempts -----------------------------------------------------------------------------------------------------------


def test_each_attempt_has_its_own_error_and_lines(resources: MakeResources) -> None:  # noqa: F811
    tries = 0

    def behave(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        nonlocal tries
        tries += 1
        log.info(f"this is try {tries}")
        if tries < 3:
            raise TransientNodeError(f"no luck the {tries}. time")

    run = execute(accept_run(make_pipeline([sql_node("first", "SELECT 1 AS x", max_retries=5, retry_delay=1)])), resources(behave))

    assert run.status == "success"
    attempts = NodeRun.objects.filter(run=run).order_by("attempt").values_list("attempt", "status", "error")
    assert list(attempts) == [(1, "failed", "no luck the 1. time"), (2, "failed", "no luck the 2. time"), (3, "success", "")]
    for attempt in (1, 2, 3):
        entries = LogEntry.objects.filter(run=run, node_id="first", attempt=attempt).order_by("seq")
        kinds = ["node.started", "log", "node.completed" if attempt == 3 else "node.failed"]
        assert [entry.kind for entry in entries] == (["node.retrying"] if attempt > 1 else []) + kinds
        assert f"this is try {attempt}" in [entry.message for entry in entries]


@pytest.mark.parametrize(("error", "attempts"), [(TransientNodeError, 3), (NodeTimeout, 3), (NodeError, 1)])
def test_the_class_of_the_error_says_whether_it_is_tried_again(resources: MakeResources, error: type[NodeError], attempts: int) -> None:  # noqa: F811
    def fail(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        raise error("no luck")

    run = execute(accept_run(make_pipeline([sql_node("first", "SELECT 1 AS x", max_retries=2, retry_delay=1)])), resources(fail))

    assert (run.status, run.error) == ("failed", "Node 'First' failed: no luck")
    assert list(NodeRun.objects.filter(run=run).values_list("status", flat=True)) == ["failed"] * attempts


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (RetryPolicy(9, 1000), [1, 2, 4, 8, 16, 32, 60, 60]),
        (RetryPolicy(9, 1000, "fixed"), [1, 1, 1]),
        (RetryPolicy(9, 24 * 3600 * 1000, "fixed"), [60, 60]),
        (RetryPolicy(9, 24 * 3600 * 1000), [60, 60]),
        (RetryPolicy(9, 1), [0.001, 0.002]),
    ],
)
def test_delays_double_up_to_a_minute_and_are_spread(policy: RetryPolicy, seconds: list[float]) -> None:
    for failures, expected in enumerate(seconds, 1):
        delays = [retry_delay(policy, failures) for _ in range(200)]
        assert expected * 0.9 <= min(delays) < expected < max(delays) <= expected * 1.1
    assert retry_delay(policy, 100) <= 66


# --- resume -------------------------------------------------------------------------------------------------------------


def diamond() -> Pipeline:
    """source -> left, right -> both"""
    read = "SELECT x FROM input"
    nodes = [sql_node("source", "SELECT 1 AS x"), sql_node("left", read), sql_node("right", read), sql_node("both", read)]
    return make_pipeline(nodes, [("source", "left"), ("source", "right"), ("left", "both"), ("right", "both")])


def changed(pipeline: Pipeline, node_id: str) -> None:
    """A second version, in which that node does something else."""
    first = pipeline.versions.get()
    nodes = [sql_node(node_id, "SELECT x + 1 AS x FROM input") if node["id"] == node_id else node for node in first.document["nodes"]]
    PipelineVersion.objects.create(pipeline=pipeline, number=2, document=first.document | {"nodes": nodes}, created_at=first.created_at)
    Pipeline.objects.filter(id=pipeline.id).update(version=2)


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        ({}, ["both"]),
        ({"from_node": "left"}, ["left", "both"]),
        ({"from_node": "source"}, ["source", "left", "right", "both"]),
        ({"from_node": "both"}, ["both"]),
        ({"version": "latest"}, ["right", "both"]),
        ({"version": "latest", "from_node": "left"}, ["left", "right", "both"]),
    ],
)
def test_what_a_resume_executes_again(resources: MakeResources, arguments: dict[str, Any], again: list[str]) -> None:  # noqa: F811
    pipeline = diamond()
    failed = execute(accept_run(pipeline), resources(Executed("both")))
    assert failed.status == "failed"
    changed(pipeline, "right")

    executed = Executed()
    resumed = execute(triggers.resume(failed.id, **arguments), resources(executed))

    assert (resumed.status, sorted(executed.nodes)) == ("success", sorted(again))
    assert resumed.version.number == (2 if "version" in arguments else 1)
    statuses = dict(NodeRun.objects.filter(run=resumed).values_list("node_id", "status"))
    assert statuses == {node_id: "success" if node_id in again else "skipped" for node_id in ("source", "left", "right", "both")}
    reused = {output.node_id: output.artifact for output in NodeOutput.objects.filter(run=failed)}
    for output in NodeOutput.objects.filter(run=resumed):
        assert (output.artifact == reused.get(output.node_id)) == (output.node_id not in again)


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("left", ["left", "both"]),
        ("source", ["both"]),  # nothing that runs again reads it
        ("source left", ["source", "left", "right", "both"]),
    ],
)
def test_a_missing_or_damaged_artifact_executes_its_node_again(
    resources: MakeResources,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
    again: list[str],
) -> None:
    failed = execute(accept_run(diamond()), resources(Executed("both")))
    gone = set(NodeOutput.objects.filter(run=failed, node_id__in=lost.split()).values_list("artifact", flat=True))
    executed = Executed()
    opened = resources(executed)
    monkeypatch.setattr(ArtifactStore, "verify", lambda self, key, byte_count=None: key not in gone)

    resumed = execute(triggers.resume(failed.id), opened)

    assert (resumed.status, sorted(executed.nodes)) == ("success", sorted(again))
    told = {entry.node_id for entry in LogEntry.objects.filter(run=resumed, message__contains="is gone or damaged; the node runs again")}
    assert told == set(lost.split()) & set(again)
