"""`kill -9` at every point that matters, one after the other: accepted runs end once, and what was finished is not executed again."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from runs.models import LogEntry, NodeOutput, NodeRun
from tests.conftest import StartWorker
from tests.factories import accept_run, make_pipeline, sql_node
from tests.programs import ROOT, environment

# As in tests/dying_worker.py, which needs settings of its own.
POINTS = (
    "before the claim is committed",
    "after the claim",
    "in the middle of a node",
    "before the rename",
    "after the rename, before it is registered",
    "between two nodes",
    "before the end is committed",
    "after the end",
)
_ENDS = ("run.completed", "run.failed", "run.cancelled")


@pytest.mark.slow
def test_a_worker_dies_at_each_point_of_its_work(start_worker: StartWorker) -> None:
    nodes = [sql_node("a", "SELECT 1 AS x"), sql_node("b", "SELECT x + 1 AS x FROM input"), sql_node("c", "SELECT x + 1 AS x FROM input")]
    runs = [accept_run(make_pipeline(nodes, [("a", "b"), ("b", "c")])) for _ in range(3)]

    for point in POINTS:
        command = [sys.executable, "-m", "tests.dying_worker", point]
        env = environment(BROKOLI_MAX_DEATHS="50", DJANGO_SETTINGS_MODULE="brokoli_site.settings")
        ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == -9, f"{point}: {ended.stderr[-2000:]}"
    last = start_worker("--drain", BROKOLI_MAX_DEATHS="50")

    assert last.wait(120) == 0, last.output
    for run in runs:
        run.refresh_from_db()
        assert run.status == "success", run.error
        assert LogEntry.objects.filter(run=run, kind__in=_ENDS).count() == 1
        succeeded = NodeRun.objects.filter(run=run, status="success").values_list("node_id", flat=True)
        assert sorted(succeeded) == ["a", "b", "c"]
    assert sum(run.deaths for run in runs) >= 5  # not those of the workers that died without a run
    kept = {Path(settings.ARTIFACTS) / artifact for artifact in NodeOutput.objects.values_list("artifact", flat=True)}
    assert all(path.is_file() for path in kept)
