"""Executes dry runs in processes of their own, so that no crash, stuck query or lack of memory of one reaches the server.

The nursery (`dry_run_nursery.py`) starts with the first dry run and ends with the server. What its children answer is JSON, which can do
the server no harm whatever SQL they execute.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from brokoli_site.common.errors import OutOfTime, Unavailable
from pipelines.references import ENVIRONMENT_PREFIX
from runs.dry_run_nursery import REQUEST

AT_ONCE = 2
_WAITING = 16  # that may wait for others to end; each holds a thread of the server
_LONGEST_EVENT = 64 * 1024**2
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")


class Crashed(Exception):
    """The process ended before its dry run did."""


class DryRunProcesses:
    """Executes jobs, a few at the same time. Thread-safe; nothing is started before the first job."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = _WAITING) -> None:
        self._places = threading.BoundedSemaphore(at_once)
        self._callers = threading.BoundedSemaphore(at_once + waiting)
        self._lock = threading.Lock()
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def events(self, job: Mapping[str, Any], deadline: float) -> Iterator[dict[str, Any]]:
        """What the job's process tells of its nodes, as it happens, until all are done or `deadline` (monotonic) is over.

        Errors: `Unavailable` when too many others are before it; `OutOfTime`; `Crashed`.
        """
        with self._place(deadline), self._child(deadline) as connection:
            try:
                connection.send_bytes(json.dumps(job).encode())
                while event := _next(connection, deadline):
                    yield event
            except (EOFError, OSError) as error:
                if time.monotonic() >= deadline:
                    raise OutOfTime from error
                raise Crashed from error

    @contextmanager
    def _place(self, deadline: float) -> Iterator[None]:
        if not self._callers.acquire(blocking=False):
            raise Unavailable("Too many dry runs wait already; try again in a moment.")
        try:
            if not self._places.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise Unavailable("Other dry runs took all the time; try again in a moment.")
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._callers.release()

    @contextmanager
    def _child(self, deadline: float) -> Iterator[Connection]:
        """The connection to a new child, which is killed at the deadline, or when nobody reads what it writes."""
        ours, theirs = Pipe()
        with ours:
            with theirs, self._lock:
                self._send(theirs.fileno(), deadline)
            yield ours

    def _send(self, descriptor: int, deadline: float) -> None:
        """Tell the nursery, which is started (again) where it does not live."""
        message = REQUEST.pack(max(0.0, deadline - time.monotonic()))
        if self._control is not None and self._nursery is not None and self._nursery.poll() is None:
            try:
                socket.send_fds(self._control, [message], [descriptor])
            except OSError:
                pass  # it has just ended
            else:
                return
        self._stop()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._nursery = _start(theirs)
        socket.send_fds(self._control, [message], [descriptor])

    def close(self) -> None:
        """End the nursery and every dry run."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._nursery is not None:
            self._nursery.kill()  # its children die with it
            self._nursery.wait()
            self._nursery = None


def _next(connection: Connection, deadline: float) -> dict[str, Any]:
    """The next event; `{}` after the last. Errors: `OutOfTime`, `EOFError`."""
    if not connection.poll(max(0.0, deadline - time.monotonic())):
        raise OutOfTime
    found: dict[str, Any] = json.loads(connection.recv_bytes(_LONGEST_EVENT))
    return found


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-B", "-P", "-m", "runs.dry_run_nursery"],
        env=_environment(),
        cwd="/",
        stdin=control.fileno(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """What a node may know of the server's environment, and what Python needs; no secret of the server."""
    found = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(ENVIRONMENT_PREFIX)}
    return found | {"HOME": "/nonexistent", "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)}


processes = DryRunProcesses()
atexit.register(processes.close)
