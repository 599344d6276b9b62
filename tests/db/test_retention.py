"""Files that no output names are collected; what a run needs, or is not ours, stays."""

import os
import time
from pathlib import Path

import pytest

from runs import transitions
from runs.artifacts import ArtifactStore
from runs.models import NodeOutput, NodeRun
from runs.retention import collect_strays
from runs.states import RunStatus
from tests.factories import accept_run, claim_one, end_run, register_worker

pytestmark = pytest.mark.django_db


def put(store: ArtifactStore, key: str) -> Path:
    path = store.path(key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PAR1 0000 PAR1")
    return path


def test_only_files_that_no_output_names_go(tmp_path: Path) -> None:
    store, ended = ArtifactStore(tmp_path), accept_run()
    lease = claim_one(register_worker())
    node = NodeRun.objects.get(run=ended, node_id="first")
    named = put(store, f"{ended.id}/0.1.parquet")
    output = NodeOutput(run=ended, node_id="first", artifact=f"{ended.id}/0.1.parquet", row_count=1, byte_count=14, created_at=ended.created_at)
    output.schema, output.preview, output.profile = [], {}, {}
    with transitions.fenced(lease):
        transitions.start_node(node)
        transitions.complete_node(node, 1, output)
    transitions.finish_run(lease, RunStatus.FAILED, "broken")
    stray = put(store, f"{ended.id}/1.1.parquet")
    being_written = put(store, f"{accept_run().id}/0.1.parquet")

    assert collect_strays(store).files == 1
    assert (named.exists(), stray.exists(), being_written.exists()) == (True, False, True)


def test_a_folder_that_is_no_runs_is_left_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    foreign = put(store, "lost-and-found/something.parquet")
    stray = put(store, f"{end_run(accept_run(), RunStatus.SUCCESS).id}/0.1.parquet")

    collect_strays(store)

    assert (foreign.exists(), stray.exists()) == (True, False)


def test_folders_that_are_long_at_rest_are_not_looked_into(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    stray = put(store, f"{end_run(accept_run(), RunStatus.SUCCESS).id}/0.1.parquet")
    old = time.time() - 8 * 24 * 3600
    os.utime(stray.parent, (old, old))

    assert collect_strays(store).files == 0
    assert stray.exists()
