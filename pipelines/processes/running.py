"""The worker's side: starts a job in a fork server, reads what it prints, and does not return before all its processes are gone."""

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.nodes.base import NodeLogger, Stop
from pipelines.processes.lines import Budget, Lines
from pipelines.processes.protocol import BEAT, COMMAND, JOB, SCRIPT, STOP

ROOT = Path(__file__).resolve().parents[2]
_PATH = "/usr/local/bin:/usr/bin:/bin"
# All that a job finds in its environment, besides its folder and what its config says. Arrow takes its memory from the system,
# so that the limits on it count, and starts no thread, for only a process with one can be forked at any moment; numeric
# libraries start no thread for each processor of the machine.
ENVIRONMENT: Mapping[str, str] = {
    "PATH": _PATH,
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_SERVE = "import sys; sys.path.insert(0, sys.argv[1]); from pipelines.processes import forkserver; del sys.path[0]; forkserver.main(int(sys.argv[2]))"
GRACE_SECONDS = 3.0  # between TERM and KILL
_STUBBORN_SECONDS = 1.0  # after the grace, for a supervisor that does not answer
MOST_PROCESSES = 128
MOST_DISK_MB = 16_384
_SILENCE_SHARE = 0.6  # of a lease: after it, the worker may have been given up by others within the rest of the lease
_BEATS_PER_SILENCE = 5
_START_SECONDS = 20.0
_CHUNK = 64 * 1024
_SHOWN_LINES = 5


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What one job may use. Memory is that of all its processes together, and the address space of each."""

    memory_mb: int
    cpu_seconds: int | None = None
    processes: int = MOST_PROCESSES
    grace_seconds: float = GRACE_SECONDS
    silence_seconds: float = 9.0
    disk_mb: int = MOST_DISK_MB

    @classmethod
    def within(cls, lease_seconds: float, memory_mb: int, cpu_seconds: int | None, disk_mb: int = MOST_DISK_MB) -> "ProcessLimits":
        """Of a job of a worker with that lease: should the worker be stopped, its job is dead before another executes the run."""
        return cls(memory_mb, cpu_seconds, silence_seconds=lease_seconds * _SILENCE_SHARE, disk_mb=disk_mb)


@dataclass(frozen=True, slots=True)
class Reach:
    """The files that a job may open, besides its own folder and what every program needs (`processes/reach.py`).

    What is `private` stays out of reach where it lies in what may be opened; a file of `read` is named for itself. `data` are the folders of
    file nodes: a job that put a link there while such a node runs would have the worker follow it.
    """

    read: Sequence[Path]
    data: Sequence[Path]
    write: Sequence[Path]
    private: Sequence[Path]

    def as_json(self) -> dict[str, list[str]]:
        found = {"read": self.read, "data": self.data, "write": self.write, "private": self.private}
        return {name: [*map(str, paths)] for name, paths in found.items()}


@dataclass(frozen=True, slots=True)
class Job:
    """A script or a command. `folder` is private to the job; `working_folder` is where it starts and may write."""

    kind: str
    folder: Path
    working_folder: Path
    limits: ProcessLimits
    details: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    reach: Reach | None = None  # None: whatever the account may open

    @classmethod
    def script(
        cls, folder: Path, limits: ProcessLimits, details: Mapping[str, Any], python: str = sys.executable, reach: Reach | None = None
    ) -> "Job":
        """`details` as `script.run` takes them."""
        return cls(SCRIPT, folder, _make(folder / "home"), limits, details, python=python, reach=reach)

    @classmethod
    def command(
        cls,
        folder: Path,
        limits: ProcessLimits,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        working_folder: Path | None = None,
        reach: Reach | None = None,
    ) -> "Job":
        """`arguments[0]` is the path of the program."""
        home = _make(folder / "home")
        return cls(COMMAND, folder, working_folder or home, limits, {"arguments": list(arguments)}, environment, reach=reach)

    def write(self) -> None:
        home = str(self.folder / "home")
        job = {
            **self.details,
            "kind": self.kind,
            "working_folder": str(self.working_folder),
            "limits": asdict(self.limits),
            "reach": None if self.reach is None else self.reach.as_json(),
            "environment": {**ENVIRONMENT, "HOME": home, "TMPDIR": home, **self.environment},
        }
        path = self.folder / JOB
        path.touch(mode=0o600)
        path.write_text(json.dumps(job))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended. Exactly one of `status` and `signal` is set; `limit` names what it exceeded ("memory", "processes", "disk")."""

    status: int | None
    signal: int | None
    limit: str
    left_behind: int  # processes that still ran when the job's own had ended
    cpu_seconds: float
    last_words: tuple[str, ...] = ()  # the last lines of stderr

    def complaint(self, what: str, limits: ProcessLimits) -> NodeError | None:
        """The failure that the end means by itself; None when the process ended on its own account. `what` is "script", "command"."""
        if exceeded := self._exceeded(what, limits):
            return NodeError(exceeded)
        if self.signal == signal.SIGKILL:
            return TransientNodeError(f"The process of the {what} was killed from outside; the machine may have run out of memory.")
        if self.signal is not None:
            return NodeError(f"The process of the {what} was ended by signal {_name_of(self.signal)}.")
        return None

    def _exceeded(self, what: str, limits: ProcessLimits) -> str:
        """The limit, as a sentence; "" when it was none."""
        if self.limit == "memory":
            return f"The {what} and what it started used more than {limits.memory_mb} MB of memory (max_memory_mb)."
        if self.limit == "processes":
            return f"The {what} had more than {limits.processes} processes at the same time."
        if self.limit == "disk" or self.signal == signal.SIGXFSZ:
            return f"The {what} wrote more than {limits.disk_mb} MB of files (max_disk_mb)."
        cpu = limits.cpu_seconds
        # First comes SIGXCPU; what heeds it not is killed a second of computing later.
        if cpu is not None and (self.signal == signal.SIGXCPU or (self.signal == signal.SIGKILL and self.cpu_seconds >= cpu)):
            return f"The {what} computed for longer than {cpu} seconds (max_cpu_seconds)."
        return ""


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return str(number)


def run(job: Job, stop: Stop, log: NodeLogger, on_line: Callable[[str, str], None]) -> Ended:
    """Run the job to its end; none of its processes is left when this returns or raises.

    `on_line(stream, line)` gets each line of "stdout" and "stderr", up to a number; those left out are counted in a log line.
    Errors: the reason of `stop`; `NodeError` when the job cannot be started.
    """
    job.write()
    with _Conversation(job, stop, on_line) as conversation:
        ended = conversation.until_the_end()
    if conversation.budget.dropped:
        log.warning(f"{conversation.budget.dropped:,} more lines were printed and not kept.")
    stop.check()
    if ended is None:
        raise TransientNodeError("The process that watched over the job was killed from outside.")
    return ended


def _make(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


class _Conversation:
    """With one supervisor."""

    def __init__(self, job: Job, stop: Stop, on_line: Callable[[str, str], None]) -> None:
        self._job = job
        self._stop = stop
        self._on_line = on_line
        self.budget = Budget()
        self._lines: dict[int, tuple[str, Lines]] = {}
        self._last_words: list[str] = []
        self._streams: list[tuple[str, Lines]] = []
        self._hung_up = False
        self._selector = selectors.DefaultSelector()
        self._process: int | None = None  # the supervisor, as a pidfd
        self._told_at: float | None = None
        self._report: dict[str, Any] | None = None

    def __enter__(self) -> "_Conversation":
        for _ in range(2):  # a server that somebody killed is started anew
            if self._start():
                break
        else:
            raise NodeError("The interpreter that is to run the script cannot be started, or it has no pyarrow; the worker's log says more.")
        self._stop.on_stop(self._tell)
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()  # should it still run (an error here), this ends it at once
        for descriptor in self._lines:
            os.close(descriptor)
        self._lines.clear()
        if self._process is not None:
            os.close(self._process)
            self._process = None
        self._selector.close()

    def until_the_end(self) -> Ended | None:
        """None when the supervisor did not live to tell."""
        beat = self._job.limits.silence_seconds / _BEATS_PER_SILENCE
        next_beat = 0.0
        while not self._hung_up:
            if time.monotonic() >= next_beat:
                self._send(BEAT)
                next_beat = time.monotonic() + beat
            self._end_a_stubborn_supervisor()
            for key, _ in self._selector.select(max(0.0, next_beat - time.monotonic())):
                if key.fileobj is self._control:
                    self._listen()
                else:
                    self._read(key.fd)
        for descriptor in tuple(self._lines):
            while self._read(descriptor):
                pass  # what still lies in the pipe; nobody writes any more
        for stream, lines in self._streams:
            for line in lines.end():
                self._take(stream, line)
        return None if self._report is None else Ended(**self._report, last_words=tuple(self._last_words))

    def _start(self) -> bool:
        """Hand the job over and wait for its supervisor; False when there is none."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends = [os.pipe() for _ in range(2)]
        try:
            _server_of(self._job.python).start(self._job.folder, [theirs.fileno(), *(writing for _, writing in ends)])
        finally:
            theirs.close()
            for _, writing in ends:
                os.close(writing)
        self._control.settimeout(_START_SECONDS)
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
        except (ConnectionError, TimeoutError):
            message, descriptors = b"", []
        if not message:
            _server_of(self._job.python).note_death()
            self._control.close()
            for reading, _ in ends:
                os.close(reading)
            return False
        (self._process,) = descriptors
        self._control.settimeout(0)
        self._selector.register(self._control, selectors.EVENT_READ)
        for stream, (reading, _) in zip(("stdout", "stderr"), ends, strict=True):
            os.set_blocking(reading, False)
            self._selector.register(reading, selectors.EVENT_READ)
            lines = Lines(self.budget)
            self._lines[reading] = (stream, lines)
            self._streams.append((stream, lines))
        return True

    def _tell(self) -> None:
        """From the thread that stops the node; must not block."""
        if self._told_at is None:
            self._told_at = time.monotonic()
        self._send(STOP)

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended, or is stopped and its buffer is full
            self._control.send(message)

    def _end_a_stubborn_supervisor(self) -> None:
        """One that a job has stopped or bent does not hear; what it leaves is killed by the fork server."""
        if self._told_at is None or self._process is None:
            return
        if time.monotonic() > self._told_at + self._job.limits.grace_seconds + _STUBBORN_SECONDS:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def _listen(self) -> None:
        try:
            message = self._control.recv(4096)
        except (BlockingIOError, ConnectionResetError):
            # Reset: it ended with a beat of ours unread. That is told once; what it had said before is still to be read, then its end.
            return
        if message:
            self._report = json.loads(message)
        else:
            self._hung_up = True
            self._selector.unregister(self._control)

    def _read(self, descriptor: int) -> bool:
        """False when there is nothing more for now."""
        stream, lines = self._lines[descriptor]
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        for line in lines.feed(data):
            self._take(stream, line)
        if not data:
            self._selector.unregister(descriptor)
            del self._lines[descriptor]
            os.close(descriptor)
        return bool(data)

    def _take(self, stream: str, line: str) -> None:
        if stream == "stderr" and line.strip():
            self._last_words = [*self._last_words, line][-_SHOWN_LINES:]
        self._on_line(stream, line)


class ForkServer:
    """One warm interpreter, started with its first job. Thread-safe."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def start(self, folder: Path, descriptors: Sequence[int]) -> None:
        """Start the job in `folder`; `descriptors` are its control socket, stdout and stderr. Errors: `NodeError`."""
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._close()
            if self._channel is None:
                self._open()
            assert self._channel is not None
            try:
                socket.send_fds(self._channel, [str(folder).encode()], descriptors)
            except ConnectionError:
                self._close()

    def note_death(self) -> None:
        """A job was not started: if that is because the server ended, let go of it."""
        with self._lock:
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=1)
                    self._close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _open(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [self._python, "-I", "-c", _SERVE, str(ROOT), str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(
                    command,
                    env=dict(ENVIRONMENT),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                self._close()
                raise NodeError(f"The interpreter cannot be started ({(error.strerror or 'unknown error').lower()}).") from error

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)  # its end is that of its socket
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


_servers: dict[str, ForkServer] = {}
_servers_lock = threading.Lock()


def _server_of(python: str) -> ForkServer:
    with _servers_lock:
        if python not in _servers:
            _servers[python] = ForkServer(python)
        return _servers[python]


@atexit.register
def _close_servers() -> None:
    for server in _servers.values():
        server.close()
