"""A collector of OpenLineage events on a real socket: what it is told, in which order, and what becomes of it when it is away."""

import datetime as dt
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from brokoli_site.common.addresses import Allowed
from pipelines import connections, definitions
from pipelines.assets import naming
from pipelines.assets.values import Asset
from pipelines.column_lineage import identity
from pipelines.nodes.base import Column
from runs import log, queue, transitions
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.states import EntryKind, RunStatus
from system import health, openlineage
from system.models import OpenLineageCursor
from system.openlineage import Courier
from system.openlineage_datasets import Connections, Dataset
from system.openlineage_events import Writer
from tests import openlineage as spec
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker
from tests.receivers import Receiver, answer, receiver

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def collector(settings: Any) -> Iterator[Receiver]:
    settings.ALLOWED_NETWORKS = Allowed()  # the collector's own host needs none
    with receiver(answer(201)) as found:
        settings.OPENLINEAGE_URL = found.url("")
        yield found


def told(collector: Receiver) -> list[Any]:
    events = [one.json for one in collector.received]
    for event in events:
        spec.check(event)
    return events


def kinds(collector: Receiver) -> list[str]:
    return [str(event["eventType"]) for event in told(collector)]


def cursor() -> OpenLineageCursor:
    return OpenLineageCursor.objects.get()


def try_again_now() -> None:
    OpenLineageCursor.objects.update(retry_at=None)


def test_how_runs_go(collector: Receiver, settings: Any) -> None:
    settings.OPENLINEAGE_API_KEY, settings.OPENLINEAGE_NAMESPACE = "k3y", "shop"
    pipeline = make_pipeline()
    good = end_run(accept_run(pipeline), RunStatus.SUCCESS)
    bad = end_run(accept_run(pipeline), RunStatus.FAILED, "The file is not there.")
    never = accept_run(pipeline)
    assert transitions.cancel_pending_run(never)
    Courier().tell_all()
    events = told(collector)
    assert [(event["run"]["runId"], event["eventType"]) for event in events] == [
        *((str(good.id), "START"), (str(good.id), "COMPLETE"), (str(bad.id), "START"), (str(bad.id), "FAIL"), (str(never.id), "ABORT"))
    ]
    assert {(event["job"]["namespace"], event["job"]["name"]) for event in events} == {("shop", pipeline.pipeline_id)}
    assert events[3]["run"]["facets"]["errorMessage"]["message"] == "The file is not there."
    assert {(one.method, one.path, one.headers["authorization"]) for one in collector.received} == {("POST", "/api/v1/lineage", "Bearer k3y")}
    assert (cursor().sent, cursor().holder) == (5, "")
    Courier().tell_all()
    assert len(collector.received) == 5  # once


def test_a_run_that_another_worker_goes_on_with_starts_once(collector: Receiver) -> None:
    accept_run()
    queue.release(claim_one(register_worker()), "its worker drained")
    transitions.finish_run(claim_one(register_worker()), RunStatus.SUCCESS)
    Courier().tell_all()
    assert kinds(collector) == ["START", "COMPLETE"]


def test_what_is_read_and_written(collector: Receiver) -> None:
    connections.create("db", {"type": "postgres", "host": "DB.example.org", "schema": "shop", "password": "s3cret"})
    nodes = [
        {"id": "in", "type": "source_db", "name": "In", "config": {"conn_id": "db", "query": "SELECT * FROM orders"}},
        {"id": "out", "type": "sink_file", "name": "Out", "config": {"path": "out.csv"}},
    ]
    pipeline = definitions.create({"name": "P", "pipeline_id": "p", "nodes": nodes, "edges": [{"from": "in", "to": "out"}]}).pipeline
    run = accept_run(pipeline)
    lease = claim_one(register_worker())
    columns = (Column("id", "BIGINT"),)
    for node_id, lineage in (("in", None), ("out", identity("in", columns))):
        attempt = NodeRun.objects.get(run=run, node_id=node_id)
        with transitions.fenced(lease):
            log.append([transitions.start_node(attempt)])
            schema = [{"name": one.name, "type": one.type} for one in columns]
            measured: dict[str, Any] = {"artifact": "x", "row_count": 7, "byte_count": 1, "preview": [], "profile": {}}
            output = NodeOutput(run=run, node_id=node_id, schema=schema, lineage=lineage, created_at=timezone.now(), **measured)
            log.append([transitions.complete_node(attempt, 7, output)])
    transitions.finish_run(lease, RunStatus.SUCCESS)
    Courier().tell_all()
    events = told(collector)
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        *(("p", "START"), ("p.in", "START"), ("p.in", "COMPLETE"), ("p.out", "START"), ("p.out", "COMPLETE"), ("p", "COMPLETE"))
    ]
    source = {"namespace": "postgres://db.example.org:5432", "name": "shop.public.orders"}
    (read,), (written,) = events[-1]["inputs"], events[-1]["outputs"]
    assert source.items() <= read.items() and read["facets"]["schema"]["fields"] == [{"name": "id", "type": "BIGINT"}]
    assert written["namespace"] == "file" and written["name"].endswith("/data/out.csv")
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 7
    (field,) = written["facets"]["columnLineage"]["fields"]["id"]["inputFields"]
    assert source.items() <= field.items() and (field["field"], field["transformations"][0]["subtype"]) == ("id", "IDENTITY")
    assert events[1]["run"]["facets"]["parent"]["run"]["runId"] == str(run.id)
    assert events[1]["run"]["runId"] == events[2]["run"]["runId"] != events[3]["run"]["runId"]
    assert "s3cret" not in str(events)


def test_a_collector_that_was_away_misses_nothing(collector: Receiver) -> None:
    collector.reactions[:] = [answer(201), answer(503), answer(201)]
    end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    assert kinds(collector) == ["START", "COMPLETE"]  # the second was not taken
    state = cursor()
    assert (
        (state.failures, state.sent, state.problem) == (1, 1, "It answered 503.") and state.retry_at is not None and state.retry_at > timezone.now()
    )
    Courier().tell_all()
    assert len(collector.received) == 2  # not before its time
    try_again_now()
    Courier().tell_all()
    assert kinds(collector) == ["START", "COMPLETE", "COMPLETE"]
    assert (cursor().failures, cursor().sent) == (0, 2)


def test_a_slow_collector_gets_on(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it took is noted before it has taken all: else others would begin again with the first, for ever."""
    seen: list[tuple[int, int]] = []

    def look(handler: BaseHTTPRequestHandler) -> None:
        try:
            seen.append((cursor().seq, cursor().sent))
        finally:
            connection.close()
        answer(201)(handler)

    monkeypatch.setattr(openlineage, "_NOTE_SECONDS", 0.0)
    collector.reactions[:] = [look]
    run = end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()

    started = LogEntry.objects.get(run=run, kind=EntryKind.RUN_STARTED)
    assert [sent for _, sent in seen] == [0, 1]
    assert seen[0][0] < started.seq == seen[1][0]


def test_who_has_lost_the_cursor_sends_no_more(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_over(handler: BaseHTTPRequestHandler) -> None:
        try:
            OpenLineageCursor.objects.update(holder="another")
        finally:
            connection.close()
        answer(201)(handler)

    monkeypatch.setattr(openlineage, "_NOTE_SECONDS", 0.0)
    collector.reactions[:] = [take_over]
    end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()

    assert (len(collector.received), cursor().holder) == (1, "another")


def test_a_fault_of_ours_is_tried_again_after_a_pause_and_repeats_nothing(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Writer.event

    def event(self: Writer, entry: LogEntry) -> bytes | None:
        if entry.kind == EntryKind.RUN_COMPLETED:
            raise KeyError("type")
        return original(self, entry)

    end_run(accept_run(), RunStatus.SUCCESS)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "event", event)
        with pytest.raises(KeyError):
            Courier().tell_all()
        Courier().tell_all()  # not before its time
    state = cursor()
    assert (state.failures, state.sent, state.holder, kinds(collector)) == (1, 1, "", ["START"])
    assert state.retry_at is not None and "fault of ours" in state.problem

    try_again_now()
    Courier().tell_all()
    assert kinds(collector) == ["START", "COMPLETE"]


def test_pauses_grow_and_end(collector: Receiver) -> None:
    collector.reactions[:] = [answer(500)]
    end_run(accept_run(), RunStatus.SUCCESS)
    pauses = []
    for _ in range(12):
        Courier().tell_all()
        pauses.append(round((cursor().retry_at - timezone.now()).total_seconds()))  # type: ignore[operator]
        try_again_now()
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]


def test_redirects_are_refused(collector: Receiver) -> None:
    with receiver(answer(201)) as elsewhere:
        collector.reactions[:] = [answer(307, Location=elsewhere.url("/api/v1/lineage"))]
        end_run(accept_run(), RunStatus.SUCCESS)
        Courier().tell_all()
        assert elsewhere.received == []
    assert "a redirect" in cursor().problem and cursor().sent == 0


def test_an_event_that_is_refused_is_in_nobodys_way(collector: Receiver) -> None:
    collector.reactions[:] = [answer(422), answer(201)]
    end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    assert kinds(collector) == ["START", "COMPLETE"]
    assert (cursor().sent, cursor().refused) == (1, 1)


def test_nobody_there_is_a_warning(settings: Any) -> None:
    settings.OPENLINEAGE_URL = "http://127.0.0.1:9"
    end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    assert cursor().failures == 1 and cursor().problem
    check = health.health().checks["openlineage"]
    assert check.status == "warning" and cursor().problem in check.message
    assert check.facts["entries_behind"] > 0 and check.facts["sent"] == 0
    settings.OPENLINEAGE_URL = ""
    health.forget()
    assert health.health().checks["openlineage"].status == "ok"


def test_too_far_behind_is_passed_over(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    monkeypatch.setattr(openlineage, "MOST_BEHIND", 3)
    before = cursor().seq
    for _ in range(3):
        end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    newest = LogEntry.objects.order_by("-seq").first()
    assert newest is not None and cursor().seq == newest.seq
    assert cursor().skipped == newest.seq - 3 - before
    assert kinds(collector)[2:][-1] == "COMPLETE" and len(collector.received) < 8


def test_too_old_is_passed_over(collector: Receiver) -> None:
    OpenLineageCursor.objects.create(seq=0)
    end_run(accept_run(), RunStatus.SUCCESS)
    LogEntry.objects.update(timestamp=timezone.now() - dt.timedelta(days=2))
    fresh = end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    assert {event["run"]["runId"] for event in told(collector)} == {str(fresh.id)}
    assert cursor().skipped > 0


def test_it_begins_now(collector: Receiver) -> None:
    end_run(accept_run(), RunStatus.SUCCESS)
    LogEntry.objects.update(timestamp=timezone.now() - dt.timedelta(hours=2))
    Courier().tell_all()
    assert collector.received == []


def test_one_tells_at_a_time(collector: Receiver) -> None:
    gate, reached = threading.Event(), threading.Event()

    def slow(handler: Any) -> None:
        reached.set()
        gate.wait(10)
        answer(201)(handler)

    collector.reactions[:] = [slow, answer(201)]
    end_run(accept_run(), RunStatus.SUCCESS)
    first = Courier()
    first.look()
    try:
        assert reached.wait(10)
        Courier().tell_all()
        assert len(collector.received) == 1
    finally:
        gate.set()
        first._thread.join(10)  # type: ignore[union-attr]
    assert kinds(collector) == ["START", "COMPLETE"]


def test_a_holder_that_died_is_followed(collector: Receiver) -> None:
    OpenLineageCursor.objects.create(seq=0, holder="dead", held_until=timezone.now() - dt.timedelta(seconds=1))
    end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    assert len(collector.received) == 2
    OpenLineageCursor.objects.update(holder="of a clock that was set back", held_until=timezone.now() + dt.timedelta(hours=1))
    end_run(accept_run(), RunStatus.SUCCESS)
    Courier().tell_all()
    assert len(collector.received) == 4


def test_runs_that_were_purged_are_left_out(collector: Receiver) -> None:
    gone = end_run(accept_run(), RunStatus.SUCCESS)
    end_run(accept_run(), RunStatus.SUCCESS)
    Run.objects.filter(id=gone.id).delete()
    Courier().tell_all()
    assert len(collector.received) == 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer")
def test_an_entry_that_commits_late_is_told(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openlineage, "_PATIENCE", 0.2)
    early, late = accept_run(), accept_run()
    written, commit = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            log.append([log.entry(late.id, EntryKind.RUN_CANCELLED, "x")])
            written.set()
            commit.wait(10)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert written.wait(10)
        end_run(early, RunStatus.SUCCESS)  # higher `seq`, committed first
        Courier().tell_all()
        assert collector.received == []
    finally:
        commit.set()
        thread.join()
    Courier().tell_all()
    assert kinds(collector) == ["ABORT", "START", "COMPLETE"]


def test_nothing_is_told_without_a_collector(settings: Any) -> None:
    assert openlineage.chore() is None
    settings.OPENLINEAGE_URL = "http://x.example/api/v1/lineage"
    assert openlineage.address() == "http://x.example/api/v1/lineage" and openlineage.chore() is not None


@pytest.mark.parametrize(
    ("asset", "dataset"),
    [
        (Asset("table", "pg", "orders"), Dataset("postgres://db.example.org:5432", "shop.public.orders")),
        (Asset("table", "pg", "sales.orders"), Dataset("postgres://db.example.org:5432", "shop.sales.orders")),
        (Asset("table", "my", "orders"), Dataset("mysql://my.example.org:3307", "shop.orders")),
        (Asset("table", "my", "other.orders"), Dataset("mysql://my.example.org:3307", "other.orders")),
        (Asset("table", "ms", "dbo.orders"), Dataset("mssql://ms.example.org:1433", "erp.dbo.orders")),
        (Asset("table", "nobody", "orders"), Dataset("brokoli://nobody", "orders")),
        (Asset("table", "postgres://h:5432/d", "t"), Dataset("postgres://h:5432", "d.public.t")),
        (Asset("file", "bucket", "a/b.csv"), Dataset("s3://raw", "a/b.csv")),
        (Asset("file", "ftp", "b.csv"), Dataset("sftp://ftp.example.org:22", "/in/b.csv")),
        (Asset("file", "web", "b.csv"), Dataset("https://api.example.org", "/v1/b.csv")),
        (Asset("file", "", "/abs/b.csv"), Dataset("file", "/abs/b.csv")),
        (Asset("api", "web", "orders"), Dataset("https://api.example.org", "/v1/orders")),
        (naming.api("https://u:p@x.example:8443/a?k=v"), Dataset("https://x.example:8443", "/a")),
        (Asset("api", "", "", known=False), None),
    ],
)
def test_datasets_are_named_by_the_rules(asset: Asset, dataset: Dataset | None) -> None:
    connections.create("pg", {"type": "postgres", "host": "db.example.org", "schema": "shop", "login": "me", "password": "s3cret"})
    connections.create("my", {"type": "mysql", "host": "my.example.org", "port": 3307, "schema": "shop"})
    connections.create("ms", {"type": "generic", "host": "mssql+pymssql://ms.example.org/erp"})
    connections.create("bucket", {"type": "s3", "schema": "raw"})
    connections.create("ftp", {"type": "sftp", "host": "ftp.example.org", "schema": "/in", "extra": {"host_key": "any"}})
    connections.create("web", {"type": "http", "host": "https://api.example.org/v1"})
    names = {"pg", "my", "ms", "bucket", "ftp", "web", "nobody"}
    assert Connections.named(names).dataset(asset) == dataset
