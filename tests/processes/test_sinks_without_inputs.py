"""A sink that nothing feeds is a node like any other: it ends with its rows, and what follows it starts then."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from runs.models import NodeOutput, NodeRun
from tests.conftest import StartWorker
from tests.factories import accept_run, make_pipeline

pytestmark = [pytest.mark.any_database, pytest.mark.slow]
_URI = "sqlite:///migrated.db"


def node(node_id: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "name": node_id, "config": config}


def test_what_follows_a_migration_reads_what_it_wrote(start_worker: StartWorker) -> None:
    folder = Path(settings.DATA_DIRS[0])
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "migrated.db")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER)")
        database.executemany("INSERT INTO orders VALUES (?)", [(number,) for number in range(500)])
    copy = {"source_uri": _URI, "source_query": "SELECT * FROM orders", "dest_uri": _URI, "dest_table": "copied", "create_table": True}
    nodes = [node("copy", "migrate", **copy), node("read", "source_db", uri=_URI, query="SELECT count(*) AS copied FROM copied")]
    run = accept_run(make_pipeline(nodes, [("copy", "read")]))

    assert start_worker("--drain").wait(60) == 0

    run.refresh_from_db()
    assert run.status == "success", run.error
    assert NodeRun.objects.get(run=run, node_id="copy").row_count == 500
    assert NodeOutput.objects.get(run=run, node_id="copy").preview["rows"] == [[500]]
    assert NodeOutput.objects.get(run=run, node_id="read").preview["rows"] == [[500]]
