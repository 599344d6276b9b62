"""What real processes log, for machines: one object a line, with what it is about, and without what a query held."""

import json

import pytest
import requests

from runs.models import Run
from tests.conftest import StartServer
from tests.factories import make_pipeline, sql_node
from tests.programs import wait_for

pytestmark = pytest.mark.slow

SECRET = "hunter2-of-the-query"


def test_lines_name_request_worker_run_and_node(start_server: StartServer) -> None:
    pipeline = make_pipeline([sql_node("only", "SELECT 1 AS x")], [])
    server = start_server(BROKOLI_LOG_FORMAT="json", BROKOLI_LOG_LEVEL="DEBUG")
    headers = {"x-request-id": "the-request", "authorization": f"Token {SECRET}"}
    requests.get(f"{server.url}/api/runs?token={SECRET}", headers=headers, timeout=30)
    requests.get(f"{server.url}/nowhere/{SECRET}", headers={"x-request-id": "a b"}, timeout=30)
    assert requests.post(f"{server.url}/api/pipelines/{pipeline.id}/run", timeout=30).status_code == 202
    wait_for(lambda: Run.objects.filter(status="success").exists(), what="the run to succeed")
    wait_for(lambda: "run ended" in server.output, what="the line about its end")

    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    (access,) = [line for line in lines if line.get("request_id") == "the-request" and line["event"] == "request"]
    assert (access["method"], access["route"], access["status"], access["user"]) == ("GET", "/api/runs", 400, "local")
    (ended,) = [line for line in lines if line["event"] == "run ended"]
    assert (ended["run_id"], ended["epoch"], ended["status"]) == (str(Run.objects.get().id), 1, "success")
    (started,) = [line for line in lines if line["event"] == "worker started"]
    assert ended["worker"] == started["worker"]
    assert {"event", "level", "logger", "timestamp"} <= set.intersection(*(set(line) for line in lines))
    assert SECRET not in server.output
    plain = [line for line in server.output.splitlines() if not line.startswith("{")]
    assert not [line for line in plain if not line.startswith(("Brokoli on ", "brokoli: "))], plain
