"""The sandboxes of a worker process: DuckDB instances for SQL that people wrote, one a run at a time, used again by later runs.

A sandbox can read and write in one folder of its own, and nowhere else, ever: that is fixed when its instance starts. The
artifacts that a node reads are hard links in that folder for as long as the node runs; what it writes is moved out. So a
node reaches its inputs and not even the other outputs of its own run.

Starting an instance costs 20 ms of processor time or more, which is why it is kept for the next run. Nothing passes from one
run to the next: node SQL is a single SELECT on a connection that is closed after it, no setting can be changed, and a sandbox
in which a node type left a table or the like is not used again.
"""

import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from duckdb import DuckDBPyConnection

from runs import duckdb_instances
from runs.artifacts import Workspace
from runs.duckdb_instances import EngineLimits

_LEFT_BEHIND = """SELECT (SELECT count(*) FROM duckdb_tables()) + (SELECT count(*) FROM duckdb_views() WHERE NOT internal)
    + (SELECT count(*) FROM duckdb_sequences()) + (SELECT count(*) FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory')"""


class Sandbox:
    """One instance and its folder."""

    def __init__(self, limits: EngineLimits, folder: Path, spill: Path) -> None:
        self.folder = folder
        self._instance = duckdb_instances.sandbox(limits, spill, [folder])

    def cursor(self) -> DuckDBPyConnection:
        """A connection of its own for one node. Close it."""
        return self._instance.cursor()

    @contextmanager
    def linked(self, *artifacts: Path) -> Iterator[list[Path]]:
        """The artifacts under names that the sandbox can read. Errors: `FileNotFoundError` with the artifact's path."""
        links: list[Path] = []
        try:
            for artifact in artifacts:
                links.append(self.folder / f"{secrets.token_hex(8)}.parquet")
                _link(artifact, links[-1])
            yield links
        finally:
            for link in links:
                link.unlink(missing_ok=True)

    def clear(self) -> bool:
        """Remove what was left in the folder. True when nothing of the run is left in the instance either."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)
        with closing(self.cursor()) as connection:
            found = connection.execute(_LEFT_BEHIND).fetchone()
        return found == (0,)

    def close(self) -> None:
        self._instance.close()


class SandboxPool:
    """Hands out sandboxes. Thread-safe."""

    def __init__(self, limits: EngineLimits, workspace: Workspace) -> None:
        self._limits = limits
        self._workspace = workspace
        self._lock = threading.Lock()
        self._idle: list[Sandbox] = []

    def acquire(self) -> Sandbox:
        """A sandbox that nobody else uses until it is released."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Sandbox(self._limits, self._workspace.folder(), self._workspace.folder())

    def release(self, sandbox: Sandbox) -> None:
        """Give it back. No node may be using it."""
        clean = sandbox.clear()
        with self._lock:
            if clean and len(self._idle) < self._limits.concurrent_runs:
                self._idle.append(sandbox)
                return
        sandbox.close()

    def close(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop().close()


def _link(artifact: Path, link: Path) -> None:
    try:
        os.link(artifact, link)
    except FileNotFoundError:
        raise
    except OSError:
        # Some file systems have no hard links, and a file of another account may not be linked. DuckDB's sandbox
        # follows no symbolic links, so what is left is a copy.
        with suppress(FileNotFoundError):
            link.unlink()
        shutil.copyfile(artifact, link)
