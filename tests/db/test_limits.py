"""`max_active_runs` of a pipeline and `max_active` of a backfill, one worker at a time. Races are in tests/races."""

import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pipelines.models import Pipeline
from runs import queue, triggers
from runs.models import Backfill, Run, Worker
from runs.states import RunStatus
from runs.transitions import Lease
from tests.factories import accept_run, make_pipeline, register_worker
from tests.history import past_pipeline, past_run
from tests.plans import analyse, only_indexed

pytestmark = pytest.mark.django_db


def limited(limit: int | None, name: str = "Limited") -> Pipeline:
    pipeline = make_pipeline(name=name)
    pipeline.max_active_runs = limit
    pipeline.save()
    return pipeline


def backfill(pipeline: Pipeline, max_active: int | None, runs: int) -> list[Run]:
    made = Backfill.objects.create(
        pipeline=pipeline, start="2024-01-01", end="2024-01-31", max_active=max_active, run_count=runs, created_at=timezone.now()
    )
    accepted = [accept_run(pipeline) for _ in range(runs)]
    Run.objects.filter(id__in=[run.id for run in accepted]).update(backfill=made)
    return accepted


def claimed(worker: Worker, limit: int) -> list[object]:
    return [lease.run_id for lease in queue.claim(worker.id, limit)]


def lease_of(run: Run) -> Lease:
    run.refresh_from_db()
    return Lease(run.id, run.owner, run.epoch)


def test_no_more_runs_than_the_limit_of_their_pipeline_execute() -> None:
    pipeline, worker = limited(2), register_worker()
    first, second, third, fourth = (accept_run(pipeline) for _ in range(4))

    assert claimed(worker, 4) == [first.id, second.id]
    assert claimed(worker, 4) == []
    queue.finish(lease_of(first), RunStatus.SUCCESS)
    assert claimed(worker, 4) == [third.id]
    queue.finish(lease_of(second), RunStatus.FAILED, "no luck")
    assert claimed(worker, 4) == [fourth.id]


def test_those_behind_a_full_pipeline_are_served() -> None:
    pipeline, free, worker = limited(1), make_pipeline(name="Free"), register_worker()
    urgent = [accept_run(pipeline, priority=5) for _ in range(3)]
    others = [accept_run(free) for _ in range(3)]

    assert claimed(worker, 3) == [urgent[0].id, others[0].id, others[1].id]
    assert claimed(worker, 3) == [others[2].id]


def test_a_run_that_went_back_takes_no_place() -> None:
    pipeline, worker = limited(1), register_worker()
    first, second = accept_run(pipeline), accept_run(pipeline)
    assert claimed(worker, 2) == [first.id]

    queue.release(lease_of(first), "its worker was told to stop")

    assert claimed(worker, 2) == [first.id]
    triggers.cancel(second.id)


def test_the_limit_is_that_of_now() -> None:
    pipeline, worker = limited(1), register_worker()
    runs = [accept_run(pipeline) for _ in range(4)]
    assert claimed(worker, 4) == [runs[0].id]

    Pipeline.objects.filter(id=pipeline.id).update(max_active_runs=2)
    assert claimed(worker, 4) == [runs[1].id]
    Pipeline.objects.filter(id=pipeline.id).update(max_active_runs=None)
    assert claimed(worker, 4) == [runs[2].id, runs[3].id]


def test_no_more_runs_than_the_limit_of_their_backfill_execute() -> None:
    pipeline, worker = make_pipeline(), register_worker()
    dates = backfill(pipeline, 2, runs=4)
    unlimited = backfill(pipeline, None, runs=2)
    other = accept_run(pipeline)

    assert claimed(worker, 9) == [dates[0].id, dates[1].id, unlimited[0].id, unlimited[1].id, other.id]
    queue.finish(lease_of(dates[1]), RunStatus.SUCCESS)
    assert claimed(worker, 9) == [dates[2].id]


def test_both_limits_hold() -> None:
    pipeline, worker = limited(3), register_worker()
    dates = backfill(pipeline, 2, runs=3)
    others = [accept_run(pipeline) for _ in range(3)]

    assert claimed(worker, 9) == [dates[0].id, dates[1].id, others[0].id]
    queue.finish(lease_of(others[0]), RunStatus.SUCCESS)
    assert claimed(worker, 9) == [others[1].id]
    queue.finish(lease_of(dates[0]), RunStatus.SUCCESS)
    assert claimed(worker, 9) == [dates[2].id]


def test_what_has_no_limit_costs_no_query() -> None:
    worker = register_worker()
    accept_run()
    with CaptureQueriesContext(connection) as queries:
        assert len(queue.claim(worker.id, 1)) == 1
    # SAVEPOINT and RELEASE of two blocks aside: look, check the worker, take, read, update, log.
    asked = [query["sql"] for query in queries.captured_queries if "SAVEPOINT" not in query["sql"]]
    assert len([sql for sql in asked if not sql.startswith("NOTIFY")]) == 6, asked


def test_a_long_queue_behind_a_limit_is_stepped_over_in_the_index() -> None:
    """10,000 runs wait for one that executes; a run without a limit waits behind them all."""
    worker = register_worker()
    pipeline = past_pipeline()
    Pipeline.objects.filter(id=pipeline.id).update(max_active_runs=1)
    version = pipeline.versions.get()
    Run.objects.bulk_create((past_run(pipeline, RunStatus.PENDING, version=version) for _ in range(10_000)), batch_size=500)
    assert len(queue.claim(worker.id, 1)) == 1
    last = accept_run(make_pipeline(name="Free"))
    analyse()

    started = time.perf_counter()
    assert list(Run.objects.claimable().values_list("id", flat=True)) == [last.id]
    print(f"10,000 runs behind a limit: {(time.perf_counter() - started) * 1000:.1f} ms")  # for the reader; a machine's speed is no test
    with only_indexed("runs_run", may_sort=100):  # what executes is grouped by its pipeline
        assert claimed(worker, 4) == [last.id]
    started = time.perf_counter()
    with CaptureQueriesContext(connection) as queries:
        assert claimed(worker, 4) == []
    print(f"to see that none may start: {(time.perf_counter() - started) * 1000:.1f} ms")
    assert len(queries) == 1
