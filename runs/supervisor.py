"""Keeps the processes of one machine running: the web server and the workers. One signal stops them all.

Children live in sessions of their own, so that a Ctrl-C in the terminal reaches the supervisor alone, which then stops them
in order; should the supervisor itself be killed, Linux sends them SIGTERM.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_SECONDS = 30.0  # a child that lived this long starts again without waiting
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.2


@dataclass
class Child:
    """One supervised process, and when it may be started again."""

    name: str
    command: Sequence[str]
    grace_seconds: float
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    crashes: int = 0
    not_before: float = 0.0

    def start(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            self.command,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
            stdin=subprocess.DEVNULL,
        )
        self.started = time.monotonic()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def note_exit(self) -> str:
        """Set the back-off after an unexpected end; returns a sentence about it."""
        assert self.process is not None
        code = self.process.returncode
        lived = time.monotonic() - self.started
        self.crashes = 1 if lived >= _HEALTHY_SECONDS else self.crashes + 1
        wait = _BACKOFF_SECONDS[min(self.crashes, len(_BACKOFF_SECONDS)) - 1]
        self.not_before = time.monotonic() + wait
        self.process = None
        cause = f"signal {_signal_name(-code)}" if code < 0 else f"exit code {code}"
        return f"{self.name} ended ({cause}); starting it again in {wait:g} s"

    def send(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


@dataclass
class Supervisor:
    """Starts children, restarts what ends, and on SIGTERM or SIGINT stops all: the first signal in order, the second at once."""

    children: Sequence[Child]
    say: Callable[[str], None]
    _signals: int = 0
    _pipe: tuple[int, int] = field(default_factory=os.pipe)

    def run(self) -> int:
        """Exit code: 0 after an orderly end, 1 when a second signal cut it short."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        for child in self.children:
            child.start(os.environ)
        while not self._signals:
            for child in self.children:
                if child.process is not None and not child.running():
                    self.say(child.note_exit())
                if child.process is None and time.monotonic() >= child.not_before:
                    child.start(os.environ)
            select.select([self._pipe[0]], [], [], _POLL_SECONDS)
        return self._stop()

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1
        os.write(self._pipe[1], b"x")

    def _stop(self) -> int:
        self.say("Stopping: running nodes may finish. Ctrl-C again stops at once.")
        passed_on = 1
        for child in self.children:
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + max(child.grace_seconds for child in self.children)
        while any(child.running() for child in self.children):
            if self._signals > passed_on:
                passed_on = self._signals
                for child in self.children:
                    child.send(signal.SIGTERM)
                deadline = min(deadline, time.monotonic() + 5)
            if time.monotonic() >= deadline:
                for child in self.children:
                    child.send(signal.SIGKILL)
            time.sleep(0.02)
        return 1 if passed_on > 1 else 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal but the first and the last: Python has no names for them
        return str(number)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
