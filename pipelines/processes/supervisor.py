"""The supervisor of one job: starts it limited, watches it, and ends it with all that it started.

Over the control socket the worker sends `STOP` (end the job: TERM, then KILL after the grace) and `BEAT` (it lives). The
supervisor answers once with its process (a pidfd) and at the end with how the job ended, as JSON. When the socket closes, the
worker is dead; when it is silent for too long, it is stopped or cut off and another may be executing the run by now: either
way everything is killed at once.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.processes import reach, script, system
from pipelines.processes.protocol import JOB, NOT_EXECUTED, SCRIPT, STOP

_LOOK_SECONDS = 0.5  # between two looks at memory and number of processes; looking takes milliseconds
_LONGEST_LOOK_SHARE = 0.02
_KILLING_SECONDS = 0.01
_MIB = 1024**2


def supervise(folder: str, control: int, out: int, err: int) -> None:
    """Run the job in `folder` to its end, whatever that is. In a process of its own, which has nothing else to do."""
    os.setsid()
    system.adopt_orphans()
    path = Path(folder) / JOB
    job = json.loads(path.read_bytes())
    path.unlink()  # it may hold what the job's environment is to hold
    channel = socket.socket(fileno=control)
    woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_job(job, folder, out, err, supervisor)
    os.close(out)
    os.close(err)
    channel.settimeout(0)
    with contextlib.suppress(OSError):
        socket.send_fds(channel, [b"started"], [os.pidfd_open(supervisor)])
    _Watch(pid, channel, woken, folder, job["limits"], forked=job["kind"] == SCRIPT).until_the_end()


class _Watch:
    def __init__(self, pid: int, channel: socket.socket, woken: int, folder: str, limits: dict[str, Any], *, forked: bool) -> None:
        self._pid = pid
        self._folder = folder
        self._channel = channel
        self._woken = woken
        self._limits = limits
        # A fork has all that this process has, shared until it writes: no memory of the job's.
        self._shared = system.own_memory() if forked else 0
        self._heard = time.monotonic()
        self._look_at = self._heard + _LOOK_SECONDS
        self._kill_at = float("inf")
        self._told = False
        self._gone = False  # the worker
        self._limit = ""
        self._left_behind = 0
        self._status: int | None = None  # of the job's own process, as waitpid gives it
        self._cpu_seconds = 0.0

    def until_the_end(self) -> None:
        while self._has_children():
            now = time.monotonic()
            self._listen(now)
            if now >= self._look_at and now < self._kill_at:
                self._look(now)
            if self._gone or now - self._heard > self._limits["silence_seconds"]:
                self._gone, self._kill_at = True, now
            if self._status is not None and not self._told and now < self._kill_at:
                self._left_behind = len(system.descendants())
                self._kill_at = now
            if now >= self._kill_at:
                _kill_all()
            self._sleep(now)
        if not self._gone:
            self._report()

    def _has_children(self) -> bool:
        """False when all are gone: what loses its parent becomes our child, so there is no other descendant either."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._pid:
                self._status = status
                self._cpu_seconds = usage.ru_utime + usage.ru_stime

    def _listen(self, now: float) -> None:
        while True:
            try:
                message = self._channel.recv(16)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._gone = True
                return
            self._heard = now
            if message == STOP and not self._told:
                self._told = True
                self._kill_at = min(self._kill_at, now + self._limits["grace_seconds"])
                system.send(system.descendants(), signal.SIGTERM)

    def _look(self, now: float) -> None:
        """Kill what has more processes, in all its processes more memory, or in its folder more files, than it may."""
        pids = system.descendants()
        if len(pids) > self._limits["processes"]:
            self._limit = "processes"
        most = self._limits["memory_mb"] * _MIB
        # The cheap figure counts what forks share once for each; it is enough to see that there is no question.
        if sum(max(0, system.own_memory(pid) - self._shared) for pid in pids) > most:
            exact = sum(system.proportional_memory(pid) for pid in pids)
            if exact > most + self._shared:
                self._limit = "memory"
        if system.disk_used(self._folder) > self._limits["disk_mb"] * _MIB:
            self._limit = "disk"
        if self._limit:
            self._kill_at = now
        took = time.monotonic() - now
        self._look_at = now + max(_LOOK_SECONDS, took / _LONGEST_LOOK_SHARE)

    def _sleep(self, now: float) -> None:
        if now >= self._kill_at:
            seconds = _KILLING_SECONDS
        else:
            seconds = max(0.0, min(self._look_at, self._kill_at, self._heard + self._limits["silence_seconds"]) - now)
        watched = [self._woken] if self._gone else [self._woken, self._channel.fileno()]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)

    def _report(self) -> None:
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        answer = {
            "status": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "limit": self._limit,
            "left_behind": self._left_behind,
            "cpu_seconds": self._cpu_seconds,
        }
        with contextlib.suppress(OSError):
            self._channel.send(json.dumps(answer).encode())


def _kill_all() -> None:
    """Kill every descendant. They are stopped first: what forks faster than we look could get away from a list."""
    stopped: set[int] = set()
    while fresh := set(system.descendants()) - stopped:
        system.send(list(fresh), signal.SIGSTOP)
        stopped |= fresh
    system.send(list(stopped), signal.SIGKILL)


def _become_job(job: dict[str, Any], folder: str, out: int, err: int, supervisor: int) -> None:
    """The child: a session of its own, nothing open but its streams, nothing in its environment but what the job says. Does not return."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        system.die_with(supervisor)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
            os.dup2(source, target)
        system.close_descriptors()
        system.be_first_to_go()
        system.gain_no_privileges()
        system.give_up_capabilities()
        os.umask(0o077)
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["working_folder"])
        if job["reach"] is not None:
            reach.confine(job["reach"], folder)
        limits = job["limits"]
        memory, cpu_seconds, disk = limits["memory_mb"] * _MIB, limits["cpu_seconds"], limits["disk_mb"] * _MIB
        if job["kind"] == SCRIPT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            system.limit(system.address_space() + memory, cpu_seconds, disk)
            status = script.run(job, folder)
        else:
            _execute(job, memory, cpu_seconds, disk)
    except BaseException:
        # Ours, not the script's: those are caught where it runs. Without a path of the host, for people may read it.
        kind, value, _ = sys.exc_info()
        os.write(2, f"The process could not be set up: {getattr(kind, '__name__', '')}: {getattr(value, 'strerror', None) or value}\n".encode())
    finally:
        os._exit(status)


def _execute(job: dict[str, Any], memory: int, cpu_seconds: int | None, disk: int) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    arguments, environment = job["arguments"], dict(os.environ)
    system.limit(memory, cpu_seconds, disk)
    try:
        os.execve(arguments[0], arguments, environment)  # noqa: S606 - no shell unless the job says so
    except OSError as error:
        os.write(2, f"{arguments[0]} cannot be executed: {error.strerror}\n".encode())
        os._exit(NOT_EXECUTED)
