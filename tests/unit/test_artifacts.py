"""Artifacts are whole or absent, stay below their folder, and are collected when nobody needs them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs.artifacts import ArtifactMissing, ArtifactStore

KEY = "0198aaaa-0000-7000-8000-000000000000/3.1.parquet"
RUN = KEY.split("/", maxsplit=1)[0]
WHOLE = b"PAR1 content PAR1"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def put(store: ArtifactStore, key: str, content: bytes = WHOLE) -> None:
    with store.draft(key) as draft:
        draft.write_bytes(content)


def names(store: ArtifactStore, run_id: str = RUN) -> list[str]:
    return sorted(path.name for path in store.run_folder(run_id).iterdir())


def test_what_was_written_is_read(store: ArtifactStore) -> None:
    put(store, KEY)
    with store.open(KEY) as file:
        assert file.read() == WHOLE
    assert store.exists(KEY)
    assert store.size(KEY) == len(WHOLE)
    assert names(store) == ["3.1.parquet"]


def test_only_this_account_may_read(store: ArtifactStore) -> None:
    put(store, KEY)
    assert store.path(KEY).stat().st_mode & 0o777 == 0o600
    assert store.run_folder(RUN).stat().st_mode & 0o777 == 0o700
    assert store.root.stat().st_mode & 0o777 == 0o700


def test_a_failure_leaves_nothing_and_the_old_artifact_untouched(store: ArtifactStore) -> None:
    put(store, KEY)
    with pytest.raises(RuntimeError, match="half-way"), store.draft(KEY) as draft:
        draft.write_bytes(b"half")
        raise RuntimeError("half-way")
    assert store.path(KEY).read_bytes() == WHOLE
    assert names(store) == ["3.1.parquet"]


def test_nothing_is_seen_under_the_key_before_the_end(store: ArtifactStore) -> None:
    with store.draft(KEY) as draft:
        draft.write_bytes(WHOLE)
        assert not store.exists(KEY)
    assert store.exists(KEY)


def test_content_and_name_are_durable_before_the_block_is_left(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    with store.draft(KEY) as draft:
        draft.write_bytes(WHOLE)
        steps.clear()
    assert steps == [f"sync {draft.name}", "rename", f"sync {RUN}"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        "a/b",
        "/etc/passwd",
        "../a/b.parquet",
        "a/../b.parquet",
        "a/b/c.parquet",
        ".work/a.parquet",
        "a/.b.parquet",
        "a/b.parquet\n",
        "a\0/b.parquet",
    ],
)
def test_what_is_no_key_is_refused(store: ArtifactStore, key: str) -> None:
    for use in (store.path, store.open, store.size, store.exists, store.delete):
        with pytest.raises(ValueError, match="not an artifact key"):
            use(key)


@pytest.mark.parametrize("run_id", ["", ".", "..", ".work", "a/b", "a\0"])
def test_what_is_no_run_is_refused(store: ArtifactStore, run_id: str) -> None:
    for use in (store.run_folder, store.make_run_folder, store.delete_run):
        with pytest.raises(ValueError, match="not a run's id"):
            use(run_id)


def test_a_missing_artifact_is_told(store: ArtifactStore) -> None:
    assert not store.exists(KEY)
    assert not store.verify(KEY)
    for use in (store.open, store.size):
        with pytest.raises(ArtifactMissing):
            use(KEY)
    store.delete(KEY)
    store.delete_run(RUN)


@pytest.mark.parametrize(
    ("content", "byte_count", "whole"),
    [
        (WHOLE, None, True),
        (WHOLE, len(WHOLE), True),
        (WHOLE, 3, False),
        (WHOLE[:-1], None, False),
        (b"", None, False),
        (b"PAR1", None, False),
        (b"x" * 50, None, False),
    ],
)
def test_an_artifact_is_verified_by_its_size_and_its_ends(store: ArtifactStore, content: bytes, byte_count: int | None, whole: bool) -> None:
    put(store, KEY, content)
    assert store.verify(KEY, byte_count) is whole


def test_a_run_is_deleted_with_its_drafts(store: ArtifactStore) -> None:
    put(store, KEY)
    (store.run_folder(RUN) / ".4.1.parquet.x.draft").write_bytes(b"half")
    put(store, "other/1.1.parquet")
    store.delete_run(RUN)
    assert store.run_ids() == ["other"]


def test_a_run_folder_that_is_a_link_is_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("keep")
    store.run_folder("link").symlink_to(tmp_path / "precious")
    store.delete_run("link")
    store.prune(lambda run_id, keys: ())
    assert (tmp_path / "precious/file").read_text() == "keep"


def test_pruning_collects_what_nobody_references(store: ArtifactStore) -> None:
    for key in ("old/1.1.parquet", "old/2.1.parquet", "active/1.1.parquet"):
        put(store, key)
    for run_id in ("old", "active"):
        (store.run_folder(run_id) / ".2.2.parquet.x.draft").write_bytes(b"half")
    asked: dict[str, frozenset[str]] = {}

    def keep(run_id: str, keys: frozenset[str]) -> tuple[str, ...] | None:
        asked[run_id] = keys
        return None if run_id == "active" else ("old/2.1.parquet",)

    pruned = store.prune(keep)

    assert asked == {"old": frozenset({"old/1.1.parquet", "old/2.1.parquet"}), "active": frozenset({"active/1.1.parquet"})}
    assert names(store, "old") == ["2.1.parquet"]
    assert names(store, "active") == [".2.2.parquet.x.draft", "1.1.parquet"]
    assert (pruned.files, pruned.byte_count) == (2, len(WHOLE) + 4)


def test_two_who_prune_do_not_trip_over_each_other(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other removes a file between the listing and the look at it."""
    for key in ("old/1.1.parquet", "old/2.1.parquet"):
        put(store, key)
    listed = os.scandir

    class Vanishing:
        def __init__(self, folder: Path) -> None:
            with listed(folder) as entries:
                self.entries = list(entries)
            if folder.name == "old":
                store.delete("old/1.1.parquet")

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Vanishing)

    assert store.prune(lambda run_id, keys: ()).files == 1


def test_pruning_removes_folders_that_are_empty(store: ArtifactStore) -> None:
    put(store, KEY)
    store.prune(lambda run_id, keys: ())
    assert store.run_ids() == []


def test_the_folder_of_a_killed_process_is_collected_and_a_living_one_is_not(store: ArtifactStore) -> None:
    mine = store.workspace()
    (mine.folder() / "spilled").write_bytes(b"x")
    script = (
        "import os, pathlib, sys; from runs.artifacts import ArtifactStore;"
        "workspace = ArtifactStore(pathlib.Path(sys.argv[1])).workspace(); print(workspace.path); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(store.root)], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert left.is_dir()

    store.prune(lambda run_id, keys: None)

    assert not left.exists()
    assert mine.path.is_dir()
    mine.close()
    assert not mine.path.exists()
