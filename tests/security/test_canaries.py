"""Secrets of variables and connections, used in many ways by a real worker and a real dry run: nowhere but where they were put to use."""

import json
import re
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from pipelines import connections, variables
from pipelines.models import Pipeline, Variable
from runs.models import LogEntry, NodeRun, Run
from runs.states import RunStatus
from tests.conftest import StartWorker
from tests.factories import accept_run, save_pipeline
from tests.programs import wait_for
from tests.security.canaries import Watch, canary
from tests.security.route_walk import routes

VARIABLE, PASSWORD, OPTION, OUTSIDE = (canary(name) for name in ("variable", "password", "option", "outside"))
WATCH = Watch(VARIABLE, PASSWORD, OPTION, OUTSIDE)


@pytest.fixture
def api() -> Client:
    return Client(headers={"host": "localhost:8080"}, raise_request_exception=False)


def node(node_id: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "name": node_id, "config": config}


def script(text: str) -> str:
    return text + '\noutput_data = {"columns": ["x"], "rows": [{"x": 1}]}'


NODES = [
    node("cast", "sql", query="SELECT CAST(${secret.token} AS INTEGER) AS x"),
    node("far", "sql", query="SELECT CAST(${var.far} || '!' AS DATE) AS x"),
    node("missing", "sql", query="SELECT error('seen: ' || ${secret.token} || repeat('x', 3000)) AS x"),
    node("straddling", "sql", query="SELECT error(repeat('x', 1990) || ${secret.token}) AS x"),
    node(
        "prints",
        "code",
        script=script("print(config)\nimport sys\nprint(config, file=sys.stderr)"),
        note="${secret.token}",
        deep={"a": ["${var.far}"]},
    ),
    node("raises", "code", script="raise RuntimeError(repr(config))", note="${secret.token}"),
    node("encodes", "code", script=script("import base64\nprint(base64.b64encode(('x:' + config['note']).encode()))"), note="${secret.token}"),
    node("file", "source_file", path="${secret.token}.csv"),
    node("format", "source_file", path="x.csv", format="${secret.token}"),
    node("http", "source_api", url="http://127.0.0.1:9/", conn_id="web"),
    node("db", "source_db", conn_id="warehouse", query="SELECT 1 AS x"),
]


@pytest.mark.any_database
def test_no_secret_is_told_by_anything(api: Client, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BROKOLI_CREDENTIAL_FAR", OUTSIDE)
    for path, body in (
        ("variables", {"key": "token", "type": "secret", "value": VARIABLE}),
        ("variables", {"key": "far", "type": "secret", "value": "env://BROKOLI_CREDENTIAL_FAR"}),
        ("connections", {"conn_id": "warehouse", "type": "postgres", "host": "127.0.0.1", "port": 9, "login": "ada", "password": PASSWORD}),
        (
            "connections",
            {"conn_id": "web", "type": "http", "host": "127.0.0.1", "port": 9, "password": PASSWORD, "extra": {"headers": {"X-Key": OPTION}}},
        ),
    ):
        assert api.post(f"/api/{path}", json.dumps(body), content_type="application/json").status_code == 201
    known = {found["type"] for found in api.get("/api/node-types").json()}
    nodes = [one for one in NODES if one["type"] in known]
    pipelines = [save_pipeline(f"Sweep-{one['id']}", nodes=[one]) for one in nodes]
    runs = [accept_run(pipeline) for pipeline in pipelines]
    worker = start_worker("--drain", BROKOLI_CREDENTIAL_FAR=OUTSIDE, BROKOLI_LOG_LEVEL="DEBUG")
    processes: list[str] = []

    def is_done() -> bool:
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            try:
                processes.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return not Run.objects.filter(status__in=[RunStatus.PENDING, RunStatus.RUNNING]).exists()

    wait_for(is_done, 120)
    assert worker.wait(60) == 0
    # They were really put to use: what should have been seen is seen hidden.
    told = " ".join([*LogEntry.objects.values_list("message", flat=True), *NodeRun.objects.values_list("error", flat=True)])
    assert told.count("***") >= 5
    assert Run.objects.get(pipeline__name="Sweep-cast").status == RunStatus.FAILED

    found = {"worker": WATCH.seen(worker.output), "processes": WATCH.seen("\n".join(processes))}
    files = [path for path in settings.ARTIFACTS.rglob("*") if path.is_file()]
    assert files
    for file in files:
        found[f"artifact {file.name}"] = WATCH.seen(f"{file} {pyarrow.parquet.read_metadata(file).to_dict()}") + WATCH.seen(file.read_bytes())
    for address in ("/metrics", "/health", "/readyz", "/admin/", "/admin/pipelines/", "/admin/system/auditentry/", "/admin/runs/logentry/"):
        found[address] = WATCH.seen(api.get(address).content)
    for address, answer in answers(api, pipelines, runs):
        found[address] = WATCH.seen(answer)
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = WATCH.seen(str(cursor.fetchall()))
    assert {where: what for where, what in found.items() if what} == {}


def answers(api: Client, pipelines: list[Pipeline], runs: list[Run], *, only_reads: bool = False) -> Any:
    """Every route that can be read, and (not `only_reads`) dry runs, tests and refused changes."""
    for route in routes():
        address, view = re.sub("{[^}]*}", "*", route.address), route.view
        if not address.startswith("/api"):
            continue
        for pipeline, run in (
            zip(pipelines, runs, strict=True) if "*" in address and ("pipelines" in address or "runs" in address) else [(pipelines[0], runs[0])]
        ):
            filled = (
                address.replace("pipelines/*", f"pipelines/{pipeline.id}").replace("runs/*", f"runs/{run.id}").replace("versions/*", "versions/1")
            )
            filled = filled.replace("connections/*", "connections/warehouse").replace("variables/*", "variables/token")
            filled = filled.replace("nodes/*", f"nodes/{pipeline.name.removeprefix('Sweep-')}")
            if hasattr(view, "get"):
                response = api.get(filled)
                yield filled, b"".join(response).decode(errors="replace") if response.streaming else response.content.decode(errors="replace")
    if only_reads:
        return
    for pipeline in pipelines:
        yield f"dry run of {pipeline.name}", api.post(f"/api/pipelines/{pipeline.id}/dry-run", b"", content_type="application/json").content.decode()
    for name in ("warehouse", "web"):
        yield f"test of {name}", api.post(f"/api/connections/{name}/test", b"", content_type="application/json").content.decode()
    yield "move", api.patch("/api/connections/web", b'{"host": "evil.example"}', content_type="application/json").content.decode()
    for model, row in (("connection", connections.find("warehouse")), ("connection", connections.find("web")), ("variable", variables.find("token"))):
        yield f"admin {row}", api.get(f"/admin/pipelines/{model}/{row.pk}/change/").content.decode()
        yield f"admin {model}s", api.get(f"/admin/pipelines/{model}/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_secret_of_another_row_fails_the_node_with_a_sentence(start_worker: StartWorker) -> None:
    for key in ("mine", "theirs"):
        variables.create(key, {"type": "secret", "value": f"canary-{key}"})
    Variable.objects.filter(key="mine").update(value=variables.find("theirs").value)
    run = accept_run(save_pipeline("Swapped", nodes=[node("a", "sql", query="SELECT ${secret.mine} AS x")]))

    assert start_worker("--drain").wait(60) == 0

    error = NodeRun.objects.get(run=run).error
    assert "'mine' cannot be had" in error and "sealed for another row" in error and "canary" not in error
