"""The outputs of nodes as Parquet files in a local folder: written beside, made durable, renamed; opened, verified, pruned.

Layout: `{root}/{run_id}/{name}.parquet`, drafts beside them as `.{name}.parquet.{token}.draft`, and `{root}/.work/{token}/`
for what lives no longer than the process that made it (spill files, scratch folders). No database: the caller says what is
still referenced.

A worker may be killed at any moment. Before the rename it leaves a draft, after it a file that no output names; both are
garbage that `prune` collects, and neither was ever visible under a key that somebody registered.
"""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from brokoli_site.common import durable
from pipelines.expressions import literal
from pipelines.nodes.files import exact_pattern

_KEY = re.compile(r"(?P<run>[0-9A-Za-z][0-9A-Za-z_-]{0,63})/(?P<name>[0-9A-Za-z][0-9A-Za-z._-]{0,120}\.parquet)")
_RUN = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_PARQUET_MAGIC = b"PAR1"
_WORK = ".work"
_OWNER = ".owner"

# Given a run's id and the keys of its files, the keys to keep; None leaves the run's folder alone, because it may still be
# written to: a file that is renamed and not yet registered is indistinguishable from garbage.
KeepRule = Callable[[str, frozenset[str]], Collection[str] | None]


class ArtifactMissing(FileNotFoundError):
    """There is no artifact of that key: it was deleted, or never finished."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` deleted."""

    files: int = 0
    byte_count: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(self.files + other.files, self.byte_count + other.byte_count)


def relation(path: Path) -> str:
    """The artifact at `path` as SQL to select from."""
    return f"read_parquet({literal(exact_pattern(path))})"


class ArtifactStore:
    """Artifacts under one local folder. Thread-safe; any number of processes may share the folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Resolved once: DuckDB's sandbox compares real paths, and a link in the middle would make it refuse our own files.
        self.root = root.resolve()

    def path(self, key: str) -> Path:
        """Where the artifact of that key is. Errors: `ValueError` for what is no key (nothing outside the root has one)."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError(f"{key!r} is not an artifact key")
        return self.root / match["run"] / match["name"]

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run's artifacts, whether it exists or not. Errors: `ValueError`."""
        if _RUN.fullmatch(run_id) is None:
            raise ValueError(f"{run_id!r} is not a run's id")
        return self.root / run_id

    def make_run_folder(self, run_id: str) -> Path:
        """The folder of a run's artifacts, which exists afterwards."""
        folder = self.run_folder(run_id)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return folder
        durable.sync(self.root)
        return folder

    @contextmanager
    def draft(self, key: str, folder: Path | None = None) -> Iterator[Path]:
        """A path to write to, beside the artifact's or in `folder` (on the same disk). When the block ends well the file is
        durable under `key`, else it is gone.

        A key is written once; when it exists already (a worker that lost its lease wakes up) the new file replaces it whole.
        """
        final = self.path(key)
        self.make_run_folder(final.parent.name)
        draft = (folder or final.parent) / f".{final.name}.{secrets.token_hex(4)}.draft"
        try:
            yield draft
            draft.chmod(0o600)
            durable.put(draft, final)
        except BaseException:
            with suppress(FileNotFoundError):
                draft.unlink()
            raise

    def open(self, key: str) -> BinaryIO:
        """The artifact, for streaming. Errors: `ArtifactMissing`."""
        try:
            return self.path(key).open("rb")
        except FileNotFoundError as error:
            raise ArtifactMissing(key) from error

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def size(self, key: str) -> int:
        """Bytes. Errors: `ArtifactMissing`."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError as error:
            raise ArtifactMissing(key) from error

    def verify(self, key: str, byte_count: int | None = None) -> bool:
        """Whether the artifact is there and whole: of the size registered (when given), with Parquet's mark at both ends."""
        try:
            with self.open(key) as file:
                size = file.seek(0, os.SEEK_END)
                if size < 12 or byte_count not in (None, size):
                    return False
                file.seek(0)
                start = file.read(4)
                file.seek(-4, os.SEEK_END)
                return start == file.read(4) == _PARQUET_MAGIC
        except (OSError, ValueError):
            return False

    def delete(self, key: str) -> None:
        """Remove one artifact, if it is there."""
        self.path(key).unlink(missing_ok=True)

    def delete_run(self, run_id: str) -> None:
        """Remove all artifacts of a run, drafts too, if there are any."""
        folder = self.run_folder(run_id)
        if folder.is_symlink():  # never ours; do not follow it out of the root
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder, ignore_errors=True)

    def run_ids(self) -> list[str]:
        """The runs that have a folder, sorted."""
        with os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if _RUN.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False))

    def prune(self, keep: KeepRule) -> Pruned:
        """Delete drafts, artifacts that nobody references and folders of dead processes; never a run that `keep` leaves alone."""
        pruned = Pruned()
        for run_id in self.run_ids():
            pruned += self.prune_run(run_id, keep)
        self._prune_work()
        return pruned

    def prune_run(self, run_id: str, keep: KeepRule) -> Pruned:
        """As `prune`, in the folder of one run alone. Errors: `ValueError` for what is no run's id."""
        folder = self.run_folder(run_id)
        try:
            sizes = _sizes(folder)
        except (FileNotFoundError, NotADirectoryError):
            return Pruned()
        kept = keep(run_id, frozenset(f"{run_id}/{name}" for name in sizes if not name.endswith(".draft")))
        if kept is None:
            return Pruned()
        pruned = Pruned()
        for name, size in sizes.items():
            if f"{run_id}/{name}" not in kept:
                (folder / name).unlink(missing_ok=True)
                pruned += Pruned(1, size)
        with suppress(OSError):  # not empty: still in use
            folder.rmdir()
        return pruned

    def workspace(self) -> "Workspace":
        """A folder of this process's own on the same disk as the artifacts. Close it at the end; `prune` collects it after a kill."""
        return Workspace(self.root / _WORK)

    def _prune_work(self) -> None:
        work = self.root / _WORK
        if not work.is_dir():
            return
        for folder in work.iterdir():
            try:
                lock = os.open(folder / _OWNER, os.O_RDWR)
            except FileNotFoundError:
                continue  # being made, or being removed, at this moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass  # its process lives
            finally:
                os.close(lock)


class Workspace:
    """A private folder that lives as long as its process: the lock on it falls with the process, however that ends."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(exist_ok=True, mode=0o700)
        self.path = parent / secrets.token_hex(8)
        self.path.mkdir(mode=0o700)
        self._lock = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def folder(self) -> Path:
        """A new folder inside."""
        path = self.path / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file in the folder; files that others remove meanwhile are left out. Errors: `FileNotFoundError` without the folder."""
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if not entry.is_dir(follow_symlinks=False):
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    return sizes
