"""The log of a run: as an array, and as a file."""

import json

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runs.api import logs
from runs.models import LogEntry, Run
from runs.states import EntryKind
from tests.history import START, lines, past_pipeline, saved_run
from tests.plans import analyse, only_indexed

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    return saved_run(past_pipeline())


def test_a_log_is_an_array_of_entries_oldest_first(api: Client, run: Run) -> None:
    LogEntry.objects.create(run=run, kind=EntryKind.RUN_STARTED, message="Run started", timestamp=START, data={"status": "running"})
    lines(run, 1, message="Starting node: First (sql)")
    first, second = LogEntry.objects.all()
    assert api.get(f"/api/runs/{run.id}/logs").json() == [
        {
            "seq": first.seq,
            "run_id": str(run.id),
            "node_id": "",
            "attempt": None,
            "kind": "run.started",
            "level": "info",
            "message": "Run started",
            "timestamp": "2024-01-15T06:00:00.000Z",
        },
        {
            "seq": second.seq,
            "run_id": str(run.id),
            "node_id": "first",
            "attempt": 1,
            "kind": "log",
            "level": "info",
            "message": "Starting node: First (sql)",
            "timestamp": "2024-01-15T06:00:00.000Z",
        },
    ]


def test_a_log_holds_the_entries_of_its_run_alone(api: Client, run: Run) -> None:
    lines(saved_run(run.pipeline), 3)
    assert api.get(f"/api/runs/{run.id}/logs").json() == []
    assert b"".join(api.get(f"/api/runs/{run.id}/logs/export")) == b""


def test_filters_narrow_a_log(api: Client, run: Run) -> None:
    lines(run, 2)
    lines(run, 1, node_id="second", level="error", message="100% of Ünits_failed")

    def found(query: str) -> list[int]:
        exported = [json.loads(line)["message"] for line in b"".join(api.get(f"/api/runs/{run.id}/logs/export?format=jsonl&{query}")).splitlines()]
        listed = [entry["message"] for entry in api.get(f"/api/runs/{run.id}/logs?{query}").json()]
        assert listed == exported
        return [["Line 0", "Line 1", "100% of Ünits_failed"].index(message) for message in listed]

    assert found("node_id=second") == [2]
    assert found("level=info") == [0, 1]
    assert found("q=LINE") == [0, 1]
    assert found("q=0%25") == [2]
    assert found("q=s_f") == [2]
    assert found("q=_") == [2]
    assert found("node_id=first&q=1") == [1]
    assert found(f"since={LogEntry.objects.all()[0].seq}") == [1, 2]
    assert found("node_id=nope") == []


def test_a_long_log_is_read_in_pages_that_link_on(api: Client, run: Run) -> None:
    lines(run, 7)
    path, seen = f"/api/runs/{run.id}/logs?limit=3&node_id=first", []
    while path:
        response = api.get(path)
        seen.append([entry["message"] for entry in response.json()])
        path = response.get("Link", "").removesuffix('>; rel="next"').removeprefix("<")
    assert seen == [["Line 0", "Line 1", "Line 2"], ["Line 3", "Line 4", "Line 5"], ["Line 6"]]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("level=loud", "level"),
        ("since=-1", "since"),
        ("since=x", "since"),
        ("since=" + "9" * 30, "since"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("q=%00", "q"),
        ("q=" + "x" * 201, "q"),
        ("node_id=%00", "node_id"),
        ("tail=1", "tail"),
    ],
)
def test_bad_query_parameters_are_named(api: Client, run: Run, query: str, name: str) -> None:
    response = api.get(f"/api/runs/{run.id}/logs?{query}")
    assert response.status_code == 400, response.content
    assert [error["parameter"] for error in response.json()["errors"]] == [name]


def test_an_export_is_a_text_file_with_a_line_an_entry(api: Client, run: Run) -> None:
    LogEntry.objects.create(run=run, level="warning", message="Run\r\n\x1b[2Jstarted\tnow\u2028\x85", timestamp=START)
    lines(run, 1, message="Größe {n}")
    response = api.get(f"/api/runs/{run.id}/logs/export")
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Disposition"] == f'attachment; filename="run-{run.id}.log"'
    assert b"".join(response).decode() == (
        "2024-01-15T06:00:00.000Z WARNING Run\\r\\n\\x1b[2Jstarted\tnow\\u2028\\x85\n2024-01-15T06:00:00.000Z INFO    [first#1] Größe 0\n"
    )


def test_an_export_as_json_lines_holds_what_the_array_holds(api: Client, run: Run) -> None:
    lines(run, 3, message="{n}\nsecond line")
    response = api.get(f"/api/runs/{run.id}/logs/export?format=jsonl", headers={"accept": "text/html"})
    assert response["Content-Type"] == "application/x-ndjson"
    assert response["Content-Disposition"] == f'attachment; filename="run-{run.id}.jsonl"'
    assert [json.loads(line) for line in b"".join(response).splitlines()] == api.get(f"/api/runs/{run.id}/logs").json()


def test_an_export_reads_pages_and_ends_where_the_log_ended_when_it_began(api: Client, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_EXPORT_PAGE", 4)
    lines(run, 10)
    chunks = iter(api.get(f"/api/runs/{run.id}/logs/export"))
    with CaptureQueriesContext(connection) as captured:
        first = next(chunks)
    assert len(captured) == 1
    lines(run, 5, message="later")
    assert [chunk.count(b"\n") for chunk in (first, *chunks)] == [4, 4, 2]


@pytest.mark.parametrize("query", ["format=xml", "limit=5", "format=text&format=jsonl"])
def test_bad_export_parameters_are_refused(api: Client, run: Run, query: str) -> None:
    assert api.get(f"/api/runs/{run.id}/logs/export?{query}").status_code == 400


def test_reading_on_walks_the_index(api: Client, run: Run) -> None:
    lines(run, 20)
    for _ in range(5):
        lines(saved_run(run.pipeline), 1000)
    analyse()
    for path in (f"/api/runs/{run.id}/logs?since=5", f"/api/runs/{run.id}/logs/export"):
        with only_indexed("runs_logentry"):
            b"".join(api.get(path))
