"""`python -m tests.fuzz`: see `--help`, and CONTRIBUTING.md."""

import argparse
import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from examples.local_server import ROOT
from tests import postgres
from tests.fuzz import verdict

_CALLERS = ("admin", "editor", "operator", "viewer", "stranger")
# What the coverage of the document takes of one caller; the rest of the requests that were asked for is drawn by lot.
_COVERED = 5000
_OPERATIONS = 90
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Job:
    """One caller on a database of its own."""

    caller: str
    phases: str
    examples: int


def main() -> int:
    """Exit status: 0 when nothing undocumented was answered, and every call was accepted at least once."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the blocks end in order
    databases = ("sqlite", "postgresql") if options.database == "both" else (options.database,)
    return max([_fuzz(database, options) for database in databases])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Ask every call of the API what its document allows, and what not.")
    parser.add_argument("--requests", type=int, default=20_000, help="about how many; the document itself asks for some thousands")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="for the same requests again")
    parser.add_argument("--seconds", type=float, default=3600, help="after which no request is sent any more; what was not asked then, it says")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="sqlite")
    parser.add_argument("--callers", default=",".join(_CALLERS), help="some of them, separated by commas")
    parser.add_argument("--operations", default="", help="only those that this regular expression finds: 'POST /api/variables$'")
    parser.add_argument("--verbose", action="store_true", help="tell of each call what was answered")
    return parser.parse_args()


def _jobs(options: argparse.Namespace) -> list[Job]:
    """The longest first.

    Where the requests are not enough for all, the first caller (the administrator, behind whose rights everything lies) is asked all that the
    document can be broken with, and the others a few of each call; where there are fewer still, so is the first. Drawing lots goes on for
    whoever may do something; a stranger is shown the door whatever they send.
    """
    callers = options.callers.split(",")
    thorough = len(callers) if options.requests >= _COVERED * len(callers) else min(1, options.requests // _COVERED)
    covering = callers[:thorough]
    left = max(0, options.requests - _COVERED * len(covering))
    first, others = callers[0], [name for name in callers[1:] if name != "stranger" or name not in covering]
    # The first draws as many as all others together.
    shares = len(others) or 1
    mine, theirs = (max(2, left // (_OPERATIONS * parts)) for parts in ((2 if others else 1), 2 * shares))
    return [
        *(Job(name, "examples,coverage", 1) for name in covering[:1]),
        Job(first, "fuzzing,stateful", mine),
        *(Job(name, "examples,coverage", 1) for name in covering[1:]),
        *(Job(name, "fuzzing", theirs) for name in others),
    ]


def _fuzz(database: str, options: argparse.Namespace) -> int:
    jobs = _jobs(options)
    sys.stdout.write(f"Fuzz on {database}: {options.callers}; SEED={options.seed}\n")
    began = time.monotonic()
    found = verdict.Verdict(database, options.seed)
    progress = _Progress(len(jobs))
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.running()) if database == "postgresql" else None
        threads = [
            threading.Thread(target=_work, args=(waiting, options, server, found, progress, time.time() + options.seconds), daemon=True)
            for _ in range(_AT_ONCE)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sys.stdout.write(found.text(verbose=options.verbose, whole=not options.operations, seconds=time.monotonic() - began))
    return 0 if found.good(whole=not options.operations) else 1


class _Progress:
    """A line now and then."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._asked: dict[Job, int] = {}
        self._told = time.monotonic()
        self._lock = threading.Lock()

    def note(self, job: Job, requests: int) -> None:
        with self._lock:
            self._asked[job] = requests
            if time.monotonic() - self._told > 10:
                self._told = time.monotonic()
                sys.stdout.write(f"  {sum(self._asked.values()):,} requests; {job.caller} ({job.phases}); part {len(self._asked)} of {self._jobs}\n")
                sys.stdout.flush()


def _work(
    waiting: "queue.SimpleQueue[Job]",
    options: argparse.Namespace,
    server: postgres.Server | None,
    found: verdict.Verdict,
    progress: _Progress,
    deadline: float,
) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            job = waiting.get_nowait()
            if time.time() > deadline:
                found.not_asked(f"{job.caller} ({job.phases})")
                continue
            said: dict[str, Any] = {"requests": 0}
            for said in _said(job, options, server, deadline):
                if "statuses" in said:
                    found.add(job.caller, said)
                progress.note(job, said["requests"])
            # A job that fell silent before its end has no last word.
            if "statuses" not in said:
                found.broken(f"{job.caller} ({job.phases}) ended early")


def _said(job: Job, options: argparse.Namespace, server: postgres.Server | None, deadline: float) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.fuzz.job", "--caller", job.caller, "--phases", job.phases, "--examples", str(job.examples)]
    command += ["--seed", str(options.seed), "--operations", options.operations, "--until", str(deadline)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROKOLI_", "DJANGO_", "DATABASE_", "PYTEST_"))}
    url = _database(server, job) if server else ""
    with subprocess.Popen(command, cwd=ROOT, env=kept | {"DATABASE_URL": url}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = {"requests": 0}
            for line in process.stdout:
                said = json.loads(line)
                yield said
            if process.wait() != 0 or not said:
                yield {"requests": 0}
        finally:
            process.terminate()


def _database(server: postgres.Server, job: Job) -> str:
    """The URL of a new, empty one."""
    name = f"{job.caller}_{job.phases.split(',')[0]}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server.url(name)


if __name__ == "__main__":
    sys.exit(main())
