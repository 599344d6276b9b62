"""A worker's heart beats on although others hold SQLite's one write lock: the real thread of the worker, and a connection that is in its way."""

import contextlib
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from runs.control import Resources
from runs.models import Worker
from runs.tenure import clock
from runs.worker import WorkerOptions, WorkerProcess
from tests.patience import within
from tests.programs import wait_for
from tests.races.test_database_away import resources  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]  # PostgreSQL has no such lock


@contextmanager
def beating(opened: Resources, lease_seconds: int) -> Iterator[WorkerProcess]:
    """A worker of which nothing is at work but its heart."""
    worker = WorkerProcess(WorkerOptions(1, lease_seconds, 3, 1), lambda: opened)
    worker._register()
    heart = threading.Thread(target=worker._keep_alive, daemon=True)
    heart.start()
    try:
        yield worker
    finally:
        worker._ended.set()
        heart.join(within(30))
        assert not heart.is_alive()


def beats() -> int:
    return Worker.objects.get().beat


def next_beat(after: int) -> int:
    return wait_for(lambda: beats() > after and beats(), what="a beat")


@pytest.mark.slow
def test_a_beat_that_waited_for_the_lock_counts_from_its_last_try(resources: Callable[..., Resources]) -> None:  # noqa: F811
    lease_seconds = math.ceil(within(3))
    burst_seconds = lease_seconds / 2  # of which a beat waits for more than half: five begin a lease
    with (
        beating(resources(), lease_seconds) as worker,
        contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as rival,
    ):
        name = worker._tenure.worker_id
        for _ in range(2):
            seen = next_beat(beats())
            rival.execute("BEGIN IMMEDIATE")
            until = clock() + burst_seconds
            wait_for(lambda: clock() >= until)  # noqa: B023 - it is called at once
            assert beats() == seen, "the rival did not hold the lock"
            beaten = worker._tenure.beaten
            released = clock()
            rival.execute("ROLLBACK")

            next_beat(seen)
            wait_for(lambda: worker._tenure.beaten != beaten, what="the worker to hear that its beat was written")  # noqa: B023 - as above

            assert worker._tenure.beaten > released - min(within(0.4), burst_seconds / 2), (
                "a beat counts from where it began to wait, long before it was written"
            )
            assert worker._tenure.holds()
        assert Worker.objects.get().id == name
