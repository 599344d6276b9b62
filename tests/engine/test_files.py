"""What files meet that cases cannot say: concurrent appends, faults half-way, and archives that unpack without end."""

import errno
import gzip
import os
import threading
from pathlib import Path

import pytest

from brokoli_site.common import durable
from brokoli_site.common.errors import NodeCancelled, NodeError, TransientNodeError
from pipelines.nodes import unpacking
from pipelines.nodes.base import Stop
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz", "a.json", "a.parquet", "a.sql"])
def test_appends_at_once_lose_nothing(workshop: Workshop, name: str) -> None:
    givens = [Given({"path": name, "mode": "append"}, [f"SELECT {number * 100} + i AS id FROM range(100) t(i)"]) for number in range(8)]
    for given in givens:
        workshop.task("sink_file", given)  # makes the inputs, one after the other
    threads = [threading.Thread(target=workshop.run, args=("sink_file", given)) for given in givens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    if name == "a.sql":
        lines = workshop.files()[name].decode().splitlines()
        ids = [int(line.rpartition("(")[2].rstrip(");")) for line in lines]
    else:
        ids = [row[0] for row in workshop.run("source_file", Given({"path": name})).rows]
    assert sorted(ids) == list(range(800))
    assert list(workshop.files()) == [name]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.json", "a.parquet"])
@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_a_fault_at_the_end_leaves_the_old_file_untouched(workshop: Workshop, name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.run("sink_file", Given({"path": name}, ["SELECT 1 AS id"]))
    workshop.table("SELECT 2 AS id")
    before = workshop.files()

    def full(draft: Path, final: Path, check: object) -> None:
        assert draft.stat().st_size
        raise OSError(errno.ENOSPC, "No space left on device", str(draft))

    monkeypatch.setattr(durable, "put", full)
    with pytest.raises(TransientNodeError, match="The disk is full"):
        workshop.run("sink_file", Given({"path": name, "mode": mode}, ["SELECT 2 AS id"]))
    assert workshop.files() == before


def test_a_written_file_is_durable_and_keeps_the_rights_of_the_old(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    (workshop.folder / "a.csv").write_text("old")
    (workshop.folder / "a.csv").chmod(0o640)
    workshop.table("SELECT 1 AS id")
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync", lambda path: synced.append(path.name))
    workshop.run("sink_file", Given({"path": "a.csv"}, ["SELECT 1 AS id"]))
    assert len(synced) == 2
    assert synced[0].startswith(".a.csv.")
    assert synced[1] == workshop.folder.name
    assert (workshop.folder / "a.csv").stat().st_mode & 0o777 == 0o640


def test_equal_rows_make_equal_archives(workshop: Workshop) -> None:
    for name in ("a.csv.gz", "b.csv.gz"):
        workshop.run("sink_file", Given({"path": name}, ["SELECT 1 AS id"]))
    assert workshop.files()["a.csv.gz"] == workshop.files()["b.csv.gz"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_archive_that_unpacks_without_end_is_stopped_at_the_limit(workshop: Workshop, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_BYTES", 8 * 1024**2)
    (workshop.folder / f"bomb.{kind}.gz").write_bytes(gzip.compress(b"0" * 64 * 1024**2))
    with pytest.raises(NodeError, match=rf"^bomb\.{kind}\.gz unpacks to more than"):
        workshop.run("source_file", Given({"path": f"bomb.{kind}.gz"}))
    assert not any(path.name != ".owner" and path.is_file() for path in workshop.engine.workspace.path.rglob("*"))


@pytest.mark.parametrize("mode", ["overwrite", "append"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_a_lease_that_runs_out_while_the_file_is_made_durable_leaves_the_old_file(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """As when the worker is frozen there, and another has the run when it wakes: the last look is right before the rename."""
    workshop.run("sink_file", Given({"path": name}, ["SELECT 1 AS id"]))
    before = workshop.files()
    given = Given({"path": name, "mode": mode}, ["SELECT 2 AS id"])
    workshop.task("sink_file", given)  # makes its input
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync", synced.append)

    with pytest.raises(NodeCancelled):
        workshop.run("sink_file", given, stop=Stop(lease_is_held=lambda: not synced))

    assert workshop.files() == before


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.json", "a.parquet"])
def test_rows_that_a_dead_worker_had_appended_are_not_appended_again(workshop: Workshop, name: str) -> None:
    """It died after the rename and before it could say so; the same node of the same run is tried again."""
    other = Given({"path": name, "mode": "append"}, ["SELECT 1 AS id"])
    given = Given({"path": name, "mode": "append"}, ["SELECT 2 AS id UNION ALL SELECT 3"])
    workshop.run("sink_file", given, node_id="kept")
    workshop.run("sink_file", other)
    again = workshop.run("sink_file", given, node_id="kept")

    assert again.result.row_count == 2
    rows = workshop.run("source_file", Given({"path": name})).rows
    assert sorted(int(row[0]) for row in rows) == [1, 2, 3]
    assert "already" in str(again.log.lines)


def test_an_append_that_failed_before_the_rename_is_made_again(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given({"path": "a.csv", "mode": "append"}, ["SELECT 2 AS id"])
    workshop.task("sink_file", given)  # makes its input
    with monkeypatch.context() as patched:
        patched.setattr(durable, "sync", fail_with_full_disk)
        with pytest.raises(TransientNodeError):
            workshop.run("sink_file", given, node_id="kept")
    workshop.run("sink_file", given, node_id="kept")
    assert [row[0] for row in workshop.run("source_file", Given({"path": "a.csv"})).rows] == [2]


def test_a_file_that_was_replaced_meanwhile_gets_the_rows(workshop: Workshop) -> None:
    given = Given({"path": "a.csv", "mode": "append"}, ["SELECT 2 AS id"])
    workshop.run("sink_file", given, node_id="kept")
    (workshop.folder / "a.csv").unlink()
    (workshop.folder / "a.csv").write_text("id\n1\n")
    workshop.run("sink_file", given, node_id="kept")
    assert [row[0] for row in workshop.run("source_file", Given({"path": "a.csv"})).rows] == [1, 2]


def test_a_file_system_without_marks_is_appended_to_all_the_same(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    for number in range(2):
        workshop.run("sink_file", Given({"path": "a.csv", "mode": "append"}, [f"SELECT {number} AS id"]))
    assert [row[0] for row in workshop.run("source_file", Given({"path": "a.csv"})).rows] == [0, 1]


def fail_with_full_disk(path: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))
