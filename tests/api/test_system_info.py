"""`GET /api/system/info`."""

import datetime as dt
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from brokoli_site.common.version import VERSION
from runs import scheduler_looks
from runs.models import Worker
from runs.states import RunStatus
from tests.factories import register_worker, save_pipeline
from tests.history import saved_run
from tests.people import signed_in

pytestmark = pytest.mark.django_db


def test_what_it_tells(api: Client) -> None:
    pipeline = save_pipeline("orders")
    for status in (RunStatus.PENDING, RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUCCESS):
        saved_run(pipeline, status)
    found = api.get("/api/system/info").json()
    assert found.keys() == {
        *("version", "db_size", "db_size_mb", "pipelines", "active_runs", "max_concurrent_runs"),
        *("workers", "queued_runs", "database", "scheduler_last_tick"),
    }
    assert (found["version"], found["pipelines"], found["active_runs"], found["queued_runs"]) == (VERSION, 1, 1, 2)
    assert found["database"] == connection.vendor
    assert found["db_size"] > 100_000
    assert re.fullmatch(r"\d+\.\d\d MB", found["db_size_mb"])
    assert abs(float(found["db_size_mb"].split()[0]) - found["db_size"] / 1024**2) < 0.01


def test_the_workers_say_how_many_run_at_once(api: Client, settings: object) -> None:
    settings.WORKER_CONCURRENCY = 3  # type: ignore[attr-defined]
    found = api.get("/api/system/info").json()
    assert (found["workers"], found["max_concurrent_runs"], found["scheduler_last_tick"]) == (0, 3, None)
    for concurrency in (2, 5):
        worker = register_worker()
        Worker.objects.filter(id=worker.id).update(concurrency=concurrency)
    dead = register_worker()
    Worker.objects.filter(id=dead.id).update(process="", beaten=None, seen_at=timezone.now() - dt.timedelta(hours=1), concurrency=50)
    draining = register_worker()
    Worker.objects.filter(id=draining.id).update(draining=True, concurrency=50)
    scheduler_looks.note()
    found = api.get("/api/system/info").json()
    assert (found["workers"], found["max_concurrent_runs"]) == (3, 7)
    assert found["scheduler_last_tick"].endswith("Z")


def test_as_many_queries_however_much_there_is(api: Client) -> None:
    counts = set()
    for size in (0, 20):
        for number in range(size):
            saved_run(save_pipeline(f"p{number}"), RunStatus.PENDING)
        with CaptureQueriesContext(connection) as captured:
            api.get("/api/system/info")
        counts.add(len(captured))
    assert len(counts) == 1
    assert counts.pop() <= 7


def test_who_may(api: Client) -> None:
    assert api.get("/api/system/info?x=1").status_code == 400
    assert signed_in("pipelines.view").get("/api/system/info").status_code == 403
    assert signed_in("runs.view").get("/api/system/info").status_code == 200
    assert Client(headers={"host": "localhost"}).get("/api/system/info").status_code == 401
