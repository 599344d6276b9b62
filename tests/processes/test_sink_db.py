"""A worker that is killed between the commit of its sink and the registration: the next attempt writes nothing twice."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from runs.models import NodeRun
from tests.conftest import StartWorker
from tests.contracts import sqlite_tables
from tests.factories import accept_run, make_pipeline, sql_node
from tests.programs import ROOT, environment
from tests.servers import Database

_ALLOWED = {"BROKOLI_ALLOWED_NETWORKS": "127.0.0.0/8"}


def sink(uri: str) -> dict[str, Any]:
    return {"id": "load", "type": "sink_db", "name": "Load", "config": {"uri": uri, "table": "killed", "create_table": True}}


def dies(point: str) -> None:
    command = [sys.executable, "-m", "tests.dying_worker", point]
    env = environment(DJANGO_SETTINGS_MODULE="brokoli_site.settings", **_ALLOWED)
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -9, ended.stderr[-2000:]


@pytest.mark.slow
def test_a_load_that_was_committed_is_not_repeated(start_worker: StartWorker) -> None:
    nodes = [sql_node("rows", "SELECT i AS id FROM range(1000) t(i)"), sink("sqlite:///killed.db")]
    run = accept_run(make_pipeline(nodes, [("rows", "load")]))
    file = Path(settings.DATA_DIRS[0], "killed.db")

    dies("after a sink's commit")
    assert sqlite_tables.rows(file, "SELECT count(*) FROM killed") == [(1000,)]
    assert start_worker("--drain").wait(120) == 0

    run.refresh_from_db()
    assert run.status == "success", run.error
    assert sqlite_tables.rows(file, "SELECT count(*) FROM killed") == [(1000,)]
    assert NodeRun.objects.get(run=run, node_id="load", status="success").row_count == 1000


@pytest.mark.slow
def test_nor_is_one_that_was_committed_to_postgresql(start_worker: StartWorker, postgres_database: Database) -> None:
    nodes = [sql_node("rows", "SELECT i AS id FROM range(1000) t(i)"), sink(postgres_database.uri)]
    pipeline = make_pipeline(nodes, [("rows", "load")])
    runs = [accept_run(pipeline)]
    assert start_worker("--drain", **_ALLOWED).wait(120) == 0  # the table and its ledger are there, so the next commit is that of the rows
    runs.append(accept_run(pipeline))

    dies("after a sink's commit to PostgreSQL")
    assert postgres_database.rows("SELECT count(*) FROM killed") == [(2000,)]
    assert start_worker("--drain", **_ALLOWED).wait(120) == 0

    for run in runs:
        run.refresh_from_db()
        assert run.status == "success", run.error
    assert postgres_database.rows("SELECT count(*) FROM killed") == [(2000,)]
    assert postgres_database.rows("SELECT count(*), sum(row_count)::int FROM brokoli_loads") == [(2, 2000)]
