"""Races, made certain: the rival acts between the read and the write, or all start behind one barrier and exactly one wins."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import connection

from brokoli_site.common.errors import Conflict, NotFound
from pipelines import definitions
from runs import queue, transitions, triggers
from runs.models import LogEntry, Run
from runs.states import RunStatus
from runs.transitions import Lease, LeaseLost
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Run each action in a thread and connection of its own, all behind one barrier; results in order, errors as values."""
    barrier = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)

    def act(index: int, action: Callable[[], Any]) -> None:
        barrier.wait(timeout=10)
        try:
            results[index] = action()
        except Exception as error:
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=act, args=(index, action)) for index, action in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def rival_between(monkeypatch: pytest.MonkeyPatch, name: str, rival: Callable[[], object]) -> None:
    """Let `rival` act, in another connection, just before the first call of `transitions.NAME`."""
    original = getattr(transitions, name)
    acted = threading.Event()

    def intercepted(*args: Any, **kwargs: Any) -> Any:
        if not acted.is_set():
            acted.set()
            at_once(rival)
        return original(*args, **kwargs)

    monkeypatch.setattr(transitions, name, intercepted)


def ends_of(run: Run) -> int:
    return LogEntry.objects.filter(run=run, kind__in=["run.completed", "run.failed", "run.cancelled"]).count()


def test_eight_workers_one_run_one_winner() -> None:
    workers = [register_worker() for _ in range(8)]
    for _ in range(5):
        run = accept_run()
        results = at_once(*(partial(queue.claim, worker.id, 1) for worker in workers))

        leases = [lease for result in results if isinstance(result, list) for lease in result]
        assert [lease.run_id for lease in leases] == [run.id], results
        run.refresh_from_db()
        assert (run.owner, run.epoch) == (leases[0].owner, 1)
        queue.finish(leases[0], RunStatus.SUCCESS)


def test_many_runs_are_shared_out_without_doubles() -> None:
    pipeline, workers = make_pipeline(), [register_worker() for _ in range(4)]
    accepted = {accept_run(pipeline).id for _ in range(40)}

    claimed: list[Lease] = []
    while len(claimed) < 40:
        for result in at_once(*(partial(queue.claim, worker.id, 3) for worker in workers)):
            assert isinstance(result, list), result
            claimed += result

    assert sorted(lease.run_id for lease in claimed) == sorted(accepted)


def test_cancel_and_claim_at_once() -> None:
    run, worker = accept_run(), register_worker()

    results = at_once(lambda: queue.claim(worker.id, 1), lambda: triggers.cancel(run.id))

    run.refresh_from_db()
    assert not [result for result in results if isinstance(result, Exception)], results
    assert (run.status == "cancelled" and run.owner == "") or (run.status == "running" and run.cancel_requested)


def test_a_cancel_that_read_pending_meets_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancel's guarded write misses, it looks again, and asks the running run instead."""
    run, worker = accept_run(), register_worker()
    rival_between(monkeypatch, "cancel_pending_run", lambda: queue.claim(worker.id, 1))

    cancelled = triggers.cancel(run.id)

    assert (cancelled.status, cancelled.cancel_requested) == ("running", True)


def test_a_cancel_that_read_running_meets_the_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    run, worker = accept_run(), register_worker()
    lease = claim_one(worker)
    rival_between(monkeypatch, "request_cancel", lambda: queue.finish(lease, RunStatus.SUCCESS))

    with pytest.raises(Conflict, match="already ended"):
        triggers.cancel(run.id)

    run.refresh_from_db()
    assert (run.status, run.cancel_requested, ends_of(run)) == ("success", False, 1)


def test_cancel_and_finish_at_once_end_the_run_once() -> None:
    worker = register_worker()
    for _ in range(10):
        run = accept_run()
        lease = claim_one(worker)

        cancel, finish = at_once(partial(triggers.cancel, run.id), partial(queue.finish, lease, RunStatus.SUCCESS))

        run.refresh_from_db()
        assert finish is None, finish
        assert run.status == ("success" if isinstance(cancel, Conflict) else "cancelled"), cancel
        assert ends_of(run) == 1


def test_eight_cancels_of_a_waiting_run_end_it_once() -> None:
    run = accept_run()

    results = at_once(*([lambda: triggers.cancel(run.id)] * 8))

    assert sum(isinstance(result, Run) for result in results) == 1, results
    assert sum(isinstance(result, Conflict) for result in results) == 7, results
    assert ends_of(run) == 1


def test_eight_resumes_make_one_run() -> None:
    failed = end_run(accept_run(), RunStatus.FAILED)

    results = at_once(*([lambda: triggers.resume(failed.id)] * 8))

    assert sum(isinstance(result, Run) for result in results) == 1, results
    assert sum(isinstance(result, Conflict) for result in results) == 7, results
    assert Run.objects.filter(resumed_from=failed).count() == 1


def test_eight_reapers_requeue_once() -> None:
    run, dead = accept_run(), register_worker()
    lease = claim_one(dead)

    results = at_once(*([lambda: queue.give_up(dead.id, beat=dead.beat, reason="it died", died=True, max_deaths=3)] * 8))

    assert sorted(results) == [0] * 7 + [1]
    run.refresh_from_db()
    assert (run.status, run.deaths) == ("pending", 1)
    with pytest.raises(LeaseLost):
        queue.finish(lease, RunStatus.SUCCESS)


def test_a_reaper_and_the_finish_at_once() -> None:
    """Either the run ended before the worker was given up, or it goes back; never both, never neither."""
    for _ in range(10):
        run, worker = accept_run(), register_worker()
        lease = claim_one(worker)

        finish, reaped = at_once(
            partial(queue.finish, lease, RunStatus.SUCCESS),
            partial(queue.give_up, worker.id, beat=worker.beat, reason="it died", died=True, max_deaths=3),
        )

        run.refresh_from_db()
        if isinstance(finish, LeaseLost):
            assert (run.status, reaped, ends_of(run)) == ("pending", 1, 0)
            triggers.cancel(run.id)
        else:
            assert (run.status, reaped, ends_of(run)) == ("success", 0, 1)


def test_a_run_of_a_pipeline_that_is_being_deleted() -> None:
    """Either the run is accepted and the pipeline stays, or the pipeline goes and the run is refused."""
    for _ in range(10):
        pipeline = make_pipeline()

        accepted, deleted = at_once(partial(triggers.run, pipeline), partial(definitions.delete, pipeline.id))

        pipeline.refresh_from_db()
        if isinstance(accepted, Run):
            assert isinstance(deleted, Conflict), deleted
            assert pipeline.deleted_at is None
        else:
            assert isinstance(accepted, NotFound), accepted
            assert deleted is None, deleted
            assert not Run.objects.filter(pipeline=pipeline).exists()


def test_a_trigger_that_read_the_pipeline_before_it_was_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, prepare = make_pipeline(), triggers.prepare

    def prepare_and_be_late(*given: Any) -> Any:
        """The last that is done before the transaction, which on SQLite nobody else writes beside."""
        prepared = prepare(*given)
        at_once(partial(definitions.delete, pipeline.id))
        return prepared

    monkeypatch.setattr(triggers, "prepare", prepare_and_be_late)

    with pytest.raises(NotFound):
        triggers.run(pipeline)

    assert not Run.objects.exists()
