"""The database goes away for a moment, at each place where a worker uses it: every run still ends, once, and nothing is lost.

The worker is the real one, in this process, so that the fault can be put exactly where it hurts; nodes do nothing or what the
test says.
"""

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.db import DataError, OperationalError, connection

from brokoli_site.common.errors import NodeCancelled, NodeError
from pipelines.nodes.base import Parked, Stop
from runs import executor, queue, transitions, triggers
from runs.artifacts import ArtifactStore
from runs.control import Control, Outcome, Resources
from runs.engine import NodeResult, NodeTask, OutputFacts
from runs.executor import Execution
from runs.log import NodeLog
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.states import NodeStatus, RunStatus
from runs.tenure import Tenure
from runs.transitions import LeaseLost
from runs.worker import WorkerOptions, WorkerProcess
from tests.factories import accept_run, claim_one, make_pipeline, register_worker, sql_node
from tests.patience import within
from tests.programs import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

Behaviour = Callable[[NodeTask, NodeLog, Stop], object]


class Engine:
    """A data engine whose nodes do what the test says, and give what that returns, or output nothing but facts."""

    def __init__(self, behaviour: Behaviour = lambda task, log, stop: None) -> None:
        self.behaviour = behaviour

    @contextmanager
    def open_run(self, run_id: str, also_readable: object = ()) -> Iterator["Engine"]:
        yield self

    def execute(self, task: NodeTask, log: NodeLog, stop: Stop) -> object:
        result = self.behaviour(task, log, stop)
        if isinstance(result, NodeResult | Parked):
            return result
        return NodeResult(1, OutputFacts(task.artifact, 1, 12, [{"name": "x", "type": "INTEGER"}], {"rows": []}, {}))

    def close(self) -> None: ...


@pytest.fixture
def resources(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Resources]]:
    pools = []
    monkeypatch.setattr(ArtifactStore, "verify", lambda self, key, byte_count=None: True)

    def make(behaviour: Behaviour = lambda task, log, stop: None, node_concurrency: int = 4) -> Resources:
        pools.append(ThreadPoolExecutor(8))
        return Resources(Engine(behaviour), ArtifactStore(settings.ARTIFACTS), pools[-1], node_concurrency)  # type: ignore[arg-type]

    yield make
    for pool in pools:
        pool.shutdown(cancel_futures=True)


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, after: bool = False) -> threading.Event:
    """The first call of `owner.NAME` raises as a database that is away does: before it acts, or (`after`) when it has acted."""
    original, failed = getattr(owner, name), threading.Event()

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if failed.is_set():
            return original(*args, **kwargs)
        if after:
            original(*args, **kwargs)
        failed.set()
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(owner, name, flaky)
    return failed


class TidyWorker(WorkerProcess):
    """A run's thread keeps its connection as long as the process lives; here the process lives on."""

    def _execute(self, *arguments: Any) -> None:
        try:
            super()._execute(*arguments)
        finally:
            connection.close()


def work_until_empty(opened: Resources, lease_seconds: int = 15) -> None:
    """Run a worker in a thread until no run is active. Errors: `AssertionError` when one stays active."""
    worker = TidyWorker(WorkerOptions(2, lease_seconds, 3, 1, until_empty=True), lambda: opened)
    ended = threading.Event()

    def run() -> None:
        try:
            worker.run()
        finally:
            connection.close()
            ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(ended.is_set, 20, f"the worker to end; active: {list(Run.objects.active().values())}")
    finally:
        worker.stop()
        thread.join(within(20))


def ends_of(run: Run) -> int:
    return LogEntry.objects.filter(run=run, kind__in=["run.completed", "run.failed", "run.cancelled"]).count()


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (queue, "claim", False),
        (queue, "claim", True),  # the answer of the commit was lost: a lease that the worker does not know of
        (Execution, "_load", False),
        (Execution, "_advance", False),
        (queue, "finish", False),
        (queue, "finish", True),
        (queue, "heartbeat", False),
    ],
)
def test_a_moment_without_database(
    monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources], owner: object, name: str, after: bool
) -> None:
    run = accept_run()
    failed = fail_once(monkeypatch, owner, name, after=after)

    work_until_empty(resources())

    run.refresh_from_db()
    assert failed.is_set()
    assert (run.status, run.error, ends_of(run)) == ("success", "", 1)
    assert NodeOutput.objects.filter(run=run).count() == 2
    assert set(run.node_runs.values_list("status", flat=True)) <= {"success", "failed"}


def test_an_end_that_the_database_refuses_is_written_in_plain_words(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    original, refused = queue.finish, []

    def refuse(lease: Any, status: RunStatus, error: str = "") -> None:
        if status == RunStatus.SUCCESS:
            refused.append(lease)
            raise DataError("value too long")
        original(lease, status, error)

    monkeypatch.setattr(queue, "finish", refuse)
    run = accept_run()

    work_until_empty(resources())

    run.refresh_from_db()
    assert (run.status, len(refused), ends_of(run)) == ("failed", 1, 1)
    assert run.error == "The database refused to store how the run ended (DataError); the worker's log says why."


def test_a_lone_worker_that_gave_its_run_up_takes_it_again(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    """It could not beat for a lease and dropped the run; no other worker is there to take it from one that lives."""
    dropped = threading.Event()

    def wait_to_be_dropped(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        if not dropped.is_set():
            assert stop.wait(within(15))
            dropped.set()

    original = queue.heartbeat

    def silent(worker_id: str, *, draining: bool = False) -> bool:
        if not dropped.is_set():
            raise OperationalError("server closed the connection unexpectedly")
        return original(worker_id, draining=draining)

    monkeypatch.setattr(queue, "heartbeat", silent)
    run = accept_run()

    work_until_empty(resources(wait_to_be_dropped), math.ceil(within(1)))

    run.refresh_from_db()
    assert (run.status, run.deaths, ends_of(run)) == ("success", 0, 1)
    assert NodeRun.objects.filter(run=run, lost=True).exists()


def test_the_state_is_read_anew_before_a_step_is_tried_again(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    """The step fails when all is written, and so does the first look at what became of it: nothing may be taken from memory."""
    run = accept_run()
    lease = claim_one(register_worker())
    fail_once(monkeypatch, Execution, "_recover")
    original, steps = Execution._advance, []

    def fails_at_its_end(self: Execution, ended: list[Any], current: Run) -> None:
        original(self, ended, current)
        steps.append(ended)
        if len(steps) == 2:
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(Execution, "_advance", fails_at_its_end)

    outcome = Execution(lease, resources(), Control()).run()

    assert outcome == Outcome(RunStatus.SUCCESS)
    assert list(run.node_runs.values_list("status", flat=True)) == ["success", "success"]
    assert NodeOutput.objects.filter(run=run).count() == 2


def test_the_line_about_dropped_lines_survives(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    run = accept_run(make_pipeline([sql_node("only", "SELECT 1 AS x")], []))
    lease = claim_one(register_worker())
    monkeypatch.setattr("runs.log.MAX_LINES", 3)
    original = transitions.complete_node
    failed = fail_once(monkeypatch, transitions, "complete_node")
    assert original is not transitions.complete_node

    def talk(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        for number in range(5):
            log.info(f"line {number}")

    Execution(lease, resources(talk), Control()).run()

    assert failed.is_set()
    messages = LogEntry.objects.filter(run=run, kind="log").order_by("seq").values_list("message", flat=True)
    assert [message.split(":")[0] for message in messages] == ["line 0", "line 1", "line 2", "dropped 2 log lines"]


class TestResume:
    def resumed(self) -> Run:
        """A pending resume of a run whose first node succeeded."""
        run = accept_run()
        lease = claim_one(register_worker())
        first = NodeRun.objects.get(run=run, node_id="first")
        with transitions.fenced(lease):
            transitions.start_node(first)
            output = NodeOutput(run=run, node_id="first", artifact=f"{run.id}/0.1.parquet", row_count=1, byte_count=12)
            output.schema, output.preview, output.profile, output.created_at = [{"name": "x", "type": "INTEGER"}], {}, {}, run.created_at
            transitions.complete_node(first, 1, output)
        queue.finish(lease, RunStatus.FAILED, "broken")
        return triggers.resume(run.id)

    def statuses(self, run: Run) -> dict[str, str]:
        return dict(run.node_runs.order_by("attempt").values_list("node_id", "status"))

    def test_a_first_claim_that_died_before_it_took_anything_over(self, resources: Callable[..., Resources]) -> None:
        run, dead = self.resumed(), register_worker()
        claim_one(dead)
        queue.give_up(dead.id, beat=dead.beat, reason="it died", died=True, max_deaths=3)

        Execution(claim_one(register_worker()), resources(), Control()).run()

        assert self.statuses(run) == {"first": "skipped", "second": "success"}

    def test_a_commit_in_doubt_is_not_done_twice(self, monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
        run = self.resumed()
        original, failed = transitions.fenced, threading.Event()

        @contextmanager
        def doubtful(lease: transitions.Lease) -> Iterator[Run]:
            with original(lease) as current:
                yield current
            if not failed.is_set():
                failed.set()
                raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(transitions, "fenced", doubtful)

        outcome = Execution(claim_one(register_worker()), resources(), Control()).run()

        assert outcome == Outcome(RunStatus.SUCCESS)
        assert self.statuses(run) == {"first": "skipped", "second": "success"}


def test_a_node_that_exits_the_interpreter_ends_as_failed(resources: Callable[..., Resources]) -> None:
    def leave(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        raise SystemExit(3)

    run = accept_run()

    outcome = Execution(claim_one(register_worker()), resources(leave), Control()).run()

    assert outcome.status == RunStatus.FAILED
    assert "SystemExit" in outcome.reason
    assert run.node_runs.get(node_id="first").status == NodeStatus.FAILED


def test_a_retry_that_waits_for_a_place_does_not_spin(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    looks = 0
    original = Execution._listen

    def counted(self: Execution, *args: Any) -> Any:
        nonlocal looks
        looks += 1
        return original(self, *args)

    monkeypatch.setattr(Execution, "_listen", counted)
    tries: list[NodeTask] = []

    def behave(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        if task.node.id == "flaky" and not tries:
            tries.append(task)
            error = NodeError("not yet")
            error.retryable = True
            raise error
        if task.node.id == "slow":
            stop.wait(0.5)

    nodes = [sql_node("flaky", "SELECT 1 AS x", max_retries=1, retry_delay=50), sql_node("slow", "SELECT 1 AS x")]
    accept_run(make_pipeline(nodes, []))

    outcome = Execution(claim_one(register_worker()), resources(behave, node_concurrency=1), Control()).run()

    assert outcome == Outcome(RunStatus.SUCCESS)
    assert looks < 20


def test_a_drain_between_two_looks_at_a_waiting_retry(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    """The retry waits, the walk goes to listen, and at this moment the worker is told to stop: the run goes back."""
    control = Control()
    original = Execution._listen

    def drained(self: Execution, *args: Any) -> Any:
        if not self._executing:
            control.tell(control.draining)
        return original(self, *args)

    monkeypatch.setattr(Execution, "_listen", drained)

    def fail(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        error = NodeError("not yet")
        error.retryable = True
        raise error

    accept_run(make_pipeline([sql_node("flaky", "SELECT 1 AS x", max_retries=1, retry_delay=10_000)], []))

    outcome = Execution(claim_one(register_worker()), resources(fail), control).run()

    assert outcome.status == RunStatus.PENDING


def test_a_lease_lost_at_a_nodes_end_waits_for_nobody(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    accept_run(make_pipeline([sql_node("only", "SELECT 1 AS x")], []))
    worker = register_worker()
    lease = claim_one(worker)
    monkeypatch.setattr(executor, "_ABANDON_SECONDS", 3600.0)

    def lose(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        try:
            queue.give_up(worker.id, beat=worker.beat, reason="it was silent", died=True, max_deaths=3)
        finally:
            connection.close()

    with pytest.raises(LeaseLost):
        Execution(lease, resources(lose), Control()).run()


def test_a_frozen_worker_refuses_at_its_first_step(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    """It wakes when its lease has run out by its own clock, and no thread has said so yet; nobody has taken the run either."""
    held, refused = [True], []
    monkeypatch.setattr(executor, "_ABANDON_SECONDS", 3600.0)  # a node that refused by itself is waited for by nobody

    def freeze(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        held[0] = False
        try:
            stop.check()
        except NodeCancelled:
            refused.append(task.node.id)
            raise

    run = accept_run()
    lease = claim_one(register_worker())

    with pytest.raises(LeaseLost):
        Execution(lease, resources(freeze), Control(lambda: held[0])).run()

    assert refused == ["first"]
    assert list(run.node_runs.values_list("node_id", "status")) == [("first", "running"), ("second", "pending")]


@pytest.mark.parametrize("looks", range(6))
def test_a_lease_that_runs_out_between_two_looks_is_no_outcome(resources: Callable[..., Resources], looks: int) -> None:
    """Nothing was started because the lease ran out; that is not the same as nothing being left to start."""
    looked = itertools.count()
    run = accept_run()

    with pytest.raises(LeaseLost):
        Execution(claim_one(register_worker()), resources(), Control(lambda: next(looked) < looks)).run()

    run.refresh_from_db()
    assert run.status == "running"


def test_a_worker_whose_lease_ran_out_unseen_takes_its_runs_anew(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    """The next beat succeeds, but what was refused must not go on as if nothing had been: the run is claimed again."""
    original, late = Tenure.renew, threading.Event()

    def freeze_once(self: Tenure, beaten: float) -> bool:
        if executing.is_set() and not late.is_set():
            late.set()
            self.beaten -= self.lease_seconds
        return original(self, beaten)

    executing = threading.Event()

    def work(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        executing.set()
        assert late.wait(within(10))
        if not Run.objects.filter(epoch__gt=1).exists():
            assert stop.wait(within(10)), "nobody stopped it"
        connection.close()

    monkeypatch.setattr(Tenure, "renew", freeze_once)
    run = accept_run()

    work_until_empty(resources(work), math.ceil(within(1)))

    run.refresh_from_db()
    assert (run.status, run.epoch, run.deaths, ends_of(run)) == ("success", 2, 0, 1)


def test_a_node_that_heeds_no_stop_does_not_outlive_the_grace(monkeypatch: pytest.MonkeyPatch, resources: Callable[..., Resources]) -> None:
    """One signal is enough: when the grace is over and the stop was not heeded, the lease goes back and the process ends."""
    free, exits = threading.Event(), []

    def leave(code: int) -> None:
        exits.append((code, Run.objects.get().status))
        free.set()  # in this test the process lives on
        raise SystemExit(code)

    monkeypatch.setattr("runs.worker._STUBBORN_SECONDS", 0.1)
    monkeypatch.setattr("runs.worker.os._exit", leave)
    run = accept_run()
    worker = TidyWorker(WorkerOptions(1, 15, 3, 0), lambda: resources(lambda task, log, stop: assert_set(free)))

    def work() -> None:
        with contextlib.suppress(SystemExit):
            worker.run()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: run.node_runs.filter(status=NodeStatus.RUNNING).exists(), what="the node to start")
        worker.stop()
        thread.join(within(20))
    finally:
        free.set()
        thread.join(within(20))

    assert exits == [(1, "pending")]


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)


def test_what_a_node_logs_in_its_thread_names_run_and_node(resources: Callable[..., Resources]) -> None:
    found: list[dict[str, Any]] = []

    def look(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        found.append(structlog.contextvars.get_contextvars())

    run = accept_run()

    work_until_empty(resources(look))

    assert sorted(found, key=lambda names: str(names["node_id"])) == [
        {"run_id": str(run.id), "node_id": node_id, "attempt": 1} for node_id in ("first", "second")
    ]
