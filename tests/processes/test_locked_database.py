"""A real worker whose heartbeat cannot be written for longer than its lease, and no other worker to take over."""

import time

import pytest
from django.db import transaction

from runs.models import Run, Worker
from tests.conftest import StartWorker
from tests.factories import accept_run, make_pipeline, sql_node
from tests.programs import wait_for

_LOCKED_SECONDS = 3.0  # of a lease of 2
LONG = "SELECT count(*) AS n FROM range(600000000) AS t(i) WHERE sqrt(i)::BIGINT % 7 = 3"


@pytest.mark.slow
def test_a_lone_worker_that_could_not_beat_still_ends_its_run(start_worker: StartWorker) -> None:
    run = accept_run(make_pipeline([sql_node("long", LONG)], []))
    worker = start_worker(BROKOLI_LEASE_SECONDS="2")
    worker.wait_for(lambda: run.node_runs.filter(status="running").exists(), what="the node to start")

    with transaction.atomic():
        Worker.objects.select_for_update().get()  # SQLite: nobody can write; PostgreSQL: the worker cannot beat
        until = time.monotonic() + _LOCKED_SECONDS
        wait_for(lambda: time.monotonic() >= until)

    worker.wait_for(lambda: not Run.objects.active().exists(), 90, "the run to end")
    run.refresh_from_db()
    assert (run.status, run.deaths) == ("success", 0)
