"""`GET /api/workers`."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs import queue
from runs.models import Run, Worker
from runs.tenure import clock
from system import workers
from tests.factories import accept_run, claim_one, register_worker

pytestmark = pytest.mark.django_db


def listed(api: Client) -> list[dict[str, Any]]:
    response = api.get("/api/workers")
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()
    return found


def elsewhere(name: str, seconds: float, **fields: Any) -> Worker:
    """A worker of another machine that was seen so many seconds ago."""
    now = timezone.now()
    seen_at = now - dt.timedelta(seconds=seconds)
    values: dict[str, Any] = {"hostname": "far", "pid": 1, "process": "far|1|1", "lease_seconds": 15, "started_at": now, "beaten": 1.0}
    return Worker.objects.create(id=name, seen_at=seen_at, **(values | fields))


def test_a_worker_with_what_it_executes(api: Client) -> None:
    worker = register_worker()
    run = accept_run()
    claim_one(worker)
    (shown,) = listed(api)
    assert shown.keys() == {"id", "hostname", "pid", "concurrency", "running", "runs", "draining", "alive", "started_at", "seen_at"}
    assert (shown["id"], shown["pid"], shown["concurrency"]) == (worker.id, worker.pid, 1)
    assert (shown["running"], shown["runs"]) == (1, [str(run.id)])
    assert (shown["draining"], shown["alive"]) == (False, True)
    assert shown["seen_at"].endswith("Z")


def test_draining_is_shown(api: Client) -> None:
    worker = register_worker()
    queue.heartbeat(worker.id, draining=True)
    assert [one["draining"] for one in listed(api)] == [True]


def test_a_neighbour_whose_process_is_gone_or_silent_is_dead(api: Client) -> None:
    gone, silent, alive = register_worker(), register_worker(), register_worker()
    Worker.objects.filter(id=gone.id).update(process=f"{gone.process}1")
    Worker.objects.filter(id=silent.id).update(beaten=clock() - 16)
    assert {one["id"]: one["alive"] for one in listed(api)} == {gone.id: False, silent.id: False, alive.id: True}


def test_a_clock_that_steps_kills_no_neighbour(api: Client) -> None:
    worker = register_worker()
    Worker.objects.filter(id=worker.id).update(seen_at=timezone.now() - dt.timedelta(hours=1))
    assert [one["alive"] for one in listed(api)] == [True]


def test_of_another_machine_the_last_beat_tells(api: Client) -> None:
    for name, seconds in (("fresh", 1), ("skewed", -20), ("late", 29), ("dead", 31)):
        elsewhere(name, seconds)
    assert {one["id"]: one["alive"] for one in listed(api)} == {"fresh": True, "skewed": True, "late": True, "dead": False}


def test_there_are_so_many_at_most_and_always_as_many_queries(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST", 3)
    counts = []
    for number in range(5):
        worker = elsewhere(f"w{number}", 0)
        for _ in range(2):
            run = accept_run()
            Run.objects.filter(id=run.id).update(status="running", owner=worker.id)
        with CaptureQueriesContext(connection) as queries:
            found = listed(api)
        counts.append(len(queries))
    assert len(set(counts)) == 1
    assert len(found) == 3
    assert {(one["running"], len(one["runs"])) for one in found} == {(2, 2)}


def test_without_workers_it_is_empty(api: Client) -> None:
    assert listed(api) == []
    assert api.get("/api/workers?alive=1").status_code == 400
    assert api.post("/api/workers").status_code == 405
