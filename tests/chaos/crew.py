"""The workers of a campaign: real worker processes, and the strikes that they suffer."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.local_server import ROOT

_STRIKES = {signal.SIGKILL: 45, signal.SIGSTOP: 35, signal.SIGTERM: 20}


@dataclass(frozen=True, slots=True)
class Strike:
    """A signal that a worker got. `at` is seconds since the epoch; `seconds` how long a stopped one stood still."""

    at: float
    pid: int
    signal: str
    seconds: float = 0.0


class Crew:
    """Keeps `size` workers running, whatever happens to them."""

    def __init__(self, size: int, env: Mapping[str, str], logs: Path, lease_seconds: float, chance: random.Random) -> None:
        self.strikes: list[Strike] = []
        self._size = size
        self._logs = logs
        self._lease_seconds = lease_seconds
        self._chance = chance
        self._ordered = 0  # workers that were asked for
        self._begun = 0  # of them, those that were started, in their order
        self._lost = 0  # of them, those that ended
        self._alive: dict[int, tuple[Path, float]] = {}  # its log, and when it was started
        self._starts = [0.0]  # seconds that workers took to come up, the latest last
        self._frozen: dict[int, float] = {}  # until when, by the monotonic clock
        self._lock = threading.Lock()
        with (logs / "nursery.log").open("wb") as log:
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.nursery"],
                cwd=ROOT,
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._listener.start()

    def look_after(self) -> None:
        """Start a new worker where one ended; let those go on whose time of standing still is over. Errors: `RuntimeError`."""
        if self._nursery.poll() is not None:
            raise RuntimeError(f"the nursery ended; see {self._logs / 'nursery.log'}")
        with self._lock:
            missing = self._size - (self._ordered - self._lost)
            thawed = [pid for pid, until in self._frozen.items() if time.monotonic() >= until]
            self._note_starts()
        for pid in thawed:
            self._thaw(pid)
        for _ in range(missing):
            self._ordered += 1
            self._say(f"start {self._logs / f'worker-{self._ordered}.log'}")

    @property
    def start_seconds(self) -> float:
        """How long a worker takes to come up on this machine, busy as it is: who strikes faster than that meets nobody at work."""
        latest = self._starts[-10:]
        return sum(latest) / len(latest)

    def strike(self) -> None:
        """A random signal for a random worker that is not standing still, whatever it is doing."""
        with self._lock:
            upright = [pid for pid in self._alive if pid not in self._frozen]
            may_freeze = len(self._frozen) < self._size / 2
        if not upright:
            return
        pid = self._chance.choice(upright)
        number = self._chance.choices(list(_STRIKES), list(_STRIKES.values()))[0]
        seconds = 0.0
        if number == signal.SIGSTOP and not may_freeze:
            number = signal.SIGKILL
        if number == signal.SIGSTOP:
            seconds = self._lease_seconds * self._chance.uniform(0.5, 2.0)
            with self._lock:
                self._frozen[pid] = time.monotonic() + seconds
        self.strikes.append(Strike(time.time(), pid, number.name, seconds))
        self._say(f"signal {pid} {int(number)}")

    def thaw_all(self) -> None:
        for pid in list(self._frozen):
            self._thaw(pid)

    def end(self) -> None:
        """Kill them all."""
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        self._nursery.wait(timeout=30)
        self._listener.join(timeout=10)

    def _note_starts(self) -> None:
        for pid, (log, since) in self._alive.items():
            if since and log.exists() and log.stat().st_size:
                self._starts.append(time.monotonic() - since)
                self._alive[pid] = (log, 0.0)

    def _thaw(self, pid: int) -> None:
        with self._lock:
            self._frozen.pop(pid, None)
        self._say(f"signal {pid} {int(signal.SIGCONT)}")

    def _say(self, line: str) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(f"{line}\n".encode())
        self._nursery.stdin.flush()

    def _listen(self) -> None:
        assert self._nursery.stdout is not None
        for line in self._nursery.stdout:
            verb, _, rest = line.decode().strip().partition(" ")
            with self._lock:
                if verb == "started":
                    self._begun += 1
                    self._alive[int(rest)] = (self._logs / f"worker-{self._begun}.log", time.monotonic())
                elif verb == "ended":
                    self._lost += 1
                    del self._alive[int(rest)]
                    self._frozen.pop(int(rest), None)
