"""`/metrics`, as Prometheus reads it."""

import base64
import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from runs import queue, retention, scheduler_looks, tallies, transitions, triggers
from runs.artifacts import ArtifactStore
from runs.models import NodeRun, Run, Tally
from runs.states import RunStatus
from system import health, metrics
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker, sql_node
from tests.history import many_runs, past_pipeline
from tests.plans import analyse, only_indexed
from tests.programs import database_url

# The figures are read over a connection of its own, which sees what is committed.
pytestmark = pytest.mark.django_db(transaction=True)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
TOKEN = "a-token-of-prometheus"


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    tallies._unwritten.take()
    for module in (metrics, health):
        module.forget()
    yield
    for module in (metrics, health):
        module.forget()


def scrape(api: Client, **headers: str) -> Samples:
    metrics.forget()
    response = api.get("/metrics", headers=headers)
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(response.content.decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def started(node_type: str = "sql") -> tuple[transitions.Lease, NodeRun]:
    """A run under way, and its node, which has just started."""
    run = accept_run(make_pipeline([sql_node("only", "SELECT 1 AS x")], []))
    lease = claim_one(register_worker())
    NodeRun.objects.filter(run=run).update(type=node_type)
    node = NodeRun.objects.get(run=run)
    with transitions.fenced(lease):
        transitions.start_node(node)
    return lease, node


def test_what_there_is_now(api: Client) -> None:
    worker = register_worker()
    queue.heartbeat(register_worker().id, draining=True)
    scheduler_looks.note()
    accept_run()
    claim_one(worker)
    waiting, parked = accept_run(), accept_run()
    Run.objects.filter(id=waiting.id).update(created_at=timezone.now() - dt.timedelta(minutes=5))
    Run.objects.filter(id=parked.id).update(not_before=timezone.now() + dt.timedelta(minutes=1))
    found = scrape(api)
    assert [value(found, "brokoli_runs", state=state) for state in ("waiting", "parked", "running")] == [1, 1, 1]
    assert 300 <= (value(found, "brokoli_queue_oldest_seconds") or 0) < 400
    assert [value(found, "brokoli_workers", state=state) for state in ("alive", "draining", "dead")] == [1, 1, 0]
    assert (value(found, "brokoli_worker_slots"), value(found, "brokoli_database_up")) == (1, 1)
    assert abs((value(found, "brokoli_scheduler_last_look_timestamp_seconds") or 0) - timezone.now().timestamp()) < 60
    assert (value(found, "brokoli_events_newest_seq") or 0) > 0
    assert value(found, "brokoli_events_lag_seconds") == 0
    assert value(found, "brokoli_notifications_waiting") == 0
    assert (value(found, "process_resident_memory_bytes") or 0) > 1_000_000


def test_of_an_empty_installation(api: Client) -> None:
    found = scrape(api)
    assert [value(found, "brokoli_runs_ended_total", status=status) for status in ("success", "failed", "cancelled")] == [0, 0, 0]
    assert value(found, "brokoli_queue_oldest_seconds") == 0
    assert value(found, "brokoli_scheduler_last_look_timestamp_seconds") is None


def test_ends_are_counted_with_how_long_they_took(api: Client) -> None:
    lease, node = started()
    moment = timezone.now() - dt.timedelta(seconds=7)
    NodeRun.objects.filter(id=node.id).update(started_at=moment)
    Run.objects.filter(id=lease.run_id).update(started_at=moment)
    node.refresh_from_db()
    with transitions.fenced(lease):
        transitions.fail_node(node, "broken")
    queue.finish(lease, RunStatus.FAILED, "broken")
    triggers.cancel(accept_run().id)
    found = scrape(api)
    assert [value(found, "brokoli_runs_ended_total", status=status) for status in ("success", "failed", "cancelled")] == [0, 1, 1]
    labels = {"type": "sql", "status": "failed"}
    buckets = [value(found, "brokoli_node_duration_seconds_bucket", le=le, **labels) for le in ("0.01", "5.0", "10.0", "7200.0", "+Inf")]
    assert buckets == [0, 0, 1, 1, 1]
    assert 7 <= (value(found, "brokoli_node_duration_seconds_sum", **labels) or 0) < 60
    assert value(found, "brokoli_run_duration_seconds_count", status="failed") == 1
    assert value(found, "brokoli_run_duration_seconds_count", status="cancelled") is None  # it never started


def test_what_was_rolled_back_is_not_counted(api: Client) -> None:
    lease, node = started()
    with pytest.raises(ZeroDivisionError), transitions.fenced(lease):
        transitions.fail_node(node, "broken")
        1 / 0  # noqa: B018
    assert value(scrape(api), "brokoli_node_duration_seconds_count", type="sql", status="failed") is None


def test_nodes_that_end_with_their_run_count_and_those_that_never_started_do_not(api: Client) -> None:
    lease, _ = started()
    run = Run.objects.get(id=lease.run_id)
    transitions.request_cancel(run, force=True)
    queue.finish(lease, RunStatus.CANCELLED)
    end_run(accept_run(), RunStatus.CANCELLED)
    found = scrape(api)
    assert value(found, "brokoli_node_duration_seconds_count", type="sql", status="cancelled") == 1
    assert value(found, "brokoli_runs_ended_total", status="cancelled") == 2


def test_a_purge_takes_nothing_from_what_was_counted(api: Client) -> None:
    for _ in range(3):
        end_run(accept_run(), RunStatus.SUCCESS)
    before = value(scrape(api), "brokoli_runs_ended_total", status="success")
    Run.objects.update(finished_at=timezone.now() - dt.timedelta(days=99))
    assert retention.purge(30, ArtifactStore(settings.ARTIFACTS)).runs == 3
    assert value(scrape(api), "brokoli_runs_ended_total", status="success") == before == 3


def test_types_that_nobody_knows_are_one(api: Client) -> None:
    for name in ('x"} 1\nforged{y="', "\\", "é" * 100):
        lease, node = started(name)
        with transitions.fenced(lease):
            transitions.fail_node(node, "there is no such type")
    found = scrape(api)
    assert value(found, "brokoli_node_duration_seconds_count", type="unknown", status="failed") == 3
    assert not any(name.startswith("forged") for name, _ in found)


def test_hostile_labels_are_escaped(api: Client) -> None:
    hostile = 'sql"} 1\nforged{a="\\'
    Tally.objects.create(name=tallies.NODE, label=hostile, status="failed", buckets=[1] + [0] * len(tallies.BOUNDS), total=0.001)
    found = scrape(api)
    assert value(found, "brokoli_node_duration_seconds_count", type=hostile, status="failed") == 1
    assert not any(name.startswith("forged") for name, _ in found)


def test_what_was_counted_with_other_bounds_begins_anew(api: Client) -> None:
    Tally.objects.create(name=tallies.RUN, status="success", buckets=[5, 5], total=10)
    assert value(scrape(api), "brokoli_runs_ended_total", status="success") == 0
    end_run(accept_run(), RunStatus.SUCCESS)
    assert value(scrape(api), "brokoli_runs_ended_total", status="success") == 1


class TestRequests:
    def count(self, api: Client, **labels: str) -> float:
        return value(scrape(api), "brokoli_http_request_duration_seconds_count", **labels) or 0

    def test_they_are_counted_by_route(self, api: Client) -> None:
        labels = {"method": "GET", "route": "/api/runs/<str:run_id>", "status": "404"}
        before = self.count(api, **labels)
        for n in range(3):
            api.get(f"/api/runs/{n}")
        assert self.count(api, **labels) == before + 3

    def test_addresses_and_methods_of_strangers_make_no_series(self, api: Client) -> None:
        self.count(api)
        unknown = {"method": "OTHER", "route": "(unmatched)", "status": "404"}
        before, series = self.count(api, **unknown), len(scrape(api))
        for n in range(20):
            api.generic(f"BREW{n}", f"/nowhere/{n}")
        assert self.count(api, **unknown) == before + 20
        assert len(scrape(api)) <= series + 15  # one histogram

    def test_probes_count_too(self, api: Client) -> None:
        labels = {"method": "GET", "route": "/livez", "status": "200"}
        before = self.count(api, **labels)
        api.get("/livez")
        assert self.count(api, **labels) == before + 1


class TestWhoMayRead:
    def basic(self, *rights: str) -> str:
        user = User.objects.create_user("somebody", password="a long enough one")
        for right in rights:
            app, codename = right.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        return "Basic " + base64.b64encode(b"somebody:a long enough one").decode()

    def status(self, **headers: str) -> int:
        health.forget()
        return Client(headers={"host": "localhost", **headers}).get("/metrics").status_code

    def test_a_user_with_the_right(self) -> None:
        assert self.status(authorization=self.basic("pipelines.view")) == 403
        User.objects.all().delete()
        assert self.status(authorization=self.basic("runs.view")) == 200
        assert self.status() == 401

    def test_local_mode_is_for_this_machine_alone(self) -> None:
        assert self.status() == 200
        for headers in ({"x-forwarded-for": "1.2.3.4"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            assert self.status(**headers) == 401

    @pytest.mark.parametrize("host", ["localhost", "10.1.2.3:8080"])
    def test_the_token(self, settings: Any, host: str) -> None:
        User.objects.create_user("somebody")
        settings.METRICS_TOKEN = TOKEN
        assert self.status(host=host, authorization=f"Bearer {TOKEN}") == 200
        for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer é"):
            assert self.status(authorization=wrong) == 401

    def test_without_a_token_set_none_opens(self, settings: Any) -> None:
        User.objects.create_user("somebody")
        settings.METRICS_TOKEN = ""
        assert {self.status(authorization=header) for header in ("Bearer", "Bearer ", "bearer  ")} == {401}


def test_while_nothing_can_be_written_everything_is_told(api: Client) -> None:
    """A lock, or a database that takes reads only: what this process has counted waits, and the figures are told."""
    end_run(accept_run(), RunStatus.CANCELLED)
    tallies.flush()
    end_run(accept_run(), RunStatus.CANCELLED)
    with locked():
        found = scrape(api)
    assert found["brokoli_database_up", frozenset()] == 1
    ended = ("brokoli_runs_ended_total", frozenset({("status", "cancelled")}))
    assert found[ended] == 1
    assert scrape(api)[ended] == 2


@contextmanager
def locked() -> Iterator[None]:
    """Somebody else holds what a write needs."""
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(database_url()) as other_server:
            other_server.execute("LOCK TABLE runs_tally IN EXCLUSIVE MODE")
            yield


def test_a_long_history_costs_nothing(django_assert_num_queries: Any) -> None:
    pipeline = past_pipeline()
    many_runs(pipeline, 50)
    analyse()
    with CaptureQueriesContext(connection) as queries:
        metrics.read_figures()
    many_runs(pipeline, 3000)
    for _ in range(3):
        accept_run()
        end_run(accept_run(), RunStatus.CANCELLED)
    tallies.flush()
    analyse()
    with only_indexed("runs_run"), django_assert_num_queries(len(queries)):
        metrics.read_figures()
    assert len(queries) <= 9
