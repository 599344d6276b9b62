"""Several workers find the last free place of a limit at the same moment: one gets it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from pipelines.models import Pipeline
from runs import queue, worker
from runs.control import Resources
from runs.models import Backfill, Run
from runs.states import RunStatus
from runs.transitions import Lease
from tests.factories import accept_run, make_pipeline, register_worker
from tests.programs import wait_for
from tests.races.test_database_away import resources  # noqa: F401 - a fixture
from tests.races.test_pools import Crowd, working
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def limited_pipeline(limit: int, runs: int) -> Pipeline:
    pipeline = make_pipeline()
    Pipeline.objects.filter(id=pipeline.id).update(max_active_runs=limit)
    for _ in range(runs):
        accept_run(pipeline)
    return pipeline


def limited_backfill(limit: int, runs: int) -> Backfill:
    pipeline = make_pipeline()
    made = Backfill.objects.create(pipeline=pipeline, start="2024-01-01", end="2024-01-31", max_active=limit, created_at=timezone.now())
    for _ in range(runs):
        Run.objects.filter(id=accept_run(pipeline).id).update(backfill=made)
    return made


@pytest.mark.parametrize("make", [limited_pipeline, limited_backfill])
def test_eight_workers_never_start_more_than_the_limit(make: Callable[[int, int], object]) -> None:
    make(3, 24)
    workers = [register_worker() for _ in range(8)]
    ended = 0
    while ended < 24:
        results = at_once(*(partial(queue.claim, worker.id, 2) for worker in workers))

        leases = [lease for result in results for lease in result]
        assert len(leases) == Run.objects.filter(status=RunStatus.RUNNING).count() == 3, results
        for lease in leases:
            queue.finish(lease, RunStatus.SUCCESS)
        ended += len(leases)


def test_workers_that_hold_several_limits_do_not_wait_in_a_circle() -> None:
    """Each round, the queue's order sets the workers on other pipelines first."""
    pipelines = [limited_pipeline(1, 0) for _ in range(4)]
    workers = [register_worker() for _ in range(4)]
    for _ in range(5):
        for priority in range(4):
            for number, pipeline in enumerate(pipelines):
                accept_run(pipeline, priority=(number + priority) % 4)

        results = at_once(*(partial(queue.claim, worker.id, 4) for worker in workers))

        assert not [result for result in results if isinstance(result, Exception)], results
        leases = [lease for result in results for lease in result]
        running = Run.objects.filter(status=RunStatus.RUNNING)
        assert len(leases) == running.count() == running.values("pipeline_id").distinct().count() == 4
        for lease in leases:
            queue.finish(lease, RunStatus.SUCCESS)


def test_a_place_that_a_rival_took_after_it_was_seen_free(monkeypatch: pytest.MonkeyPatch) -> None:
    limited_pipeline(1, 2)
    mine, rivals = register_worker(), register_worker()
    original = queue._claim_once
    won: list[object] = []

    def rival_first(worker_id: str, *arguments: Any) -> Any:
        if worker_id == mine.id and not won:
            won.extend(at_once(partial(queue.claim, rivals.id, 1))[0])
        return original(worker_id, *arguments)

    monkeypatch.setattr(queue, "_claim_once", rival_first)

    assert queue.claim(mine.id, 1) == []
    assert [type(lease) for lease in won] == [Lease]
    assert Run.objects.filter(status=RunStatus.RUNNING).count() == 1


def test_the_next_is_claimed_when_one_ends(resources: Callable[..., Resources], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """By whichever worker, without waiting for its next poll."""
    monkeypatch.setattr(worker, "_POLL_SECONDS", 60.0)
    limited_pipeline(1, 6)
    crowd = Crowd(0.02)

    with working(resources(crowd, node_concurrency=1), resources(crowd, node_concurrency=1)):
        wait_for(lambda: not Run.objects.active().exists(), 20, "the runs to end")

    assert set(Run.objects.values_list("status", flat=True)) == {"success"}
    assert crowd.most == 1
