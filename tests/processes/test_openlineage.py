"""Real workers tell a collector of real runs; one that stalls, or is not there, costs them nothing."""

from http.server import BaseHTTPRequestHandler

import pytest
from django.conf import settings
from django.db import connection

from pipelines import definitions
from runs.models import Run
from runs.states import RunStatus
from system.models import OpenLineageCursor
from tests import openlineage as spec
from tests.conftest import StartWorker
from tests.factories import accept_run
from tests.programs import free_port, wait_for
from tests.receivers import Receiver, answer, receiver

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

NODES = [
    {"id": "read", "type": "source_file", "name": "Read", "config": {"path": "openlineage/in.csv"}},
    {"id": "sum", "type": "sql", "name": "Sum", "config": {"query": "SELECT land, sum(n) AS total FROM input GROUP BY land"}},
    {"id": "write", "type": "sink_file", "name": "Write", "config": {"path": "openlineage/out.csv"}},
]
EDGES = [{"from": "read", "to": "sum"}, {"from": "sum", "to": "write"}]


def accept() -> Run:
    folder = settings.DATA_DIRS[0] / "openlineage"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.csv").write_text("land,n\nDE,1\nUS,2\nDE,3\n")
    return accept_run(definitions.create({"name": "Sums", "pipeline_id": "sums", "nodes": NODES, "edges": EDGES}).pipeline)


def told(collector: Receiver) -> list[tuple[str, str]]:
    events = [one.json for one in collector.received]
    for event in events:
        spec.check(event)
    return [(str(event["job"]["name"]), str(event["eventType"])) for event in events]  # type: ignore[index]


def stall(handler: BaseHTTPRequestHandler) -> None:
    """Answer only when the run has long ended, and badly."""
    wait_for(lambda: Run.objects.filter(status=RunStatus.SUCCESS).exists())
    connection.close()
    answer(503)(handler)


def test_a_run_is_told_from_start_to_end_though_the_collector_stalls(start_worker: StartWorker) -> None:
    run = accept()

    with receiver(stall, answer(201)) as collector:
        start_worker(OPENLINEAGE_URL=collector.url(""), OPENLINEAGE_NAMESPACE="tests")
        wait_for(lambda: Run.objects.filter(id=run.id, status=RunStatus.SUCCESS).exists())
        wait_for(lambda: ("sums", "COMPLETE") in told(collector))
        events = told(collector)
        assert events[0] == events[1] == ("sums", "START")  # the first was answered 503
        assert [event for event in events if event[0] != "sums"] == [
            (f"sums.{node}", kind) for node in ("read", "sum", "write") for kind in ("START", "COMPLETE")
        ]
        last: dict[str, list[dict[str, object]]] = collector.received[-1].json  # type: ignore[assignment]
    (written,) = last["outputs"]
    fields = written["facets"]["columnLineage"]["fields"]  # type: ignore[index]
    assert [(one["field"], one["transformations"][0]["subtype"]) for one in fields["total"]["inputFields"]] == [("n", "AGGREGATION")]
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 2  # type: ignore[index]
    assert {one["name"] for one in last["inputs"]} == {str(settings.DATA_DIRS[0] / "openlineage/in.csv")}


def test_nobody_there_and_then_somebody(start_worker: StartWorker) -> None:
    run, port = accept(), free_port()
    worker = start_worker(OPENLINEAGE_URL=f"http://127.0.0.1:{port}")
    wait_for(lambda: Run.objects.filter(id=run.id, status=RunStatus.SUCCESS).exists())
    wait_for(lambda: OpenLineageCursor.objects.filter(failures__gt=0).exists())
    worker.kill()
    with receiver(answer(201)) as collector:
        OpenLineageCursor.objects.update(retry_at=None)
        start_worker(OPENLINEAGE_URL=collector.url(""))
        wait_for(lambda: ("sums", "COMPLETE") in told(collector))
        assert told(collector)[0] == ("sums", "START")
