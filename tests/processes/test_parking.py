"""Runs that wait, by real workers: their worker executes others meanwhile, and its death costs them nothing."""

from pathlib import Path

import pytest
from django.conf import settings

from pipelines import definitions
from runs.models import LogEntry, NodeRun, Run
from tests.conftest import StartWorker
from tests.factories import accept_run, sql_node
from tests.programs import wait_for


def waiting_run(name: str) -> Run:
    """Its node looks each second for a file in the data folder, then passes on what it was given."""
    nodes = [
        sql_node("before", "SELECT 7 AS x"),
        {"id": "wait", "type": "wait", "name": "Wait", "config": {"condition": "file_exists", "path": name, "poll_interval": "1s", "timeout": "2m"}},
        sql_node("after", "SELECT x + 1 AS x FROM input"),
    ]
    edges = [{"from": "before", "to": "wait"}, {"from": "wait", "to": "after"}]
    return accept_run(definitions.create({"name": name, "nodes": nodes, "edges": edges}).pipeline)


def is_parked(run: Run) -> bool:
    return Run.objects.filter(id=run.id, status="pending", not_before__isnull=False, owner="").exists()


def is_over(run: Run) -> bool:
    return Run.objects.filter(id=run.id, status="success").exists()


def ready(name: str) -> Path:
    folder = Path(settings.DATA_DIRS[0])
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def test_a_worker_with_one_place_executes_another_run_while_one_waits(start_worker: StartWorker) -> None:
    file = ready("first")
    parked = waiting_run("first")
    worker = start_worker("--concurrency", "1")
    worker.wait_for(lambda: is_parked(parked), what="the run to park")

    other = accept_run()
    worker.wait_for(lambda: is_over(other), what="the other run to be executed")
    assert not is_over(parked)
    file.touch()
    worker.wait_for(lambda: is_over(parked), what="the parked run to go on")

    assert set(NodeRun.objects.filter(run=parked).values_list("node_id", "attempt", "status")) == {
        (node_id, 1, "success") for node_id in ("before", "wait", "after")
    }
    assert LogEntry.objects.filter(run=parked, kind="node.started").count() == 3
    assert LogEntry.objects.filter(run=parked, kind="node.waiting").count() == 1
    file.unlink()


@pytest.mark.slow
def test_kill_9_of_everybody_while_a_run_is_parked(start_worker: StartWorker) -> None:
    file = ready("second")
    run = waiting_run("second")
    first = start_worker("--concurrency", "1", BROKOLI_LEASE_SECONDS="2")
    first.wait_for(lambda: is_parked(run), what="the run to park")
    first.kill()
    file.touch()

    second = start_worker("--drain")
    assert second.wait(60) == 0, second.output

    wait_for(lambda: is_over(run), 10, "the run to end")
    statuses = NodeRun.objects.filter(run=run).values_list("node_id", "attempt", "status")
    assert set(statuses) == {(node_id, 1, "success") for node_id in ("before", "wait", "after")}
    file.unlink()
