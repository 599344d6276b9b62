"""Who waits for a row that another holds keeps nobody else waiting, and nobody in a circle."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from pipelines import definitions, upstreams
from pipelines.models import Pipeline
from runs import queue
from runs.control import Resources
from runs.models import Run, Worker
from runs.worker import WorkerOptions
from tests.conftest import StartWorker
from tests.factories import accept_run, claim_one, make_pipeline, register_worker, save_pipeline
from tests.programs import wait_for
from tests.races.test_database_away import TidyWorker, resources  # noqa: F401 - a fixture
from tests.races.test_races import at_once

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one write lock and no locks of rows"),
]


def waiting() -> int:
    """Sessions that wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])


@contextmanager
def in_a_thread(action: Any) -> Iterator[list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(at_once(action)))
    thread.start()
    try:
        yield results
    finally:
        thread.join(timeout=30)


def test_a_claim_that_waits_for_a_pipeline_keeps_its_worker_alive() -> None:
    """A backfill of a thousand runs holds the row of its pipeline for seconds."""
    pipeline, worker = make_pipeline(), register_worker()
    Pipeline.objects.filter(id=pipeline.id).update(max_active_runs=1)
    run = accept_run(pipeline)
    # In this order: the row is let go before the thread is waited for.
    with in_a_thread(lambda: queue.claim(worker.id, 1)) as claimed, transaction.atomic():
        assert Pipeline.objects.select_for_update(no_key=True).filter(id=pipeline.id).exists()
        wait_for(lambda: waiting() == 1 or claimed, 10, "the claim to wait")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
        assert queue.heartbeat(worker.id)
    assert [lease.run_id for lease in claimed[0]] == [run.id]
    assert Worker.objects.get().beat == 1


def test_a_save_with_upstreams_and_who_holds_several_pipelines_do_not_wait_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = save_pipeline("First"), save_pipeline("Second")
    assert first.id < second.id
    keep, rival = upstreams.keep, threading.Event()
    held: list[Any] = []

    def hold_both() -> int:
        with transaction.atomic():  # as a claim does of limited pipelines, and the settling of an end of its downstreams
            rows = Pipeline.objects.select_for_update(no_key=True).filter(id__in=[first.id, second.id]).order_by("id")
            return len(rows)

    thread = threading.Thread(target=lambda: held.extend(at_once(hold_both)))

    def keep_later(*arguments: Any, **keys: Any) -> None:
        if not rival.is_set():
            rival.set()
            thread.start()
            wait_for(lambda: waiting() == 1, 10, "the rival to wait")
        keep(*arguments, **keys)

    monkeypatch.setattr(upstreams, "keep", keep_later)
    try:
        definitions.patch(second.id, {"depends_on": ["first"]})
    finally:
        thread.join(timeout=30)
    assert held == [2]


def test_who_takes_over_from_a_frozen_worker_beats_on(resources: Callable[..., Resources]) -> None:  # noqa: F811
    """Frozen in the middle of a transaction, a worker holds the row of its run for as long as the server lets it."""
    run, frozen = accept_run(), register_worker(lease_seconds=1)
    claim_one(frozen)
    worker = TidyWorker(WorkerOptions(1, 3, 3, 1), resources)
    thread = threading.Thread(target=lambda: at_once(worker.run))
    with transaction.atomic():
        assert Run.objects.select_for_update(no_key=True).filter(id=run.id).exists()
        thread.start()
        try:
            wait_for(lambda: waiting() == 1, 20, "the reaper to wait")
            (beaten,) = Worker.objects.exclude(id=frozen.id).values_list("beat", flat=True)
            wait_for(lambda: Worker.objects.filter(beat__gte=beaten + 3).exclude(id=frozen.id).exists(), 10, "three more beats")
        finally:
            worker.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_the_server_ends_a_transaction_that_its_client_forgot(start_program: StartWorker) -> None:
    """The product's own settings, in a process of its own."""
    question = "SHOW idle_in_transaction_session_timeout"
    script = f"from django.db import connection; cursor = connection.cursor(); cursor.execute('{question}'); print(cursor.fetchone())"
    program = start_program("shell", "--no-imports", "-c", script)
    assert program.wait() == 0
    assert "('5s',)" in program.output
