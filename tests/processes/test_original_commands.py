"""The `curl` lines of Brokoli's original documentation, and its `wscat` line, as written, against a real server."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from django.conf import settings
from websockets.sync.client import ClientConnection as Connection
from websockets.sync.client import connect

from tests.conftest import StartServer
from tests.curl import STAND_IN
from tests.programs import Server, wait_for

TRIGGER = """curl -X POST http://localhost:8080/api/pipelines/{pipeline_id}/run \\
-H "Content-Type: application/json" \\
-d '{"params": {"date": "2024-01-15"}}'"""
GET = "curl http://localhost:8080/api/runs/{run_id}"
LIST = "curl http://localhost:8080/api/pipelines/{pipeline_id}/runs"
PAGE = 'curl "http://localhost:8080/api/pipelines/{pipeline_id}/runs?page=1&per_page=20"'
CANCEL = "curl -X POST http://localhost:8080/api/runs/{run_id}/cancel"
RESUME = "curl -X POST http://localhost:8080/api/runs/{run_id}/resume"
LOGS = "curl http://localhost:8080/api/runs/{run_id}/logs"
EXPORT = "curl http://localhost:8080/api/runs/{run_id}/logs/export"
PREVIEW = "curl http://localhost:8080/api/runs/{run_id}/nodes/{node_id}/preview"
PROFILE = "curl http://localhost:8080/api/runs/{run_id}/nodes/{node_id}/profile"
DRY_RUN = "curl -X POST http://localhost:8080/api/pipelines/{pipeline_id}/dry-run"
BACKFILL = """curl -X POST http://localhost:8080/api/pipelines/{pipeline_id}/backfill \\
-H "Content-Type: application/json" \\
-d '{"start_date": "2024-01-01", "end_date": "2024-01-31"}'"""
CALENDAR = "curl http://localhost:8080/api/runs/calendar"
LINEAGE = "curl http://localhost:8080/api/lineage"
SCHEDULER = "curl http://localhost:8080/api/scheduler/status"
DASHBOARD = "curl http://localhost:8080/api/dashboard"
SEARCH = 'curl "http://localhost:8080/api/search?q=users&limit=30"'
INFO = "curl http://localhost:8080/api/system/info"
PURGE = """curl -X POST http://localhost:8080/api/system/purge \\
-H "Content-Type: application/json" \\
-d '{"days": 30}'"""
EVENTS = "wscat -c ws://localhost:8080/api/ws"

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

Curl = Callable[..., str]


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server()


@pytest.fixture
def curl(server: Server) -> Curl:
    """`curl(GET, run_id=…)` is what the line prints, with the server's port and the ids filled in."""
    program = [shutil.which("curl") or ""] if shutil.which("curl") else [sys.executable, str(STAND_IN)]

    def call(line: str, **ids: str) -> str:
        for name, value in ids.items():
            line = line.replace(f"{{{name}}}", value)
        arguments = shlex.split(line.replace("\\\n", " ").replace("http://localhost:8080", server.url))
        return subprocess.run([*program, *arguments[1:]], capture_output=True, text=True, check=True, timeout=60).stdout

    return call


@pytest.fixture
def wscat(server: Server) -> Iterator[Connection]:
    """What `EVENTS` connects to. Like wscat, the client sends no Origin and no subprotocol."""
    with connect(EVENTS.removeprefix("wscat -c ").replace("localhost:8080", f"localhost:{server.port}")) as client:
        yield client


def create(server: Server, *nodes: dict[str, Any], edges: list[tuple[str, str]], **more: Any) -> str:
    document = {"name": "Users", **more, "nodes": nodes, "edges": [{"from": source, "to": target} for source, target in edges]}
    answer = requests.post(f"{server.url}/api/pipelines", json=document, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ended(server: Server, curl: Curl, run_id: str) -> dict[str, Any]:
    def run() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(curl(GET, run_id=run_id))
        return found if found["status"] in ("success", "failed", "cancelled") else {}

    return wait_for(run, what=f"the run to end; the server says {server.output}")


def users(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read users from a file, and keep the paid ones."""
    source = {"id": "source1", "type": "source_file", "name": "Fetch Users", "config": {"path": path}}
    transform = {
        "id": "transform1",
        "type": "transform",
        "name": "Keep paid",
        "config": {"rules": [{"type": "filter", "condition": "status == paid"}]},
    }
    return source, transform


def write_users(name: str, count: int) -> None:
    folder = settings.DATA_DIRS[0]
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{n},{'paid' if n % 5 else 'open'}\n" for n in range(count))
    (folder / name).write_text(f"id,status\n{rows}")


def test_trigger_follow_and_inspect_a_run(server: Server, curl: Curl) -> None:
    write_users("users.csv", 1500)
    pipeline_id = create(server, *users("users.csv"), edges=[("source1", "transform1")])

    tried = json.loads(curl(DRY_RUN, pipeline_id=pipeline_id))
    assert {name: (node["node_id"], node["name"], node["status"], node["columns"], len(node["rows"])) for name, node in tried.items()} == {
        "source1": ("source1", "Fetch Users", "success", ["id", "status"], 10),
        "transform1": ("transform1", "Keep paid", "success", ["id", "status"], 8),
    }
    accepted = json.loads(curl(TRIGGER, pipeline_id=pipeline_id))
    run_id = accepted["id"]
    assert accepted == {"id": run_id, "pipeline_id": pipeline_id, "status": "pending"}

    run = ended(server, curl, run_id)
    assert (run["id"], run["pipeline_id"], run["status"], run["params"]) == (run_id, pipeline_id, "success", {"date": "2024-01-15"})
    assert all(TIME.fullmatch(run[name]) for name in ("created_at", "started_at", "finished_at"))
    assert [(node["node_id"], node["status"], node["row_count"]) for node in run["node_runs"]] == [
        ("source1", "success", 1500),
        ("transform1", "success", 1200),
    ]
    assert all(isinstance(node["duration_ms"], int) and TIME.fullmatch(node["started_at"]) for node in run["node_runs"])

    listed = json.loads(curl(LIST, pipeline_id=pipeline_id))
    assert [row["id"] for row in listed] == [run_id]
    page = json.loads(curl(PAGE, pipeline_id=pipeline_id))
    assert page == {"items": listed, "total": 1, "page": 1, "per_page": 20, "pages": 1}

    log = json.loads(curl(LOGS, run_id=run_id))
    assert all({"run_id", "node_id", "level", "message", "timestamp", "seq", "attempt"} <= entry.keys() for entry in log)
    assert {entry["run_id"] for entry in log} == {run_id}
    messages = [entry["message"] for entry in log if entry["node_id"] == "source1"]
    assert messages[0] == "Starting node: Fetch Users (source_file)"
    assert re.fullmatch(r"Node completed: 1500 rows in \S+ \(\d+ rows/sec\)", messages[-1])
    exported = curl(EXPORT, run_id=run_id).splitlines()
    assert len(exported) == len(log)
    assert any("Starting node: Fetch Users (source_file)" in line for line in exported)

    preview = json.loads(curl(PREVIEW, run_id=run_id, node_id="transform1"))
    assert (preview["columns"], len(preview["rows"]), preview["row_count"]) == (["id", "status"], 50, 1200)
    assert preview["rows"][0] == {"id": 1, "status": "paid"}
    profile = json.loads(curl(PROFILE, run_id=run_id, node_id="source1"))
    assert (profile["profile"]["row_count"], profile["profile"]["column_count"], profile["drift"]) == (1500, 2, None)

    assert json.loads(curl(CANCEL, run_id=run_id))["status"] == 409
    assert json.loads(curl(RESUME, run_id=run_id))["status"] == 409


@pytest.mark.slow
def test_backfill_a_range_of_dates(server: Server, curl: Curl) -> None:
    query = "SELECT '${run.date}' AS day, ${param.date} AS given"
    pipeline_id = create(server, {"id": "days", "type": "sql", "name": "Days", "config": {"query": query}}, edges=[])

    run_ids = json.loads(curl(BACKFILL, pipeline_id=pipeline_id))
    assert len(run_ids) == 31

    runs = [ended(server, curl, run_id) for run_id in run_ids]
    assert [(run["logical_date"], run["status"], run["params"]) for run in runs] == [
        (f"2024-01-{day:02d}", "success", {"date": f"2024-01-{day:02d}"}) for day in range(1, 32)
    ]
    assert json.loads(curl(PREVIEW, run_id=run_ids[30], node_id="days"))["rows"] == [{"day": "2024-01-31", "given": "2024-01-31"}]
    starts = [run["started_at"] for run in runs]
    assert starts == sorted(starts)


@pytest.mark.slow
def test_what_nodes_see_of_params_and_intervals(server: Server) -> None:
    """Declared defaults, the pipeline's `params`, what was given; and the interval that the run is for."""
    query = "SELECT ${param.declared} AS declared, ${param.legacy} AS legacy, ${param.given} AS given, '{{ data_interval_start }}' AS since"
    document = {
        "name": "Orders",
        "schedule": "0 6 * * *",
        "parameters": {"declared": {"type": "integer", "default": 1}, "given": {"required": True}},
        "params": {"legacy": "l"},
        "nodes": [{"id": "seen", "type": "sql", "config": {"query": query}}],
        "edges": [],
    }
    pipeline = requests.post(f"{server.url}/api/pipelines", json=document, timeout=30).json()
    body = {"start": "2024-01-01T07:00:00+01:00", "end": "2024-01-02T06:00:00Z", "params": {"given": "g"}}
    answer = requests.post(f"{server.url}/api/pipelines/{pipeline['id']}/backfill", json=body, timeout=30).json()
    (run_id,) = answer["runs"]

    def ended() -> bool:
        return str(requests.get(f"{server.url}/api/backfills/{answer['backfill_id']}", timeout=30).json()["status"]) == "completed"

    wait_for(ended, what=f"the backfill to complete; the server says {server.output}")
    preview = requests.get(f"{server.url}/api/runs/{run_id}/nodes/seen/preview", timeout=30).json()
    assert preview["rows"] == [{"declared": 1, "legacy": "l", "given": "g", "since": "2024-01-01T06:00:00+00:00"}]


@pytest.mark.slow
def test_resume_a_failed_run(server: Server, curl: Curl) -> None:
    write_users("users.csv", 10)
    source, transform = users("users.csv")
    other = {"id": "source2", "type": "source_file", "name": "More", "config": {"path": "more.csv"}}
    union = {"id": "union1", "type": "union", "name": "Both", "config": {}}
    pipeline_id = create(server, source, transform, other, union, edges=[("source1", "transform1"), ("transform1", "union1"), ("source2", "union1")])

    failed = ended(server, curl, json.loads(curl(TRIGGER, pipeline_id=pipeline_id))["id"])
    assert failed["status"] == "failed"
    assert "more.csv" in failed["error"]
    before = {node["node_id"]: node["status"] for node in failed["node_runs"]}
    assert (before["source2"], before["union1"]) == ("failed", "skipped")

    write_users("more.csv", 5)
    resumed = json.loads(curl(RESUME, run_id=failed["id"]))
    assert resumed["resumed_from"] == failed["id"] != resumed["id"]
    run = ended(server, curl, resumed["id"])
    assert (run["status"], run["params"]) == ("success", {"date": "2024-01-15"})
    assert {node["node_id"]: node["row_count"] for node in run["node_runs"]} == {"source1": 10, "transform1": 8, "source2": 5, "union1": 13}
    after = {node["node_id"]: node["status"] for node in run["node_runs"]}
    assert {name for name, status in after.items() if status == "skipped"} == {name for name, status in before.items() if status == "success"}


@pytest.mark.slow
def test_look_at_the_whole(server: Server, curl: Curl, wscat: Connection) -> None:
    write_users("users.csv", 10)
    variable = {"key": "users_since", "value": "2024"}
    assert requests.post(f"{server.url}/api/variables", json=variable, timeout=30).status_code == 201
    pipeline_id = create(server, *users("users.csv"), edges=[("source1", "transform1")], schedule="0 6 1 1 *")
    broken, _ = users("nowhere.csv")
    broken_id = create(server, broken, edges=[], name="Broken ETL")

    runs = [ended(server, curl, json.loads(curl(TRIGGER, pipeline_id=made))["id"]) for made in (pipeline_id, broken_id)]
    assert [run["status"] for run in runs] == ["success", "failed"]

    events = [json.loads(wscat.recv(timeout=20))]
    while events[-1]["type"] != "run.failed":
        events.append(json.loads(wscat.recv(timeout=20)))
    assert {"run.created", "run.started", "node.started", "node.completed", "log", "run.completed", "node.failed"} <= {
        event["type"] for event in events
    }
    assert all({"seq", "type", "run_id", "pipeline_id", "timestamp"} <= event.keys() for event in events)
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})

    day = runs[0]["created_at"][:10]
    days = json.loads(curl(CALENDAR))
    assert sum(entry["total"] for entry in days) == 2  # of one day, but at midnight
    assert days[0].items() >= {"date": day, "cancelled": 0, "running": 0}.items()
    assert (sum(entry["success"] for entry in days), sum(entry["failed"] for entry in days)) == (1, 1)

    graph = json.loads(curl(LINEAGE))
    shown = {node["id"]: (node["type"], node["name"], node["pipeline"]) for node in graph["nodes"]}
    assert shown["file:users.csv"] == ("file", "users.csv", None)
    assert shown[f"proc:{pipeline_id}:transform1"] == ("processing", "Keep paid", "Users")
    assert graph["edges"] == [{"from": "file:users.csv", "to": f"proc:{pipeline_id}:transform1", "pipeline_id": pipeline_id, "pipeline": "Users"}]

    (entry,) = json.loads(curl(SCHEDULER))
    assert entry.pop("last_run") == runs[0]["started_at"]
    next_run = entry.pop("next_run")
    assert (next_run[4:], next_run > runs[0]["created_at"]) == ("-01-01T06:00:00.000Z", True)
    assert entry == {"pipeline_id": pipeline_id, "pipeline_name": "Users", "schedule": "0 6 1 1 *", "timezone": "UTC", "enabled": True}

    dashboard = json.loads(curl(DASHBOARD))
    assert [(one["id"], one["last_run_status"]) for one in dashboard["pipelines"]] == [(broken_id, "failed"), (pipeline_id, "success")]
    assert [one["id"] for one in dashboard["recent_runs"]] == [run["id"] for run in reversed(runs)]
    assert (len(dashboard["trends"]), sum(one["total"] for one in dashboard["trends"])) == (7, 2)
    assert all({"date", "success", "failed", "total"} <= one.keys() for one in dashboard["trends"])
    assert [(one["pipeline_id"], one["name"], one["fail_count"]) for one in dashboard["top_failing"]] == [(broken_id, "Broken ETL", 1)]

    found = json.loads(curl(SEARCH))
    assert {(one["type"], one["name"]) for one in found} >= {("pipeline", "Users"), ("node", "Fetch Users"), ("variable", "users_since")}
    assert all({"type", "id", "name", "description", "meta"} <= one.keys() for one in found)

    info = json.loads(curl(INFO))
    assert info.items() >= {"pipelines": 2, "active_runs": 0, "max_concurrent_runs": 4}.items()
    assert (info["db_size"] > 0, info["db_size_mb"]) == (True, f"{info['db_size'] / 2**20:.2f} MB")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", info["version"])

    assert json.loads(curl(PURGE)) == {"deleted": 0, "days": 30}


@pytest.mark.slow
def test_cancel_a_running_run(server: Server, curl: Curl) -> None:
    endless = {
        "id": "endless",
        "type": "sql",
        "name": "Endless",
        "config": {"query": "SELECT sum(a.range * b.range) AS s FROM range(1000000) a, range(1000000) b"},
    }
    after = {"id": "after", "type": "sql", "name": "After", "config": {"query": "SELECT * FROM input"}}
    run_id = json.loads(curl(TRIGGER, pipeline_id=create(server, endless, after, edges=[("endless", "after")])))["id"]
    wait_for(lambda: json.loads(curl(GET, run_id=run_id))["node_runs"][0]["status"] == "running", what="the node to start")

    asked = json.loads(curl(CANCEL, run_id=run_id))
    assert (asked["status"], asked["cancel_requested"]) == ("running", True)
    forced = requests.post(f"{server.url}/api/runs/{run_id}/cancel", json={"force": True}, timeout=30)
    assert forced.status_code == 202

    run = ended(server, curl, run_id)
    assert (run["status"], [node["status"] for node in run["node_runs"]]) == ("cancelled", ["cancelled", "cancelled"])
