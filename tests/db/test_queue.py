"""Claim, heartbeat, fenced writes, finish and reap, one worker at a time. Races are in tests/races."""

import os

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from brokoli_site.common.errors import Conflict
from runs import identity, log, queue, tenure, transitions, triggers
from runs.models import LogEntry, NodeRun, Run, Worker
from runs.queue import Watch
from runs.states import EntryKind, NodeStatus, RunStatus
from runs.transitions import LeaseLost
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker

pytestmark = pytest.mark.django_db


def kinds(run: Run) -> list[str]:
    return list(LogEntry.objects.filter(run=run).order_by("seq").values_list("kind", flat=True))


def test_an_accepted_run_has_its_nodes_and_its_first_entry() -> None:
    run = accept_run(params={"date": "2024-01-15"})

    run.refresh_from_db()
    assert (run.status, run.owner, run.epoch, run.params) == ("pending", "", 0, {"date": "2024-01-15"})
    assert [(node.node_id, node.status, node.position) for node in run.node_runs.all()] == [("first", "pending", 0), ("second", "pending", 1)]
    assert kinds(run) == [EntryKind.RUN_CREATED]


def test_a_claim_takes_the_lease_and_raises_the_epoch() -> None:
    run, worker = accept_run(), register_worker()

    lease = claim_one(worker)

    run.refresh_from_db()
    assert (lease.run_id, lease.owner, lease.epoch) == (run.id, worker.id, 1)
    assert (run.status, run.owner, run.epoch) == ("running", worker.id, 1)
    assert run.started_at is not None
    assert queue.claim(worker.id, 1) == []
    assert kinds(run)[-1] == EntryKind.RUN_STARTED


def test_every_change_of_a_run_says_which_claim_wrote_it() -> None:
    run, first, second = accept_run(), register_worker(), register_worker()
    lease = claim_one(first)
    with transitions.fenced(lease):
        log.append([transitions.start_node(run.node_runs.get(node_id="first"))], lease.epoch)
    queue.give_up(first.id, beat=first.beat, reason="it died", died=True, max_deaths=3)
    queue.finish(claim_one(second), RunStatus.FAILED, "enough")

    written = LogEntry.objects.filter(run=run).order_by("seq").values_list("kind", "data__epoch")
    assert list(written) == [
        ("run.created", None),
        ("run.started", 1),
        ("node.started", 1),
        ("node.failed", 1),
        ("run.requeued", 1),
        ("run.started", 2),
        ("node.cancelled", 2),
        ("node.cancelled", 2),
        ("run.failed", 2),
    ]


def test_the_end_of_a_run_is_the_last_that_its_log_tells() -> None:
    waiting = accept_run()
    triggers.cancel(waiting.id)

    executing = accept_run()
    lease = claim_one(register_worker())
    queue.finish(lease, RunStatus.FAILED, "enough")

    assert kinds(waiting) == ["run.created", "node.cancelled", "node.cancelled", "run.cancelled"]
    assert kinds(executing)[-1] == "run.failed"


def test_priority_goes_first_then_age() -> None:
    pipeline, worker = make_pipeline(), register_worker()
    old, new, urgent = accept_run(pipeline), accept_run(pipeline), accept_run(pipeline, priority=5)

    leases = queue.claim(worker.id, 3)

    assert [lease.run_id for lease in leases] == [urgent.id, old.id, new.id]


def test_an_idle_claim_reads_once_and_writes_nothing() -> None:
    worker = register_worker()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert queue.claim(worker.id, 4) == []
    assert len(queries) == 1


def test_a_worker_that_was_given_up_claims_nothing() -> None:
    accept_run()
    worker = register_worker()
    queue.unregister(worker.id)

    assert queue.claim(worker.id, 1) == []


def test_a_lost_lease_writes_nothing() -> None:
    run, first, second = accept_run(), register_worker(), register_worker()
    stale = claim_one(first)
    queue.give_up(first.id, beat=first.beat, reason="it was silent", died=True, max_deaths=3)
    current = claim_one(second)
    before = LogEntry.objects.count()

    with pytest.raises(LeaseLost):
        queue.finish(stale, RunStatus.SUCCESS)
    with pytest.raises(LeaseLost), transitions.fenced(stale):
        pytest.fail("the body of a fenced block must not run without the lease")

    run.refresh_from_db()
    assert (run.status, run.epoch, LogEntry.objects.count()) == ("running", current.epoch, before)


def test_finish_is_final() -> None:
    run, worker = accept_run(), register_worker()
    lease = claim_one(worker)

    queue.finish(lease, RunStatus.FAILED, "Node 'First' failed: no such column")

    run.refresh_from_db()
    assert (run.status, run.owner, run.error) == ("failed", "", "Node 'First' failed: no such column")
    assert run.finished_at is not None
    with pytest.raises(LeaseLost):
        queue.finish(lease, RunStatus.SUCCESS)
    with pytest.raises(Conflict):
        triggers.cancel(run.id)
    assert kinds(run).count(EntryKind.RUN_FAILED) == 1


def test_cancel_wins_over_success() -> None:
    run, worker = accept_run(), register_worker()
    lease = claim_one(worker)
    assert triggers.cancel(run.id).cancel_requested

    queue.finish(lease, RunStatus.SUCCESS)

    run.refresh_from_db()
    assert run.status == "cancelled"
    assert set(run.node_runs.values_list("status", flat=True)) == {"cancelled"}


def test_a_pending_run_is_cancelled_at_once() -> None:
    run = triggers.cancel(accept_run().id)

    assert run.status == "cancelled"
    assert set(run.node_runs.values_list("status", flat=True)) == {"cancelled"}
    assert queue.claim(register_worker().id, 1) == []


def test_asking_twice_to_cancel_notes_it_once_and_force_may_follow() -> None:
    run, worker = accept_run(), register_worker()
    claim_one(worker)

    triggers.cancel(run.id)
    triggers.cancel(run.id)
    assert kinds(run).count(EntryKind.RUN_CANCEL_REQUESTED) == 1

    triggers.cancel(run.id, force=True)
    assert kinds(run).count(EntryKind.RUN_CANCEL_REQUESTED) == 2
    run.refresh_from_db()
    assert run.cancel_force


def test_a_dead_workers_run_goes_back_with_a_new_attempt_of_what_was_executing() -> None:
    run, worker = accept_run(), register_worker()
    lease = claim_one(worker)
    with transitions.fenced(lease):
        transitions.start_node(NodeRun.objects.get(run=run, node_id="first"))

    assert queue.give_up(worker.id, beat=worker.beat, reason="its worker died", died=True, max_deaths=3) == 1

    run.refresh_from_db()
    assert (run.status, run.owner, run.deaths) == ("pending", "", 1)
    attempts = NodeRun.objects.filter(run=run, node_id="first").order_by("attempt")
    assert [(attempt.attempt, attempt.status, attempt.lost) for attempt in attempts] == [(1, NodeStatus.FAILED, True), (2, NodeStatus.PENDING, False)]
    assert not Worker.objects.filter(id=worker.id).exists()


def test_a_run_that_outlived_its_workers_fails_and_says_so() -> None:
    run = accept_run()
    for death in range(1, 4):
        worker = register_worker()
        claim_one(worker)
        queue.give_up(worker.id, beat=0, reason=f"worker {death} died", died=True, max_deaths=3)

    run.refresh_from_db()
    assert run.status == "failed"
    assert "lost 3 workers" in run.error
    assert "worker 3 died" in run.error


def test_a_worker_that_stops_in_order_is_no_death() -> None:
    run, worker = accept_run(), register_worker()
    claim_one(worker)

    queue.unregister(worker.id)

    run.refresh_from_db()
    assert (run.status, run.deaths) == ("pending", 0)


def test_a_run_whose_cancel_was_requested_ends_when_its_worker_dies() -> None:
    run, worker = accept_run(), register_worker()
    claim_one(worker)
    triggers.cancel(run.id)

    queue.give_up(worker.id, beat=worker.beat, reason="its worker died", died=True, max_deaths=3)

    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_worker_that_beat_once_more_keeps_its_runs() -> None:
    run, worker = accept_run(), register_worker()
    claim_one(worker)
    assert queue.heartbeat(worker.id)

    assert queue.give_up(worker.id, beat=worker.beat, reason="it looked silent", died=True, max_deaths=3) == 0

    run.refresh_from_db()
    assert run.status == "running"


def test_a_heartbeat_after_being_given_up_says_so() -> None:
    worker = register_worker()
    queue.unregister(worker.id)

    assert not queue.heartbeat(worker.id)


class TestWatch:
    """Reaping by looking twice. The clock is the watcher's own and monotonic."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [1000.0]
        monkeypatch.setattr("runs.queue.time.monotonic", lambda: now[0])
        return now

    def elsewhere(self) -> Worker:
        """A worker on another machine, whose process table nobody here can read."""
        worker = register_worker(lease_seconds=15)
        Worker.objects.filter(id=worker.id).update(process="another machine|7|0")
        return worker

    def test_a_silent_worker_is_given_up_after_its_lease_and_not_before(self, clock: list[float]) -> None:
        run, worker = accept_run(), self.elsewhere()
        claim_one(worker)
        watch = Watch("me", max_deaths=3)

        assert watch.reap() == 0
        clock[0] += 14.9
        assert watch.reap() == 0
        clock[0] += 0.1
        assert watch.reap() == 1

        run.refresh_from_db()
        assert run.status == "pending"

    def test_a_beating_worker_is_left_alone_whatever_its_wall_clock_says(self, clock: list[float]) -> None:
        worker = self.elsewhere()
        claim_run = accept_run()
        claim_one(worker)
        watch = Watch("me", max_deaths=3)
        for _ in range(10):
            clock[0] += 14
            queue.heartbeat(worker.id)
            Worker.objects.filter(id=worker.id).update(seen_at="2001-01-01T00:00:00Z")
            assert watch.reap() == 0

        claim_run.refresh_from_db()
        assert claim_run.status == "running"

    def test_a_process_that_is_gone_from_this_machine_needs_no_wait(self) -> None:
        run, worker = accept_run(), register_worker()
        claim_one(worker)
        machine, pid, _ = worker.process.split("|")
        Worker.objects.filter(id=worker.id).update(process=f"{machine}|{pid}|1.00")  # this pid, but another start: the id was reused

        assert Watch("me", max_deaths=3).reap() == 1

        run.refresh_from_db()
        assert run.status == "pending"

    def test_one_look_is_enough_for_a_neighbour_that_was_silent_for_its_lease(self) -> None:
        """Frozen, say, before this worker started: that one may be killed before it has watched for a whole lease itself."""
        run, worker = accept_run(), register_worker(lease_seconds=15)
        claim_one(worker)
        Worker.objects.filter(id=worker.id).update(beaten=tenure.clock() - 14)
        assert Watch("me", max_deaths=3).reap() == 0
        Worker.objects.filter(id=worker.id).update(beaten=tenure.clock() - 15)
        assert Watch("me", max_deaths=3).reap() == 1

        run.refresh_from_db()
        assert run.status == "pending"

    def test_the_clock_of_another_machine_or_of_an_older_release_says_nothing(self) -> None:
        accept_run()
        accept_run()
        claim_one_of = self.elsewhere()
        Worker.objects.filter(id=claim_one_of.id).update(beaten=0.0)
        old = register_worker()
        Worker.objects.filter(id=old.id).update(beaten=None)

        assert Watch("me", max_deaths=3).reap() == 0
        assert Worker.objects.count() == 2

    def test_a_beat_tells_the_neighbours_when_it_was(self) -> None:
        worker = register_worker()
        Worker.objects.filter(id=worker.id).update(beaten=0.0)
        before = tenure.clock()
        queue.heartbeat(worker.id)
        worker.refresh_from_db()
        assert worker.beaten is not None
        assert before <= worker.beaten <= tenure.clock()

    def test_a_living_process_of_this_machine_is_left_alone(self) -> None:
        claim_one_of = register_worker()
        accept_run()
        claim_one(claim_one_of)

        assert Watch("me", max_deaths=3).reap() == 0


def test_resume_is_a_new_run_and_one_at_a_time() -> None:
    failed = end_run(accept_run(params={"n": 1}), RunStatus.FAILED, "broken")

    resumed = triggers.resume(failed.id)

    assert (resumed.status, resumed.resumed_from_id, resumed.params) == ("pending", failed.id, {"n": 1})
    assert resumed.version_id == failed.version_id
    with pytest.raises(Conflict, match="already being resumed"):
        triggers.resume(failed.id)
    end_run(resumed, RunStatus.FAILED)
    assert triggers.resume(failed.id).status == "pending"


@pytest.mark.parametrize("status", [RunStatus.SUCCESS, RunStatus.CANCELLED])
def test_only_failed_runs_are_resumed(status: RunStatus) -> None:
    run = end_run(accept_run(), status)

    with pytest.raises(Conflict, match="Only failed runs"):
        triggers.resume(run.id)


def test_the_queue_is_read_through_its_own_index() -> None:
    accept_run()
    plan = Run.objects.ready()[:1].explain()
    if connection.vendor == "sqlite":  # PostgreSQL reads a table of one page whole, and is right to
        assert "run_queue" in plan


def test_a_step_of_the_clock_makes_no_stranger_of_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the clock moves the time at which the machine seems to have started, and with it the start of every process."""
    mine = identity.process_identity(os.getpid())
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1_000_000.0)

    assert identity.process_identity(os.getpid()) == mine
    assert not identity.is_gone(mine)
