"""Pools across runs: never more nodes than slots, whoever asks, ends, dies or gives up. By the real executor; nodes do what the test says."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from django.db import connection

from brokoli_site.common.errors import TransientNodeError
from pipelines.models import Pipeline, PipelineVersion
from pipelines.nodes.base import Stop
from runs import pools, queue, slots, transitions, triggers
from runs.control import Resources
from runs.engine import NodeTask
from runs.log import NodeLog
from runs.models import LogEntry, NodeRun, Pool, PoolTicket, Run
from runs.states import NodeStatus, RunStatus
from runs.transitions import Lease
from runs.worker import WorkerOptions
from tests.factories import accept_run, make_pipeline, register_worker, sql_node
from tests.patience import within
from tests.programs import wait_for
from tests.races.test_database_away import TidyWorker, ends_of, fail_once, resources, work_until_empty  # noqa: F401 - a fixture
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)

MakeResources = Callable[..., Resources]


def pooled(node_id: str, pool: str = "narrow", **settings: Any) -> dict[str, Any]:
    return sql_node(node_id, "SELECT 1 AS x", pool=pool, **settings)


def pooled_run(*node_ids: str, priority: int = 0, **settings: Any) -> Run:
    return accept_run(make_pipeline([pooled(node_id, **settings) for node_id in node_ids or ("first",)]), priority=priority)


@contextmanager
def working(*opened: Resources, concurrency: int = 4) -> Iterator[list[TidyWorker]]:
    """A worker with each of the resources, as many processes would be, until the block ends."""
    workers = [TidyWorker(WorkerOptions(concurrency, 15, 3, 1), lambda each=each: each) for each in opened]  # type: ignore[misc]

    def run(worker: TidyWorker) -> None:
        try:
            worker.run()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()
            worker.stop()
        for thread in threads:
            thread.join(timeout=20)


class Crowd:
    """Counts how many nodes execute at the same time; each stays for a moment, or until `open` is set."""

    def __init__(self, seconds: float = 0.05) -> None:
        self.most = self.now = 0
        self.order: list[str] = []
        self.open = threading.Event()
        self._seconds = seconds
        self._lock = threading.Lock()

    def __call__(self, task: NodeTask, log: NodeLog, stop: Stop) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(task.run.run_id)
        try:
            deadline = time.monotonic() + self._seconds
            while not self.open.is_set() and time.monotonic() < deadline:
                stop.check()
                stop.wait(0.01)
            stop.check()
        finally:
            with self._lock:
                self.now -= 1


def leased(run: Run) -> Lease:
    lease = transitions.start_run(run.id, register_worker().id)
    assert lease is not None
    return lease


def asked(lease: Lease, **wishes: str) -> frozenset[str]:
    with transitions.fenced(lease):
        return pools.ask(lease.run_id, wishes)


def is_over(*runs: Run) -> bool:
    return not Run.objects.active().filter(id__in=[run.id for run in runs]).exists()


def waits(run: Run, count: int = 1) -> bool:
    return PoolTicket.objects.filter(run=run, holds=False).count() == count


# --- tickets ------------------------------------------------------------------------------------------------------------


def test_eight_runs_that_ask_at_once_get_no_more_than_the_slots() -> None:
    Pool.objects.create(name="narrow", slots=3)
    leases = [leased(pooled_run()) for _ in range(8)]
    for _ in range(5):
        results = at_once(*(partial(asked, lease, first="narrow") for lease in leases))

        assert sorted(len(result) for result in results) == [0] * 5 + [1] * 3, results
        assert PoolTicket.objects.filter(holds=True).count() == 3
        at_once(*(partial(pools.give_back, lease.run_id) for lease in leases))


def test_runs_with_two_pools_do_not_wait_in_a_circle() -> None:
    leases = [leased(pooled_run()) for _ in range(6)]
    for _ in range(5):
        results = at_once(*(partial(asked, lease, **({"a": "x", "b": "y"} if n % 2 else {"b": "y", "a": "x"})) for n, lease in enumerate(leases)))

        assert [result for result in results if result != {"a", "b"}] == []


def test_first_come_first_served_but_higher_priority_before_all() -> None:
    Pool.objects.create(name="narrow", slots=1)
    holder, first, second, urgent = (leased(pooled_run(priority=priority)) for priority in (0, 0, 0, 5))
    assert asked(holder, first="narrow") == {"first"}
    for lease in (first, second, urgent, first):  # asking again keeps the place
        assert asked(lease, first="narrow") == frozenset()

    for lease, following in ((holder, urgent), (urgent, first), (first, second)):
        pools.give_back(lease.run_id, ["first"])
        assert [pools.has_turn(each.run_id, ["narrow"]) for each in (first, second, urgent)] == [
            each is following for each in (first, second, urgent)
        ]
        assert asked(second, first="narrow") == (frozenset() if following is not second else {"first"})
        assert asked(following, first="narrow") == {"first"}


def test_a_pool_that_nobody_made_has_the_default(settings: Any) -> None:
    settings.POOL_SLOTS = 2
    lease = leased(pooled_run("a", "b", "c"))

    assert len(asked(lease, a="x", b="x", c="x")) == 2
    Pool.objects.create(name="x", slots=3)
    assert len(asked(lease, a="x", b="x", c="x")) == 3
    Pool.objects.update(slots=1)  # what executes goes on
    assert len(asked(lease, a="x", b="x", c="x")) == 3
    assert not pools.has_turn(lease.run_id, ["x"])


@pytest.mark.parametrize("how", ["dies", "drains", "fails", "is cancelled", "dies once too often"])
def test_slots_come_back_with_the_lease(how: str) -> None:
    run = pooled_run("a", "b")
    Pool.objects.create(name="narrow", slots=1)
    lease = leased(run)
    assert asked(lease, a="narrow", b="narrow") == {"a"}

    if how == "drains":
        queue.release(lease, "its worker was told to stop")
    elif how == "fails":
        queue.finish(lease, RunStatus.FAILED, "no luck")
    elif how == "is cancelled":
        queue.finish(lease, RunStatus.CANCELLED)
    else:
        queue.give_up(lease.owner, beat=0, reason="it died", died=True, max_deaths=1 if how == "dies once too often" else 3)

    assert not PoolTicket.objects.exists()


def test_a_ticket_that_was_forgotten_takes_no_slot_for_ever() -> None:
    """Nothing leaves one; but a slot that is lost until somebody looks into the database would be a bad price for a bug."""
    Pool.objects.create(name="narrow", slots=1)
    ended, other = leased(pooled_run()), leased(pooled_run())
    assert asked(ended, first="narrow") == {"first"}
    queue.finish(ended, RunStatus.SUCCESS)
    assert PoolTicket.objects.exists()

    assert asked(other, first="narrow") == {"first"}


# --- runs ---------------------------------------------------------------------------------------------------------------


def test_never_more_nodes_than_slots_execute(resources: MakeResources) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=3)
    crowd = Crowd()
    runs = [pooled_run("a", "b", "c") for _ in range(8)]

    with working(resources(crowd), resources(crowd)):
        wait_for(lambda: is_over(*runs), 40, "the runs to end")

    assert {run.status for run in Run.objects.all()} == {"success"}
    assert (crowd.most, len(crowd.order)) == (3, 24)
    assert not PoolTicket.objects.exists()


def test_a_wait_is_told_once_and_counts_as_waiting(resources: MakeResources) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=1)
    crowd = Crowd(30)
    with working(resources(crowd)):
        holder = pooled_run()
        wait_for(lambda: crowd.now == 1, what="the first node to execute")
        run = pooled_run()
        wait_for(lambda: waits(run), what="the second to wait")
        looked_at = time.monotonic() + 1
        wait_for(lambda: time.monotonic() > looked_at, what="some looks at the pool")
        crowd.open.set()
        wait_for(lambda: is_over(holder, run), what="the runs to end")

    lines = LogEntry.objects.filter(run=run, kind="log").values_list("message", "node_id", "attempt")
    assert list(lines) == [("Waiting for a slot of pool 'narrow' (1 of 1 taken)", "first", 1)]
    node = NodeRun.objects.get(run=run)
    assert node.started_at and node.ready_at
    assert (node.started_at - node.ready_at).total_seconds() >= 1


def test_a_slot_is_taken_over_at_once_within_a_process(resources: MakeResources, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(slots, "_POLL_SECONDS", 60.0)
    Pool.objects.create(name="narrow", slots=1)
    crowd = Crowd(0.01)
    runs = [pooled_run("a", "b") for _ in range(4)]

    with working(resources(crowd)):
        wait_for(lambda: is_over(*runs), 20, "the runs to end")

    assert crowd.most == 1


def test_what_needs_no_slot_goes_past_what_waits(resources: MakeResources) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=1)
    holder = leased(pooled_run())
    assert asked(holder, first="narrow")
    nodes = [*(pooled(f"p{n}") for n in range(6)), pooled("q", pool="wide"), *(sql_node(f"n{n}", "SELECT 1 AS x") for n in range(6))]
    run = accept_run(make_pipeline(nodes))

    with working(resources(node_concurrency=2)):
        wait_for(lambda: NodeRun.objects.filter(run=run, status=NodeStatus.SUCCESS).count() == 7, what="all without that pool")
        wait_for(lambda: waits(run, 2), what="those to wait that it could start, and no more")
        queue.finish(holder, RunStatus.FAILED)
        wait_for(lambda: is_over(run), what="the run to end")

    run.refresh_from_db()
    assert run.status == "success"


def test_a_turn_that_cannot_be_used_blocks_nobody(resources: MakeResources) -> None:  # noqa: F811
    """The run's only place is taken by a node without a pool: its ticket, first in the queue, is given back meanwhile."""
    Pool.objects.create(name="narrow", slots=1)
    holder = leased(pooled_run())
    assert asked(holder, first="narrow")
    release = threading.Event()
    plain = sql_node("plain", "SELECT 1 AS x FROM input")
    full = accept_run(make_pipeline([sql_node("root", "SELECT 1 AS x"), plain, pooled("p")], [("root", "plain")]))

    def behave(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        if task.node.id == "plain":
            assert release.wait(20)

    with working(resources(behave, node_concurrency=1)):
        wait_for(lambda: NodeRun.objects.filter(run=full, node_id="plain", status=NodeStatus.RUNNING).exists(), what="the plain node to execute")
        assert not PoolTicket.objects.filter(run=full).exists()
        queue.finish(holder, RunStatus.FAILED)
        other = pooled_run()
        wait_for(lambda: is_over(other), what="the other run to get the slot")
        release.set()
        wait_for(lambda: is_over(full), what="the run to end")

    assert set(Run.objects.filter(id__in=[full.id, other.id]).values_list("status", flat=True)) == {"success"}


@pytest.mark.parametrize("force", [False, True])
def test_a_run_that_waits_for_a_slot_is_cancelled_at_once(resources: MakeResources, force: bool) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=1)
    assert asked(leased(pooled_run()), first="narrow")
    run = pooled_run()

    with working(resources()):
        wait_for(lambda: waits(run), what="the run to wait")
        started = time.monotonic()
        triggers.cancel(run.id, force=force)
        wait_for(lambda: is_over(run), 5, "the run to end")
        assert time.monotonic() - started < within(1)

    run.refresh_from_db()
    assert (run.status, ends_of(run), PoolTicket.objects.filter(run=run).count()) == ("cancelled", 1, 0)


def test_a_run_that_waits_for_a_slot_ends_at_its_timeout(resources: MakeResources) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=1)
    assert asked(leased(pooled_run()), first="narrow")
    pipeline: Pipeline = make_pipeline([pooled("first")])
    version = pipeline.versions.get()
    PipelineVersion.objects.filter(id=version.id).update(document=version.document | {"timeout": 0.5})
    run = accept_run(pipeline)

    with working(resources()):
        wait_for(lambda: is_over(run), 5, "the run to end")

    run.refresh_from_db()
    assert (run.status, "timeout of 500ms" in run.error) == ("failed", True)
    assert not PoolTicket.objects.filter(run=run).exists()


def test_a_draining_run_leaves_the_queue(resources: MakeResources) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=1)
    holder = leased(pooled_run())
    assert asked(holder, first="narrow")
    run = accept_run(make_pipeline([pooled("p"), sql_node("slow", "SELECT 1 AS x")]))
    release = threading.Event()

    with working(resources(lambda task, log, stop: release.wait(20))) as (worker,):
        wait_for(lambda: waits(run), what="the run to wait")
        worker.stop()
        wait_for(lambda: not PoolTicket.objects.filter(run=run).exists(), what="the place to be given back")
        release.set()
        wait_for(lambda: Run.objects.filter(id=run.id, status="pending").exists(), what="the run to go back")


def test_a_slot_is_free_while_a_retry_waits(resources: MakeResources) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=1)
    failing = pooled_run(max_retries=1, retry_delay=60_000)

    def behave(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        if task.run.run_id == str(failing.id):
            raise TransientNodeError("no luck")

    with working(resources(behave)):
        wait_for(lambda: NodeRun.objects.filter(run=failing, attempt=2).exists(), what="the retry to wait")
        other = pooled_run()
        wait_for(lambda: is_over(other), what="the other run to get the slot")
        triggers.cancel(failing.id)
        wait_for(lambda: is_over(failing), what="the run to end")

    assert not PoolTicket.objects.exists()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["ask", "give_back", "has_turn"])
def test_a_moment_without_database(monkeypatch: pytest.MonkeyPatch, resources: MakeResources, name: str, after: bool) -> None:  # noqa: F811
    Pool.objects.create(name="narrow", slots=1)
    runs = [pooled_run("a", "b") for _ in range(2)]
    failed = fail_once(monkeypatch, pools, name, after=after)

    work_until_empty(resources(Crowd(0.2)))

    assert failed.is_set()
    assert [(run.status, ends_of(run)) for run in Run.objects.filter(id__in=[run.id for run in runs])] == [("success", 1)] * 2
    assert not PoolTicket.objects.exists()


def test_who_has_no_pool_never_looks_at_one(monkeypatch: pytest.MonkeyPatch, resources: MakeResources) -> None:  # noqa: F811
    for name in ("ask", "has_turn", "slots_of", "waiting_nodes", "give_back"):
        monkeypatch.setattr(pools, name, lambda *arguments: pytest.fail("it looked"))
    run = accept_run()

    work_until_empty(resources())

    run.refresh_from_db()
    assert run.status == "success"
