"""Runs that wait: they leave their worker, come back in time, and tell it once. By the real executor and queue; nodes do what the test says."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines import definitions
from pipelines.models import Pipeline
from pipelines.nodes.base import OtherPipeline, Parked, RunFacts, Stop
from pipelines.spec import NodeSpec
from runs import other_pipelines, queue, triggers
from runs.artifacts import ArtifactStore
from runs.control import Control, Outcome, Resources
from runs.engine import NodeTask
from runs.executor import Execution
from runs.log import NodeLog
from runs.models import LogEntry, NodeRun, PoolTicket, Run, Worker
from runs.states import RunStatus
from runs.transitions import Lease
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker, save_pipeline, sql_node
from tests.history import many_runs, past_pipeline, past_run
from tests.plans import analyse, only_indexed, plan
from tests.programs import wait_for
from tests.races.test_database_away import resources  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)

MakeResources = Callable[..., Resources]


def wait_node(node_id: str = "wait", **settings: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "wait", "name": node_id.title(), "config": {"condition": "file_exists", "path": "x", **settings}}


def waiting_pipeline(*more: dict[str, Any], edges: str = "", **keys: Any) -> Pipeline:
    pairs = [pair.split(">") for pair in ["wait>after", *edges.split()]]
    found = [{"from": before, "to": after} for before, after in pairs]
    nodes = [wait_node(), sql_node("after", "SELECT 1 AS x FROM input"), *more]
    return definitions.create({"name": "Waiting", "nodes": nodes, "edges": found, **keys}).pipeline


class Looks:
    """What a `wait` finds at each look: seconds, or a reason, or None for "it is there"; the last one stays."""

    def __init__(self, *found: object) -> None:
        self.found, self.waited, self.executed = list(found), list[float](), list[str]()

    def __call__(self, task: NodeTask, log: NodeLog, stop: Stop) -> object:
        self.executed.append(task.node.id)
        if task.node.type != "wait":
            return None
        self.waited.append(task.waited_seconds)
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if found is None:
            return None
        return Parked(30.0 if isinstance(found, str) else float(str(found)), found if isinstance(found, str) else "the file")


def step(lease: Lease, opened: Resources, control: Control | None = None) -> Outcome:
    """Execute one claim, and end it as a worker does."""
    outcome = Execution(lease, opened, control or Control()).run()
    if outcome.parked_seconds is not None:
        queue.park(lease, outcome.parked_seconds, announced=outcome.announced)
    elif outcome.status == RunStatus.PENDING:
        queue.release(lease, outcome.reason)
    else:
        queue.finish(lease, outcome.status, outcome.reason)
    return outcome


def time_passes(run: Run, seconds: float = 3600.0) -> None:
    """All that is stored about the run's waits happened so much earlier."""
    earlier = dt.timedelta(seconds=seconds)
    run.refresh_from_db()
    assert run.not_before is not None
    Run.objects.filter(id=run.id).update(not_before=run.not_before - earlier)
    for node_run in NodeRun.objects.filter(run=run, parked_until__isnull=False):
        assert node_run.parked_until is not None
        assert node_run.started_at is not None
        NodeRun.objects.filter(id=node_run.id).update(parked_until=node_run.parked_until - earlier, started_at=node_run.started_at - earlier)


def kinds(run: Run, after: int = 0) -> list[str]:
    return list(LogEntry.objects.filter(run=run).order_by("seq").values_list("kind", flat=True))[after:]


def test_a_run_that_waits_leaves_its_worker_and_says_so_once(resources: MakeResources) -> None:  # noqa: F811
    looks, worker = Looks(30, 30, 30, None), register_worker()
    run, opened = accept_run(waiting_pipeline()), resources(looks)

    step(claim_one(worker), opened)

    run.refresh_from_db()
    assert (run.status, run.owner, run.deaths) == ("pending", "", 0)
    assert run.not_before is not None
    assert 20 < (run.not_before - timezone.now()).total_seconds() <= 30
    node_run = NodeRun.objects.get(run=run, node_id="wait")
    assert (node_run.status, node_run.attempt, node_run.waiting_for) == ("pending", 1, "the file")
    told = ["run.created", "run.started", "node.started", "node.waiting", "run.waiting"]
    assert kinds(run) == told
    assert LogEntry.objects.get(run=run, kind="node.waiting").message == "Waiting for the file"
    assert queue.claim(worker.id, 1) == [], "it was claimed before its time"

    for _ in range(2):
        time_passes(run)
        step(claim_one(worker), opened)
        assert kinds(run) == told, "a look that found nothing left a trace"
    time_passes(run)
    started_at = NodeRun.objects.get(run=run, node_id="wait").started_at
    step(claim_one(worker), opened)

    run.refresh_from_db()
    assert (run.status, run.epoch, run.deaths) == ("success", 4, 0)
    assert kinds(run, after=5) == ["run.started", "node.completed", "node.started", "node.completed", "run.completed"]
    again = LogEntry.objects.filter(run=run, kind="run.started").last()
    assert again is not None
    assert again.message == "Run started again (claim 4)"
    assert NodeRun.objects.filter(run=run).count() == 2
    assert NodeRun.objects.get(run=run, node_id="wait").started_at == started_at
    assert [round(waited / 3600) for waited in looks.waited] == [0, 1, 2, 3]


def test_another_reason_is_told(resources: MakeResources) -> None:  # noqa: F811
    looks, worker = Looks("a", "a", "b"), register_worker()
    run, opened = accept_run(waiting_pipeline()), resources(looks)
    step(claim_one(worker), opened)
    for _ in range(3):
        time_passes(run)
        step(claim_one(worker), opened)

    messages = LogEntry.objects.filter(run=run, kind="node.waiting").order_by("seq").values_list("message", flat=True)
    assert list(messages) == ["Waiting for a", "Waiting for b"]
    assert kinds(run, after=5) == ["node.waiting"]


def test_other_branches_go_on_while_one_waits(resources: MakeResources) -> None:  # noqa: F811
    more = [sql_node("one", "SELECT 1 AS x"), sql_node("two", "SELECT x FROM input")]
    looks = Looks(30)
    run = accept_run(waiting_pipeline(*more, edges="one>two"))

    step(claim_one(register_worker()), resources(looks, node_concurrency=1))

    statuses = dict(NodeRun.objects.filter(run=run).values_list("node_id", "status"))
    assert statuses == {"wait": "pending", "after": "pending", "one": "success", "two": "success"}
    assert looks.executed.count("wait") == 1


def test_a_short_wait_does_not_leave(resources: MakeResources) -> None:  # noqa: F811
    run = accept_run(waiting_pipeline())
    outcome = step(claim_one(register_worker()), resources(Looks(0.01, None)))

    assert outcome.status == RunStatus.SUCCESS
    assert "run.waiting" not in kinds(run)


def test_the_slot_of_a_pool_is_given_back(resources: MakeResources) -> None:  # noqa: F811
    run = accept_run(definitions.create({"name": "Pooled", "nodes": [wait_node(pool="narrow")], "edges": []}).pipeline)
    worker, opened = register_worker(), resources(Looks(30))
    for _ in range(2):
        step(claim_one(worker), opened)
        assert not PoolTicket.objects.exists()
        time_passes(run)


def test_the_slot_is_free_while_another_branch_goes_on(resources: MakeResources) -> None:  # noqa: F811
    nodes = [wait_node(pool="narrow"), sql_node("other", "SELECT 1 AS x")]
    accept_run(definitions.create({"name": "Pooled", "nodes": nodes, "edges": []}).pipeline)
    looks, freed = Looks(30), []

    def watch(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        if task.node.id == "other":
            wait_for(lambda: looks.waited and not PoolTicket.objects.exists(), 10, "the slot to be free")
            connection.close()
            freed.append(True)
        return looks(task, log, stop)

    step(claim_one(register_worker()), resources(watch))
    assert freed


def test_a_parked_run_takes_no_place_of_its_pipeline(resources: MakeResources) -> None:  # noqa: F811
    pipeline, worker, opened = waiting_pipeline(max_active_runs=1), register_worker(), resources(Looks(30))
    parked, second = accept_run(pipeline), accept_run(pipeline)
    (lease,) = queue.claim(worker.id, 2)
    step(lease, opened)

    (lease,) = queue.claim(worker.id, 2)
    assert lease.run_id == second.id
    time_passes(parked)
    assert queue.claim(worker.id, 2) == [], "two runs of it would execute"
    step(lease, opened)
    assert [lease.run_id for lease in queue.claim(worker.id, 2)] == [parked.id]


def test_a_cancel_ends_a_parked_run_at_once(resources: MakeResources) -> None:  # noqa: F811
    run, worker = accept_run(waiting_pipeline()), register_worker()
    step(claim_one(worker), resources(Looks(30)))

    cancelled = triggers.cancel(run.id)

    assert (cancelled.status, cancelled.owner) == ("cancelled", "")
    assert set(NodeRun.objects.filter(run=run).values_list("status", "error")) == {("cancelled", "the run was cancelled")}
    time_passes(run)
    assert queue.claim(worker.id, 1) == []


def test_the_timeout_of_the_run_counts_while_it_is_parked(resources: MakeResources) -> None:  # noqa: F811
    run, worker, opened = accept_run(waiting_pipeline(timeout=60)), register_worker(), resources(Looks(3000))
    step(claim_one(worker), opened)
    run.refresh_from_db()
    assert run.not_before is not None
    assert (run.not_before - timezone.now()).total_seconds() <= 60, "it comes back in time to fail"
    time_passes(run)
    assert run.started_at is not None
    Run.objects.filter(id=run.id).update(started_at=run.started_at - dt.timedelta(seconds=61))

    step(claim_one(worker), opened)

    run.refresh_from_db()
    assert (run.status, run.error) == ("failed", "The run took longer than its timeout of 1m00s and was stopped.")


def test_a_worker_that_dies_in_a_look_costs_no_attempt(resources: MakeResources) -> None:  # noqa: F811
    run, worker, opened = accept_run(waiting_pipeline()), register_worker(), resources(Looks(30))
    step(claim_one(worker), opened)
    time_passes(run)
    control = Control()

    def die(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        control.tell(control.lost)
        stop.wait(10)
        stop.check()
        return None

    with pytest.raises(Exception, match="given to another worker"):
        Execution(claim_one(worker), resources(die), control).run()
    queue.give_up(worker.id, beat=worker.beat, reason="it died", died=True, max_deaths=3)
    assert "node.failed" not in kinds(run)

    looks = Looks(None)
    step(claim_one(register_worker()), resources(looks))

    run.refresh_from_db()
    assert (run.status, run.deaths) == ("success", 1)
    assert set(NodeRun.objects.filter(run=run).values_list("attempt", flat=True)) == {1}
    assert round(looks.waited[0] / 3600) == 1, "the time that it waited was forgotten"


def test_a_first_look_that_is_lost_is_made_again(resources: MakeResources) -> None:  # noqa: F811
    worker, control = register_worker(), Control()
    run = accept_run(waiting_pipeline())

    def drained(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        control.tell(control.draining, control.halted)
        stop.wait(10)
        stop.check()
        return None

    outcome = step(claim_one(worker), resources(drained), control)
    assert (outcome.status, outcome.parked_seconds) == (RunStatus.PENDING, None)
    step(claim_one(worker), resources(Looks(30)))
    assert kinds(run)[-2:] == ["node.waiting", "run.waiting"]


def test_a_worker_that_drains_gives_a_waiting_run_back(resources: MakeResources) -> None:  # noqa: F811
    control, worker = Control(), register_worker()
    run = accept_run(waiting_pipeline(sql_node("other", "SELECT 1 AS x")))
    looks = Looks(30)

    def drain(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        if task.node.id == "other":
            control.tell(control.draining)
        return looks(task, log, stop)

    step(claim_one(worker), resources(drain), control)
    run.refresh_from_db()
    assert (run.status, run.deaths) == ("pending", 0)
    Run.objects.filter(id=run.id).update(not_before=None)
    step(claim_one(worker), resources(looks))
    run.refresh_from_db()
    assert (run.status, looks.executed.count("other")) == ("pending", 1)


def test_a_clock_that_was_set_back_forgets_nobody(resources: MakeResources) -> None:  # noqa: F811
    run, worker = accept_run(waiting_pipeline()), register_worker()
    step(claim_one(worker), resources(Looks(3000)))
    run.refresh_from_db()
    assert run.not_before is not None
    assert (run.not_before - timezone.now()).total_seconds() <= 300, "longer than the longest time away"

    time_passes(run, -3600)

    looks = Looks(3000)
    step(claim_one(worker), resources(looks))
    assert looks.executed == ["wait"], "rather early than an hour late"


def test_a_restart_of_everything_loses_no_parked_run(resources: MakeResources) -> None:  # noqa: F811
    run, worker = accept_run(waiting_pipeline()), register_worker()
    step(claim_one(worker), resources(Looks(30)))
    queue.unregister(worker.id)
    Worker.objects.all().delete()
    time_passes(run)

    step(claim_one(register_worker()), resources(Looks(None)))

    run.refresh_from_db()
    assert (run.status, run.deaths) == ("success", 0)


def test_a_resumed_run_does_not_wait_again(resources: MakeResources) -> None:  # noqa: F811
    worker = register_worker()
    run = accept_run(waiting_pipeline())

    def fail(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        if task.node.id == "after":
            raise NodeError("no luck")
        return None

    step(claim_one(worker), resources(fail))
    run.refresh_from_db()
    assert run.status == "failed"
    looks = Looks(30)
    triggers.resume(run.id)
    step(claim_one(worker), resources(looks))
    assert looks.executed == ["after"]


# --- the queue --------------------------------------------------------------------------------------------------------------


def test_parked_runs_are_stepped_over_in_the_index() -> None:
    pipeline = past_pipeline()
    version = pipeline.versions.get()
    many_runs(pipeline, 3_000)  # of a table that holds nothing else PostgreSQL rightly reads all
    later = timezone.now() + dt.timedelta(minutes=4)
    Run.objects.bulk_create((past_run(pipeline, RunStatus.PENDING, version=version, not_before=later) for _ in range(500)), batch_size=500)
    last, worker = accept_run(make_pipeline(name="Free")), register_worker()
    analyse()
    with only_indexed("runs_run"):
        assert list(Run.objects.ready().values_list("id", flat=True)[:5]) == [last.id]
    assert [lease.run_id for lease in queue.claim(worker.id, 4)] == [last.id]


def test_what_does_not_wait_costs_no_query_more(resources: MakeResources) -> None:  # noqa: F811
    accept_run(make_pipeline())
    lease = claim_one(register_worker())
    with CaptureQueriesContext(connection) as queries:
        step(lease, resources())
    asked = [query["sql"] for query in queries.captured_queries if query["sql"].startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))]
    # Load: the run, its definition, its nodes. Start the first; end it and start the second; end that; end the run: each reads the lease,
    # changes rows and logs; an end registers an output, the run's own looks for pipelines that follow.
    assert len(asked) == 3 + 3 + 5 + 4 + 4, "\n".join(asked)


# --- other pipelines --------------------------------------------------------------------------------------------------------


def test_what_a_node_gets_to_know_of_another_pipeline() -> None:
    date = dt.date(2024, 5, 6)
    end = dt.datetime(2024, 5, 7, tzinfo=dt.UTC)
    facts = RunFacts("run", "p", "P", {"which": "orders"}, logical_date=date, interval_end=end)

    def seen(name: str) -> dict[str, OtherPipeline]:
        return other_pipelines.seen_by(NodeSpec("w", "wait", "W", {"condition": "pipeline", "pipeline_id": name}), facts)

    assert seen("orders") == seen("a\0b") == {}
    orders = save_pipeline("Orders")
    assert seen("orders") == {"orders": OtherPipeline("Orders")}
    end_run(accept_run(orders, logical_date=date), RunStatus.SUCCESS)
    end_run(accept_run(orders, interval_end=end), RunStatus.FAILED, "no luck")
    accept_run(orders)
    expected = OtherPipeline("Orders", latest="pending", of_date="success", of_interval="failed")
    assert seen("orders") == {"orders": expected}
    assert seen(str(orders.id)) == {str(orders.id): expected}
    assert seen("${param.which}") == {"orders": expected}
    assert seen("${param.nope}") == {}
    Pipeline.objects.filter(id=orders.id).update(deleted_at=timezone.now())
    assert seen("orders") == {}


def test_a_run_of_a_date_or_an_interval_is_found_in_an_index() -> None:
    """Also where there is none yet: each look would read the whole history."""
    pipeline = past_pipeline()
    end = dt.datetime(2024, 5, 7, tzinfo=dt.UTC)
    many_runs(pipeline, 1_000, interval_end=end)
    facts = RunFacts("run", "p", "P", {}, logical_date=end.date(), interval_end=end + dt.timedelta(days=1))
    analyse()
    with only_indexed("runs_run") as queries:
        found = other_pipelines.seen_by(NodeSpec("w", "wait", "W", {"condition": "pipeline", "pipeline_id": "orders"}), facts)
    assert found["orders"].of_interval == ""
    asked = [query["sql"] for query in queries.captured_queries]
    for column, index in (("interval_end", "run_interval"), ("logical_date", "run_logical_date")):
        (sql,) = (one for one in asked if f'"{column}" =' in one)
        assert index in plan(sql)


def test_nodes_that_name_no_pipeline_cost_no_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert other_pipelines.seen_by(NodeSpec("s", "sql", "S", {"query": "SELECT 1", "pipeline_id": "orders"}), RunFacts("r", "p", "P", {})) == {}


# --- what is looked at again -------------------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back_by_an_hour_delays_no_look_by_an_hour(resources: MakeResources) -> None:  # noqa: F811
    run, worker, looks = accept_run(waiting_pipeline()), register_worker(), Looks(30)
    step(claim_one(worker), resources(looks))

    time_passes(run, -3600)
    step(claim_one(worker), resources(looks))

    assert looks.executed == ["wait", "wait"]
    run.refresh_from_db()
    assert run.not_before is not None
    assert (run.not_before - timezone.now()).total_seconds() <= 30


def test_a_resumed_run_that_waits_tells_once_what_it_cannot_reuse(resources: MakeResources, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def fail(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        if task.node.id == "after":
            raise NodeError("no luck")
        return None

    worker = register_worker()
    run = accept_run(waiting_pipeline())
    step(claim_one(worker), resources(fail))
    resumed = triggers.resume(run.id)
    monkeypatch.setattr(ArtifactStore, "verify", lambda self, key, byte_count=None: False)

    for _ in range(3):
        step(claim_one(worker), resources(Looks(30)))
        time_passes(resumed)

    told = LogEntry.objects.filter(run=resumed, message__contains="gone or damaged")
    assert told.count() == 1


def test_a_look_that_is_due_but_lacks_its_input_waits_for_it(resources: MakeResources, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The input's file is lost while the run is parked, and making it anew takes a retry: nothing to do until then, so nothing is done."""
    source = sql_node("source", "SELECT 1 AS x", max_retries=2, retry_delay=1500)
    pipeline = definitions.create({"name": "Waiting", "nodes": [source, wait_node()], "edges": [{"from": "source", "to": "wait"}]}).pipeline
    run, worker, looks = accept_run(pipeline), register_worker(), Looks(30, None)
    step(claim_one(worker), resources(looks))
    time_passes(run)
    monkeypatch.setattr(ArtifactStore, "verify", lambda self, key, byte_count=None: False)
    failed: list[bool] = []
    rounds: list[float | None] = []
    listen = Execution._listen

    def fail_once(task: NodeTask, log: NodeLog, stop: Stop) -> object:
        if task.node.id == "source" and not failed:
            failed.append(True)
            raise TransientNodeError("not now")
        return looks(task, log, stop)

    def counted(self: Execution, due: float | None) -> object:
        rounds.append(due)
        return listen(self, due)

    monkeypatch.setattr(Execution, "_listen", counted)
    step(claim_one(worker), resources(fail_once))

    run.refresh_from_db()
    assert (run.status, failed) == ("success", [True])
    assert len(rounds) < 50, "it looped"


def test_a_commit_in_doubt_tells_once_that_a_run_goes_on(resources: MakeResources, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    run, worker, opened = accept_run(waiting_pipeline()), register_worker(), resources(Looks(30, None))
    step(claim_one(worker), opened)
    time_passes(run)
    lost: list[bool] = []
    note = Execution._note_announced

    def answer_lost(self: Execution) -> None:
        """After the commit: it stands, and its worker cannot know."""
        if not lost:
            lost.append(True)
            raise OperationalError("server closed the connection unexpectedly")
        note(self)

    monkeypatch.setattr(Execution, "_note_announced", answer_lost)
    step(claim_one(worker), opened)

    assert lost
    assert kinds(run, after=5) == ["run.started", "node.completed", "node.started", "node.completed", "run.completed"]
