"""Listings over 100,000 runs: each query walks an index, and there are as many of them as for ten runs."""

import datetime as dt
import time
from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from pipelines.models import Pipeline
from runs.day_counts import DAY, between
from runs.models import Run
from tests.history import START, many_runs, past_pipeline
from tests.plans import analyse, only_indexed, plan, reads_everything

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

RUNS = 100_000


@pytest.fixture(scope="module")
def pipeline(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Pipeline]:
    """A pipeline with a long history beside a younger one. Made once, and gone with the transaction around these tests."""
    with django_db_blocker.unblock(), transaction.atomic():
        old = past_pipeline()
        many_runs(old, RUNS)
        many_runs(past_pipeline("young", "Young"), 10, trigger="schedule")
        analyse()
        yield old
        transaction.set_rollback(True)


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


MIDDLE = (START + dt.timedelta(minutes=RUNS // 2)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?page=1",
        "?page=1500&per_page=50",
        "?status=failed",
        "?status=cancelled&page=1",
        "?trigger=schedule",
        "?trigger=webhook&page=1",
        f"?since={MIDDLE}",
        f"?until={MIDDLE}&page=3",
        f"?status=failed&until={MIDDLE}",
    ],
)
@pytest.mark.parametrize("path", ["/api/runs", "/api/pipelines/orders/runs"])
def test_listings_walk_an_index(client: Client, pipeline: Pipeline, path: str, query: str) -> None:
    started = time.perf_counter()
    with only_indexed("runs_run") as captured:
        assert client.get(path + query).status_code == 200
    print(f"{path}{query}: {(time.perf_counter() - started) * 1000:.0f} ms")  # for the reader; a machine's speed is no test
    assert len(captured) <= 6


@pytest.mark.parametrize(("query", "bound"), [(f"since={MIDDLE}", '"runs_run"."id" >= '), (f"until={MIDDLE}", '"runs_run"."id" <= ')])
def test_a_range_of_times_is_a_range_of_the_index(client: Client, pipeline: Pipeline, query: str, bound: str) -> None:
    with only_indexed("runs_run") as captured:
        assert client.get(f"/api/pipelines/orders/runs?{query}&page=1").status_code == 200
    assert len([one for one in captured.captured_queries if bound in one["sql"]]) == 2  # the count, and the keys of the page


def test_a_total_counts_all_up_to_its_limit(client: Client, pipeline: Pipeline) -> None:
    assert client.get("/api/pipelines/orders/runs?page=2000&per_page=50").json()["total"] == RUNS
    assert Run.objects.count() == RUNS + 10
    assert client.get("/api/runs?page=1").json()["total"] == RUNS


def test_a_far_page_holds_the_oldest_runs(client: Client, pipeline: Pipeline) -> None:
    items = client.get("/api/pipelines/orders/runs?page=2000&per_page=50").json()["items"]
    assert (len(items), items[-1]["created_at"]) == (50, "2024-01-15T06:00:00.000Z")


@pytest.mark.parametrize("of_one", [False, True])
def test_a_day_is_a_range_of_an_index(pipeline: Pipeline, of_one: bool) -> None:
    midnights = [START.replace(hour=0) + DAY * days for days in range(30)]
    with CaptureQueriesContext(connection) as captured:
        counts = between(midnights, [midnight + DAY for midnight in midnights], pipeline.id if of_one else None)
    assert [sum(found.values()) for found in counts] == [18 * 60 + (0 if of_one else 10)] + [24 * 60] * 29
    (query,) = captured.captured_queries
    assert not reads_everything(plan(query["sql"]), "runs_run")
