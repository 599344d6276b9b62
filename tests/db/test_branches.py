"""Branches by the real executor: what is skipped, what the others get, and what stands when a run is claimed again or resumed."""

from collections.abc import Callable
from typing import Any

import pytest

from brokoli_site.common.errors import NodeError
from pipelines import definitions
from pipelines.models import Pipeline, PipelineVersion
from pipelines.nodes.base import Stop
from runs import queue, transitions, triggers
from runs.artifacts import ArtifactStore
from runs.control import Control, Resources
from runs.engine import NodeResult, NodeTask
from runs.executor import Execution
from runs.log import NodeLog
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from tests.factories import accept_run, register_worker, sql_node
from tests.races.test_database_away import resources  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)

MakeResources = Callable[..., Resources]


def gate(node_id: str) -> dict[str, Any]:
    return {"id": node_id, "type": "condition", "name": node_id.title(), "config": {"expression": "row_count > 0"}}


def join(node_id: str) -> dict[str, Any]:
    return {"id": node_id, "type": "join", "name": node_id.title(), "config": {"join_type": "cross"}}


def pipeline_of(nodes: list[dict[str, Any]], edges: str) -> Pipeline:
    """`edges`: `a>b a>c:true`"""
    found = []
    for text in edges.split():
        ends, _, condition = text.partition(":")
        before, _, after = ends.partition(">")
        found.append({"from": before, "to": after} | ({"condition": condition == "true"} if condition else {}))
    return definitions.create({"name": "Branches", "nodes": nodes, "edges": found}).pipeline


def forked(*more: dict[str, Any], edges: str = "") -> Pipeline:
    """source > gate > yes | no, and what is given"""
    read = "SELECT x FROM input"
    nodes = [sql_node("source", "SELECT 1 AS x"), gate("gate"), sql_node("yes", read), sql_node("no", read), *more]
    return pipeline_of(nodes, f"source>gate gate>yes:true gate>no:false {edges}")


class Deciding:
    """Conditions decide as given; nodes in `failing` fail. Notes what executed, and with which inputs."""

    def __init__(self, failing: str = "", **decisions: bool) -> None:
        self.inputs: dict[str, list[str]] = {}
        self.decisions, self.failing = decisions, failing.split()

    def __call__(self, task: NodeTask, log: NodeLog, stop: Stop) -> object:
        self.inputs[task.node.id] = [one.node_id for one in task.inputs]
        if task.node.id in self.failing:
            raise NodeError("no luck")
        if task.node.id in self.decisions:
            return NodeResult(1, reuses=task.inputs[0].node_id, branch=self.decisions[task.node.id])
        return None


def execute(run: Run, opened: Resources) -> Run:
    lease = transitions.start_run(run.id, register_worker().id)
    assert lease is not None
    outcome = Execution(lease, opened, Control()).run()
    queue.finish(lease, outcome.status, outcome.reason)
    run.refresh_from_db()
    return run


def statuses(run: Run) -> dict[str, str]:
    return {node_run.node_id: str(node_run.status) for node_run in NodeRun.objects.filter(run=run).last_attempts()}


@pytest.mark.parametrize(("decision", "taken", "other"), [(True, "yes", "no"), (False, "no", "yes")])
def test_the_branch_not_taken_is_skipped_and_says_why(resources: MakeResources, decision: bool, taken: str, other: str) -> None:  # noqa: F811
    after = sql_node("after", "SELECT x FROM input")
    done = Deciding(gate=decision)

    run = execute(accept_run(forked(after, edges=f"{other}>after")), resources(done))

    assert run.status == "success"
    assert statuses(run) == {"source": "success", "gate": "success", taken: "success", other: "skipped", "after": "skipped"}
    reason = f"condition 'Gate' is {str(decision).lower()}, and only its {str(not decision).lower()} branch leads here"
    for node_id in (other, "after"):
        assert NodeRun.objects.get(run=run, node_id=node_id).error == reason
        entry = LogEntry.objects.get(run=run, node_id=node_id)
        assert (entry.kind, entry.message) == ("node.skipped", f"Node skipped: {reason}")
        assert entry.data is not None
        assert (entry.data["condition"], entry.data["branch"]) == ("gate", decision)
        assert not NodeOutput.objects.filter(run=run, node_id=node_id).exists()
    assert NodeOutput.objects.get(run=run, node_id="gate").branch is decision
    assert done.inputs == {"source": [], "gate": ["source"], taken: ["gate"]}


def test_what_both_branches_feed_gets_the_one_that_is_there(resources: MakeResources) -> None:  # noqa: F811
    nodes = [{"id": "all", "type": "union", "name": "All", "config": {}}, join("both"), sql_node("last", "SELECT x FROM input")]
    done = Deciding(gate=False)

    run = execute(accept_run(forked(*nodes, edges="yes>all no>all yes>both no>both all>last")), resources(done))

    assert run.status == "success"
    assert (statuses(run)["all"], statuses(run)["last"], statuses(run)["both"]) == ("success", "success", "skipped")
    assert done.inputs["all"] == ["no"]
    reason = "condition 'Gate' is false, and of the 2 inputs that it needs 1 may come without its true branch"
    assert NodeRun.objects.get(run=run, node_id="both").error == reason


def test_a_condition_within_a_branch(resources: MakeResources) -> None:  # noqa: F811
    read = "SELECT x FROM input"
    nodes = [gate("inner"), sql_node("deep", read), sql_node("shallow", read)]
    pipeline = forked(*nodes, edges="yes>inner inner>deep:true inner>shallow:false")

    run = execute(accept_run(pipeline), resources(Deciding(gate=True, inner=False)))
    assert {node for node, status in statuses(run).items() if status == "skipped"} == {"no", "deep"}

    run = execute(accept_run(pipeline), resources(Deciding(gate=False, inner=False)))
    assert {node for node, status in statuses(run).items() if status == "skipped"} == {"yes", "inner", "deep", "shallow"}
    assert run.status == "success"


def test_a_condition_that_fails_takes_no_branch(resources: MakeResources) -> None:  # noqa: F811
    run = execute(accept_run(forked()), resources(Deciding(failing="gate")))

    assert (run.status, run.error) == ("failed", "Node 'Gate' failed: no luck")
    assert statuses(run) == {"source": "success", "gate": "failed", "yes": "skipped", "no": "skipped"}


def test_a_branch_ahead_of_a_source_says_whether_it_is_read(resources: MakeResources) -> None:  # noqa: F811
    nodes = [{"id": kind, "type": "source_file", "name": kind, "config": {"path": "x.csv"}} for kind in ("much", "little")]
    done = Deciding(gate=True)

    run = execute(accept_run(forked(*nodes, edges="gate>much:true gate>little:false")), resources(done))

    assert (run.status, statuses(run)["much"], statuses(run)["little"]) == ("success", "success", "skipped")
    assert done.inputs["much"] == []


# --- what stands ----------------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_with_what_was_decided(resources: MakeResources) -> None:  # noqa: F811
    all_of_it = {"id": "all", "type": "union", "name": "All", "config": {}}
    failed = execute(accept_run(forked(all_of_it, edges="yes>all no>all")), resources(Deciding(failing="all", gate=True)))
    assert (failed.status, statuses(failed)["no"]) == ("failed", "skipped")
    done = Deciding(gate=False)

    resumed = execute(triggers.resume(failed.id), resources(done))

    assert (resumed.status, done.inputs) == ("success", {"all": ["yes"]})
    assert NodeOutput.objects.get(run=resumed, node_id="gate").branch is True
    assert NodeRun.objects.get(run=resumed, node_id="no").error == "condition 'Gate' is true, and only its false branch leads here"


def test_a_condition_that_runs_again_decides_again(resources: MakeResources) -> None:  # noqa: F811
    failed = execute(accept_run(forked()), resources(Deciding(failing="yes", gate=True)))
    done = Deciding(gate=False)

    resumed = execute(triggers.resume(failed.id, from_node="gate"), resources(done))

    assert (resumed.status, statuses(resumed)) == ("success", {"source": "skipped", "gate": "success", "yes": "skipped", "no": "success"})
    assert done.inputs == {"gate": ["source"], "no": ["gate"]}


def test_an_edge_that_changed_its_branch_is_not_reused(resources: MakeResources) -> None:  # noqa: F811
    pipeline = forked(sql_node("bad", "SELECT 1 AS x"))
    failed = execute(accept_run(pipeline), resources(Deciding(failing="bad", gate=True)))
    first = pipeline.versions.get()
    edges = [edge | ({"condition": not edge["condition"]} if "condition" in edge else {}) for edge in first.document["edges"]]
    PipelineVersion.objects.create(pipeline=pipeline, number=2, document=first.document | {"edges": edges}, created_at=first.created_at)
    Pipeline.objects.filter(id=pipeline.id).update(version=2)

    resumed = execute(triggers.resume(failed.id, version="latest"), resources(Deciding()))

    assert statuses(resumed) == {"source": "skipped", "gate": "skipped", "yes": "skipped", "no": "success", "bad": "success"}
    assert not NodeOutput.objects.filter(run=resumed, node_id="yes").exists()


def test_a_resumed_run_that_has_only_to_skip_ends(resources: MakeResources) -> None:  # noqa: F811
    """The node that failed stands on the other branch by now."""
    pipeline = pipeline_of([sql_node("source", "SELECT 1 AS x"), gate("gate"), sql_node("bad", "SELECT x FROM input")], "source>gate gate>bad:true")
    failed = execute(accept_run(pipeline), resources(Deciding(failing="bad", gate=True)))
    first = pipeline.versions.get()
    edges = [edge | ({"condition": False} if "condition" in edge else {}) for edge in first.document["edges"]]
    PipelineVersion.objects.create(pipeline=pipeline, number=2, document=first.document | {"edges": edges}, created_at=first.created_at)
    Pipeline.objects.filter(id=pipeline.id).update(version=2)

    resumed = execute(triggers.resume(failed.id, version="latest"), resources(Deciding()))

    assert (resumed.status, set(statuses(resumed).values())) == ("success", {"skipped"})


def claimed_again(pipeline: Pipeline, resources: Callable[..., Resources], first: Deciding, second: Deciding) -> Run:  # noqa: F811
    """Executed until `last`, whose worker dies in it; then by another."""
    run = accept_run(pipeline)
    worker = register_worker()
    lease = transitions.start_run(run.id, worker.id)
    assert lease is not None
    control = Control()

    def dying(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        if task.node.id == "last":
            control.tell(control.lost)
            stop.wait(10)
            stop.check()
        return first(task, log, stop)

    with pytest.raises(transitions.LeaseLost):
        Execution(lease, resources(dying), control).run()
    queue.give_up(worker.id, beat=worker.beat, reason="it died", died=True, max_deaths=3)
    return execute(run, resources(second))


def to_the_last() -> Pipeline:
    nodes = [{"id": "all", "type": "union", "name": "All", "config": {}}, join("both"), sql_node("last", "SELECT x FROM input")]
    return forked(*nodes, edges="yes>all no>all all>last last>both no>both")


def test_a_run_claimed_again_keeps_its_branch_and_skips_nothing_twice(resources: MakeResources) -> None:  # noqa: F811
    second = Deciding()

    run = claimed_again(to_the_last(), resources, Deciding(gate=True), second)

    assert (run.status, second.inputs) == ("success", {"last": ["all"]})
    assert statuses(run) | {"no": "skipped", "both": "skipped"} == statuses(run)
    attempts = dict(NodeRun.objects.filter(run=run).order_by("attempt").values_list("node_id", "attempt"))
    assert {node_id for node_id, attempt in attempts.items() if attempt > 1} == {"last"}


def test_a_condition_whose_data_is_gone_may_take_the_other_branch(resources: MakeResources, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    first, second = Deciding(gate=True), Deciding(gate=False)
    opened: list[Resources] = []

    def make(behaviour: Any) -> Resources:
        if opened:  # the files of the first worker went with its machine
            gone = set(NodeOutput.objects.values_list("artifact", flat=True))
            monkeypatch.setattr(ArtifactStore, "verify", lambda self, key, byte_count=None: key not in gone)
        opened.append(resources(behaviour))
        return opened[-1]

    run = claimed_again(to_the_last(), make, first, second)

    assert run.status == "success"
    assert {node for node, status in statuses(run).items() if status == "skipped"} == {"yes"}
    assert second.inputs["all"] == ["no"]
    assert sorted(second.inputs["both"]) == ["last", "no"]
