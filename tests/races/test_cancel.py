"""A cancel meets what else can happen to a run at that moment: start, finish, a retry's wait, another cancel, reaping, a resume.

Each pair first with the rival between the read and the write, then with all at once. Whoever wins: one terminal state, written once.
"""

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connection

from brokoli_site.common.errors import Conflict, TransientNodeError
from pipelines.nodes.base import Stop
from runs import queue, transitions, triggers
from runs.control import Control, Resources
from runs.engine import NodeTask
from runs.executor import Execution
from runs.log import NodeLog
from runs.models import LogEntry, NodeRun, Run
from runs.states import RunStatus
from runs.transitions import Lease, LeaseLost
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker, sql_node
from tests.patience import within
from tests.programs import wait_for
from tests.races.test_database_away import ends_of, resources, work_until_empty  # noqa: F401 - a fixture
from tests.races.test_pools import working
from tests.races.test_races import at_once, rival_between
from tests.races.test_waiting_for_rows import waiting

pytestmark = pytest.mark.django_db(transaction=True)

MakeResources = Callable[..., Resources]
ROUNDS = 10


def node_statuses(run: Run) -> set[str]:
    return set(NodeRun.objects.filter(run=run).values_list("status", flat=True))


def requests_of(run: Run) -> list[bool]:
    """The `force` of each request that was noted."""
    entries = LogEntry.objects.filter(run=run, kind="run.cancel_requested").order_by("seq")
    return [entry.data["force"] for entry in entries if entry.data]


def executing() -> tuple[Run, Lease]:
    run, worker = accept_run(), register_worker()
    return run, claim_one(worker)


def give_up(lease: Lease, max_deaths: int = 3) -> int:
    return queue.give_up(lease.owner, beat=0, reason="it died", died=True, max_deaths=max_deaths)


# --- start --------------------------------------------------------------------------------------------------------------


def test_cancel_after_a_start_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    run, worker = accept_run(), register_worker()
    rival_between(monkeypatch, "cancel_pending_run", lambda: queue.claim(worker.id, 1))

    cancelled = triggers.cancel(run.id)

    assert (cancelled.status, cancelled.owner, cancelled.cancel_requested) == ("running", worker.id, True)
    assert (node_statuses(run), ends_of(run)) == ({"pending"}, 0)


def test_start_after_a_cancel_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    run, worker = accept_run(), register_worker()
    rival_between(monkeypatch, "start_run", lambda: triggers.cancel(run.id))

    assert transitions.start_run(run.id, worker.id) is None

    run.refresh_from_db()
    assert (run.status, run.owner, run.epoch, ends_of(run), node_statuses(run)) == ("cancelled", "", 0, 1, {"cancelled"})


def test_cancel_and_start_at_once() -> None:
    worker = register_worker()
    for _ in range(ROUNDS):
        run = accept_run()

        leases, cancelled = at_once(partial(queue.claim, worker.id, 1), partial(triggers.cancel, run.id))

        run.refresh_from_db()
        assert isinstance(cancelled, Run), cancelled
        if leases:
            assert (run.status, run.cancel_requested, ends_of(run)) == ("running", True, 0)
            queue.finish(leases[0], RunStatus.SUCCESS)
            run.refresh_from_db()
        assert (run.status, run.owner, ends_of(run), node_statuses(run)) == ("cancelled", "", 1, {"cancelled"})


# --- finish -------------------------------------------------------------------------------------------------------------


def test_cancel_after_a_finish_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    run, lease = executing()
    rival_between(monkeypatch, "request_cancel", lambda: queue.finish(lease, RunStatus.SUCCESS))

    with pytest.raises(Conflict, match="already ended"):
        triggers.cancel(run.id)

    run.refresh_from_db()
    assert (run.status, run.cancel_requested, requests_of(run), ends_of(run)) == ("success", False, [], 1)


@pytest.mark.parametrize(("finished", "stands"), [(RunStatus.SUCCESS, "cancelled"), (RunStatus.FAILED, "failed")])
def test_finish_after_a_cancel_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch, finished: RunStatus, stands: str) -> None:
    """Cancel wins over success, not over a failure, which is worth knowing."""
    run, lease = executing()
    rival_between(monkeypatch, "finish_run", lambda: triggers.cancel(run.id))

    queue.finish(lease, finished, "no luck" if finished == RunStatus.FAILED else "")

    run.refresh_from_db()
    assert (run.status, run.cancel_requested, ends_of(run), node_statuses(run)) == (stands, True, 1, {"cancelled"})


def test_cancel_and_finish_at_once() -> None:
    for _ in range(ROUNDS):
        run, lease = executing()

        cancelled, finished = at_once(partial(triggers.cancel, run.id), partial(queue.finish, lease, RunStatus.SUCCESS))

        run.refresh_from_db()
        assert finished is None, finished
        assert (run.status, run.cancel_requested) == (("success", False) if isinstance(cancelled, Conflict) else ("cancelled", True)), cancelled
        assert ends_of(run) == 1
        with pytest.raises(LeaseLost):
            queue.finish(lease, RunStatus.FAILED)


# --- a retry's wait -----------------------------------------------------------------------------------------------------


def failing_run() -> Run:
    """Its node fails for a reason that may pass, and is to be tried again in hours."""
    return accept_run(make_pipeline([sql_node("first", "SELECT 1 AS x", max_retries=9, retry_delay=4 * 3600 * 1000)]))


def fail(task: NodeTask, log: NodeLog, stop: Stop) -> None:
    raise TransientNodeError("no luck")


def attempts_of(run: Run) -> list[str]:
    return list(NodeRun.objects.filter(run=run).order_by("attempt").values_list("status", flat=True))


def test_a_cancel_before_the_next_attempt_is_written(monkeypatch: pytest.MonkeyPatch, resources: MakeResources) -> None:  # noqa: F811
    """The node fails when the cancel is committed already, and nobody has told the executor of it: no attempt follows."""
    run = failing_run()
    lease = claim_one(register_worker())

    def cancel_and_fail(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        triggers.cancel(run.id)
        connection.close()
        raise TransientNodeError("no luck")

    monkeypatch.setattr(transitions, "retry_node", lambda *arguments: pytest.fail("an attempt follows"))
    outcome = Execution(lease, resources(cancel_and_fail), Control()).run()
    queue.finish(lease, outcome.status, outcome.reason)

    run.refresh_from_db()
    assert (outcome.status, run.status, attempts_of(run), ends_of(run)) == (RunStatus.CANCELLED, "cancelled", ["failed"], 1)


def test_a_cancel_while_the_next_attempt_is_written(monkeypatch: pytest.MonkeyPatch, resources: MakeResources) -> None:  # noqa: F811
    """It has to wait for the transaction that fails the attempt and writes the next one, and then ends the wait."""
    run = failing_run()
    original, rivals, writes = transitions.retry_node, [], threading.Event()

    def note_writes(execute: Callable[..., object], sql: str, *arguments: object) -> object:
        if "FOR NO KEY UPDATE" in sql or "IMMEDIATE" in sql:
            writes.set()
        return execute(sql, *arguments)

    def cancel() -> None:
        try:
            with connection.execute_wrapper(note_writes):
                triggers.cancel(run.id)
        finally:
            connection.close()

    def got_in() -> bool:
        return Run.objects.filter(id=run.id, cancel_requested_at__isnull=False).exists()

    def intercepted(*arguments: object) -> object:
        rivals.append(threading.Thread(target=cancel))
        rivals[0].start()
        assert writes.wait(20)
        if connection.vendor == "postgresql":  # SQLite lets nobody look at who waits for its write lock
            wait_for(lambda: waiting() == 1 or got_in(), 20, "the cancel to wait")
        assert not got_in()
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(transitions, "retry_node", intercepted)

    work_until_empty(resources(fail))

    rivals[0].join()
    run.refresh_from_db()
    assert (run.status, attempts_of(run), ends_of(run), len(rivals)) == ("cancelled", ["failed", "cancelled"], 1, 1)


@pytest.mark.parametrize("force", [False, True])
def test_a_cancel_ends_a_wait_of_hours_at_once(resources: MakeResources, force: bool) -> None:  # noqa: F811
    run = failing_run()
    with working(resources(fail)):
        wait_for(lambda: NodeRun.objects.filter(run=run, attempt=2).exists(), what="the retry to wait")
        started = time.monotonic()

        assert triggers.cancel(run.id, force=force).cancel_requested

        wait_for(lambda: not Run.objects.active().exists(), 5, "the run to end")
        assert time.monotonic() - started < within(1)

    run.refresh_from_db()
    assert (run.status, attempts_of(run), ends_of(run)) == ("cancelled", ["failed", "cancelled"], 1)


# --- another cancel -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "noted"), [(False, False, [False]), (False, True, [False, True]), (True, False, [True]), (True, True, [True])]
)
def test_cancel_after_a_cancel_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch, first: bool, second: bool, noted: list[bool]) -> None:
    """Asking again is no error and is noted only when it asks for more; force is never taken back."""
    run, _ = executing()
    rival_between(monkeypatch, "request_cancel", lambda: triggers.cancel(run.id, force=first))

    cancelled = triggers.cancel(run.id, force=second)

    assert (cancelled.status, cancelled.cancel_requested, cancelled.cancel_force) == ("running", True, first or second)
    assert requests_of(run) == noted


def test_cancel_of_a_waiting_run_that_another_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    run = accept_run()
    rival_between(monkeypatch, "cancel_pending_run", lambda: triggers.cancel(run.id))

    with pytest.raises(Conflict, match="already ended"):
        triggers.cancel(run.id)

    assert ends_of(run) == 1
    assert LogEntry.objects.filter(run=run, kind="node.cancelled").count() == 2


def test_plain_and_forced_cancels_at_once() -> None:
    for _ in range(ROUNDS):
        run, lease = executing()

        results = at_once(*(partial(triggers.cancel, run.id, force=force) for force in (False, True) * 3))

        run.refresh_from_db()
        assert [type(result) for result in results] == [Run] * 6, results
        assert (run.cancel_requested, run.cancel_force) == (True, True)
        assert requests_of(run) in ([True], [False, True])
        queue.finish(lease, RunStatus.CANCELLED)
        assert ends_of(run) == 1


# --- reaping and release ------------------------------------------------------------------------------------------------


def test_cancel_after_a_reaping_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks a run to end that nobody executes any more, hears so, and ends it itself."""
    run, lease = executing()
    rival_between(monkeypatch, "request_cancel", lambda: give_up(lease))

    cancelled = triggers.cancel(run.id)

    assert (cancelled.status, cancelled.cancel_requested, ends_of(run)) == ("cancelled", False, 1)
    assert queue.claim(register_worker().id, 1) == []


def test_cancel_after_a_reaping_that_ended_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run, lease = executing()
    rival_between(monkeypatch, "request_cancel", lambda: give_up(lease, max_deaths=1))

    with pytest.raises(Conflict, match="already ended"):
        triggers.cancel(run.id)

    run.refresh_from_db()
    assert (run.status, run.cancel_requested, ends_of(run)) == ("failed", False, 1)


def test_release_after_a_cancel_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    run, lease = executing()
    rival_between(monkeypatch, "release_run", lambda: triggers.cancel(run.id))

    queue.release(lease, "its worker was told to stop")

    run.refresh_from_db()
    assert (run.status, run.owner, ends_of(run), node_statuses(run)) == ("cancelled", "", 1, {"cancelled"})


@pytest.mark.parametrize("how", ["reap", "release", "reap the last time"])
def test_cancel_and_reaping_at_once(how: str) -> None:
    for _ in range(ROUNDS):
        run, lease = executing()
        taken = partial(queue.release, lease, "it stops") if how == "release" else partial(give_up, lease, 1 if "last" in how else 3)

        cancelled, reaped = at_once(partial(triggers.cancel, run.id), taken)

        run.refresh_from_db()
        assert not isinstance(reaped, Exception), reaped
        assert run.status == ("failed" if isinstance(cancelled, Conflict) else "cancelled"), cancelled
        assert ("last" in how or run.status == "cancelled") and ends_of(run) == 1
        with pytest.raises(LeaseLost):
            queue.finish(lease, RunStatus.SUCCESS)


# --- resume -------------------------------------------------------------------------------------------------------------


def test_cancel_of_a_run_that_failed_and_was_resumed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    run, lease = executing()

    def fail_and_resume() -> None:
        queue.finish(lease, RunStatus.FAILED, "no luck")
        triggers.resume(run.id)

    rival_between(monkeypatch, "request_cancel", fail_and_resume)

    with pytest.raises(Conflict, match="already ended"):
        triggers.cancel(run.id)

    run.refresh_from_db()
    assert (run.status, run.cancel_requested, ends_of(run)) == ("failed", False, 1)
    assert Run.objects.get(resumed_from=run).status == "pending"


def before_going_on(monkeypatch: pytest.MonkeyPatch, rival: Callable[[], object]) -> None:
    """Let `rival` act when a resume has read the failed run and has not written anything."""
    original = triggers._go_on

    def intercepted(failed: Run, resumed: Run) -> Run:
        monkeypatch.undo()
        at_once(rival)
        return original(failed, resumed)

    monkeypatch.setattr(triggers, "_go_on", intercepted)


def test_resume_after_another_resume_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = end_run(accept_run(), RunStatus.FAILED)
    before_going_on(monkeypatch, lambda: triggers.resume(failed.id))

    with pytest.raises(Conflict, match="already being resumed"):
        triggers.resume(failed.id)

    assert Run.objects.filter(resumed_from=failed).count() == 1


def test_resume_after_the_cancel_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index refuses the second while the first is active; when it looks for it, the first has been cancelled: it tries again."""
    failed = end_run(accept_run(), RunStatus.FAILED)
    first = triggers.resume(failed.id)
    original = Run.objects.active

    def cancelled_first() -> object:
        monkeypatch.undo()
        triggers.cancel(first.id)
        return original()

    monkeypatch.setattr(Run.objects, "active", cancelled_first)

    second = triggers.resume(failed.id)

    first.refresh_from_db()
    assert (first.status, second.status, ends_of(first)) == ("cancelled", "pending", 1)


def test_cancel_of_a_resume_and_another_resume_at_once() -> None:
    """The second is refused while the first is active; never are two of them."""
    for _ in range(ROUNDS):
        failed = end_run(accept_run(), RunStatus.FAILED)
        first = triggers.resume(failed.id)

        cancelled, second = at_once(partial(triggers.cancel, first.id), partial(triggers.resume, failed.id))

        first.refresh_from_db()
        failed.refresh_from_db()
        assert isinstance(cancelled, Run), cancelled
        assert (failed.status, first.status, ends_of(first)) == ("failed", "cancelled", 1)
        assert isinstance(second, Run | Conflict), second
        assert Run.objects.active().filter(resumed_from=failed).count() == isinstance(second, Run)
        if isinstance(second, Run):
            triggers.cancel(second.id)


def test_cancel_finish_and_resume_at_once() -> None:
    for _ in range(ROUNDS):
        run, lease = executing()

        cancelled, finished, resumed = at_once(
            partial(triggers.cancel, run.id), partial(queue.finish, lease, RunStatus.FAILED, "no luck"), partial(triggers.resume, run.id)
        )

        run.refresh_from_db()
        assert finished is None, finished
        assert (run.status, ends_of(run)) == ("failed", 1)
        assert isinstance(cancelled, Run | Conflict), cancelled
        assert isinstance(resumed, Run | Conflict), resumed
        assert Run.objects.filter(resumed_from=run).count() == isinstance(resumed, Run)
        if isinstance(resumed, Run):
            triggers.cancel(resumed.id)
