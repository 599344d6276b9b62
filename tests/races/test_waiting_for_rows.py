"""Who waits for a row that another holds keeps nobody else waiting, and nobody in a circle."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from pipelines import definitions, upstreams
from pipelines.models import Pipeline
from runs import queue
from runs.models import Worker
from tests.factories import accept_run, make_pipeline, register_worker, save_pipeline
from tests.programs import wait_for
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
