"""The process that dry runs are born in: it has all modules loaded, and forks one child for each dry run.

`python -m runs.dry_run_nursery`, started by `dry_run_processes.py` with a socket as its standard input and an environment without
secrets. Each message there is a number of seconds and the descriptor of a connection; the child that is forked for it reads its
job from that connection and writes to it what becomes of each node. A child that still lives when its seconds are over is
killed; all are, when the socket closes, which it does with the server's end. No thread runs here before a fork.
"""

import ctypes
import datetime as dt
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from django.conf import settings

from brokoli_site.common.addresses import Allowed
from pipelines.nodes import registry
from pipelines.nodes.base import RunFacts
from pipelines.nodes.files import DataFolders
from pipelines.spec import from_document
from pipelines.vault import Vault
from runs import dry_run_guard
from runs.dry_run_engine import DryRun

REQUEST = struct.Struct("d")
_LONGEST_JOB = 64 * 1024**2
# What a child may allocate for each byte that the data engine may use: rows in passing, and Python.
_ALLOWANCE = 2
_PR_SET_PDEATHSIG = 1
_OUT_OF_MEMORY_SCORE = Path("/proc/self/oom_score_adj")


class Nursery:
    """Children by process id, with the (monotonic) time at which each is killed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, float] = {}

    def run(self) -> None:
        """Until the server closes its end."""
        while True:
            readable, _, _ = select.select([self._control], [], [], self._seconds_to_look())
            self._reap()
            if readable and not self._serve():
                break
        for process_id in self._children:
            _kill(process_id)

    def _serve(self) -> bool:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, 1)
        except OSError:
            return False
        if len(message) < REQUEST.size:
            return False
        (seconds,) = REQUEST.unpack(message)
        process_id = os.fork()
        if process_id == 0:
            self._control.close()
            _live(Connection(descriptors[0]), seconds)
        self._children[process_id] = time.monotonic() + seconds
        os.close(descriptors[0])
        return True

    def _reap(self) -> None:
        for process_id, deadline in list(self._children.items()):
            if time.monotonic() >= deadline:
                _kill(process_id)
            if os.waitpid(process_id, os.WNOHANG)[0]:
                del self._children[process_id]

    def _seconds_to_look(self) -> float | None:
        """Until the next deadline; a child that has ended waits no longer than a second for its funeral."""
        return min(1.0, max(0.01, min(self._children.values()) - time.monotonic())) if self._children else None


def _kill(process_id: int) -> None:
    """The child and all that share its session. Not reaped yet, so the number is still its own."""
    for kill in (os.killpg, os.kill):
        try:
            kill(process_id, signal.SIGKILL)
        except OSError:
            continue  # not the leader of a session yet, or gone


def _live(connection: Connection, seconds: float) -> None:
    """A child's whole life."""
    status = 1
    try:
        os.setsid()
        # Should nobody be left to kill it: the signal's own action does, whatever Python or DuckDB are at.
        signal.setitimer(signal.ITIMER_REAL, seconds + 1)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        job = json.loads(connection.recv_bytes(_LONGEST_JOB))
        dry_run_guard.install(job["memory_bytes"] * _ALLOWANCE)
        for event in _dry_run(job).walk():
            connection.send_bytes(json.dumps(event).encode())
        connection.send_bytes(b"{}")
        status = 0
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass  # the server does not wait for it any more
    finally:
        os._exit(status)  # the interpreter's own end would run what the nursery registered


def _dry_run(job: dict[str, Any]) -> DryRun:
    settings.DISABLED_NODE_TYPES = tuple(job["disabled_node_types"])
    settings.ALLOWED_NETWORKS = Allowed.read(",".join((*job["allowed"]["networks"], *job["allowed"]["hosts"])))
    facts, vault = job["facts"], Vault.imported(job["vault"])
    return DryRun(
        spec=from_document(job["document"]),
        facts=RunFacts(
            run_id=facts["run_id"],
            pipeline_id=facts["pipeline_id"],
            pipeline_name=facts["pipeline_name"],
            params=facts["params"],
            started_at=dt.datetime.fromisoformat(facts["started_at"]),
        ),
        folders=DataFolders([Path(root) for root in job["data_dirs"]], [Path(path) for path in job["forbidden"]]),
        memory_bytes=job["memory_bytes"],
        threads=job["threads"],
        vaults={node_id: vault.only(**names) for node_id, names in job["named"].items()},
    )


def main() -> None:
    # The server stops it by closing the socket; a Ctrl-C in the terminal is the server's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Python 3.12 and later warn of a fork in a process with threads: DuckDB's parser has one, and forgets it in children.
    warnings.simplefilter("ignore", DeprecationWarning)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _OUT_OF_MEMORY_SCORE.exists():
        _OUT_OF_MEMORY_SCORE.write_text("1000")  # when memory runs out, a dry run goes before anything else
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # children have no business with it
    settings.configure(DISABLED_NODE_TYPES=(), ALLOWED_NETWORKS=Allowed())
    registry.all()
    Nursery(control).run()


if __name__ == "__main__":
    main()
