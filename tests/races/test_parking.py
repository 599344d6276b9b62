"""A run that parks meets a cancel, a reaper and a rival's claim at that moment. Whoever wins: nothing is lost, nothing happens twice."""

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from runs import queue, transitions, triggers
from runs.models import LogEntry, NodeRun, Run
from runs.states import RunStatus
from runs.transitions import Lease, LeaseLost
from tests.db.test_parking import Looks, waiting_pipeline
from tests.factories import accept_run, claim_one, register_worker
from tests.races.test_database_away import ends_of, fail_once, resources, work_until_empty  # noqa: F401 - a fixture
from tests.races.test_races import at_once, rival_between

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 10


def executing() -> tuple[Run, Lease]:
    run = accept_run()
    return run, claim_one(register_worker())


def park(lease: Lease, seconds: float = 30.0) -> None:
    queue.park(lease, seconds, announced=True)


def parked() -> Run:
    run, lease = executing()
    park(lease)
    return run


def make_due(run: Run) -> None:
    Run.objects.filter(id=run.id).update(not_before=timezone.now() - dt.timedelta(seconds=1))


def facts(run: Run) -> tuple[str, str, int]:
    run.refresh_from_db()
    return str(run.status), run.owner, ends_of(run)


# --- cancel -----------------------------------------------------------------------------------------------------------------


def test_park_after_a_cancel_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    run, lease = executing()
    rival_between(monkeypatch, "park_run", lambda: triggers.cancel(run.id))

    park(lease)

    assert facts(run) == ("cancelled", "", 1)
    assert set(NodeRun.objects.filter(run=run).values_list("status", flat=True)) == {"cancelled"}


def test_cancel_after_a_parking_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    run, lease = executing()
    rival_between(monkeypatch, "request_cancel", lambda: park(lease))

    assert triggers.cancel(run.id).status == "cancelled"
    assert facts(run) == ("cancelled", "", 1)


def test_cancel_and_park_at_once() -> None:
    for _ in range(ROUNDS):
        run, lease = executing()
        cancelled, _ = at_once(partial(triggers.cancel, run.id), partial(park, lease))
        assert isinstance(cancelled, Run), cancelled
        assert facts(run) == ("cancelled", "", 1)


def test_a_cancel_and_the_claim_of_a_due_run_at_once() -> None:
    worker = register_worker()
    for _ in range(ROUNDS):
        run = parked()
        make_due(run)
        cancelled, leases = at_once(partial(triggers.cancel, run.id), partial(queue.claim, worker.id, 1))
        assert isinstance(cancelled, Run), cancelled
        if leases:
            park(leases[0])
        assert facts(run) == ("cancelled", "", 1)


# --- reaping ----------------------------------------------------------------------------------------------------------------


def give_up(lease: Lease) -> int:
    return queue.give_up(lease.owner, beat=0, reason="it died", died=True, max_deaths=3)


def test_park_after_a_reaping_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is another's by now: it does not park it."""
    run, lease = executing()
    rival_between(monkeypatch, "park_run", lambda: give_up(lease))

    with pytest.raises(LeaseLost):
        park(lease)

    run.refresh_from_db()
    assert (run.status, run.not_before, run.deaths) == ("pending", None, 1)


def test_reap_after_a_parking_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parked run is nobody's: its last worker's death is none of its own."""
    run, lease = executing()
    run.refresh_from_db()
    rival_between(monkeypatch, "release_run", lambda: park(lease))

    assert transitions.release_run(run, "it died", died=True, max_deaths=3) is None

    run.refresh_from_db()
    assert (run.status, run.deaths) == ("pending", 0)
    assert run.not_before is not None


# --- claims -----------------------------------------------------------------------------------------------------------------


def test_a_claim_after_another_look_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """It read that the run is due; meanwhile another worker has looked and parked it again."""
    run, first, second = parked(), register_worker(), register_worker()
    make_due(run)
    original: Callable[..., Any] = queue._claim_once
    looked: list[bool] = []

    def late(*arguments: Any) -> Any:
        if not looked:
            looked.append(True)
            at_once(lambda: park(queue.claim(second.id, 1)[0]))
        return original(*arguments)

    monkeypatch.setattr(queue, "_claim_once", late)

    assert queue.claim(first.id, 1) == []
    assert facts(run) == ("pending", "", 0)


def test_two_claims_of_a_due_run_at_once() -> None:
    workers = [register_worker() for _ in range(4)]
    for _ in range(ROUNDS):
        run = parked()
        make_due(run)
        leases = [lease for found in at_once(*(partial(queue.claim, worker.id, 1) for worker in workers)) for lease in found]
        assert [(lease.run_id, lease.announced) for lease in leases] == [(run.id, False)]
        queue.finish(leases[0], RunStatus.SUCCESS)


# --- the database goes away -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after it"])
@pytest.mark.parametrize("name", ["park_run", "park_node", "look_again"])
def test_a_database_that_is_away_while_a_run_parks(resources: Any, monkeypatch: pytest.MonkeyPatch, name: str, after: bool) -> None:  # noqa: F811
    looks = Looks(1, 1, None)
    run = accept_run(waiting_pipeline())
    failed = fail_once(monkeypatch, transitions, name, after=after)

    work_until_empty(resources(looks))

    assert failed.is_set()
    assert facts(run) == ("success", "", 1)
    assert set(NodeRun.objects.filter(run=run).values_list("attempt", flat=True)) == {1}
    assert LogEntry.objects.filter(run=run, kind="node.waiting").count() == 1
