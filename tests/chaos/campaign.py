"""One campaign on one database: a web server, workers under fire, clients; then what became of all the runs."""

import csv
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from examples.local_server import Api, LocalServer, free_port
from runs.models import Run
from runs.states import TERMINAL, RunStatus
from tests.chaos import executions, history
from tests.chaos.clients import Clients
from tests.chaos.crew import Crew
from tests.chaos.executions import Execution
from tests.chaos.intruder import Intruder
from tests.chaos.mix import MIX
from tests.chaos.probe import LEDGER_VARIABLE
from tests.chaos.verdict import Verdict
from tests.postgres import Server

T = TypeVar("T")

_STRIKE_SECONDS = 0.5
_SETTLE_SECONDS = 120.0  # for what is left when the fire ceases
_RESTARTS = ((1 / 3, signal.SIGQUIT), (2 / 3, signal.SIGINT))  # when so many runs are accepted: a crash; then the fast mode


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign is to do. `seconds` bounds how long runs are accepted."""

    runs: int
    seconds: float
    seed: int
    workers: int
    lease_seconds: int = 6


def fight(plan: Plan, env: Mapping[str, str], home: Path, postgres: Server | None) -> Verdict:
    """Run the campaign to its end. What it leaves in `home` is its record."""
    chance = random.Random(plan.seed)
    ledger = Path(env[LEDGER_VARIABLE])
    (home / "logs").mkdir()
    began = time.monotonic()
    with LocalServer(free_port(), home / "logs" / "web.log", env, workers=0) as web:
        _save_pipelines(web)
        crew = Crew(plan.workers, env, home / "logs", plan.lease_seconds, chance)
        clients = Clients(web.url, plan.runs, most_open=12 * plan.workers, ledger=ledger, chance=random.Random(plan.seed + 1))
        intruder = Intruder(random.Random(plan.seed + 2))
        battle = _Battle(plan, crew, clients, postgres, began)
        try:
            intruder.start()
            clients.start()
            battle.rage()
            intruder.stop()
            battle.settle()
        finally:
            clients.stop()
            crew.end()
    verdict = _judge(plan, crew, clients, intruder, home, ledger)
    verdict.restarts = battle.restarts
    verdict.wall_seconds = time.monotonic() - began
    (home / "strikes.json").write_text(json.dumps([asdict(strike) for strike in crew.strikes]))
    (home / "accepted.json").write_text(json.dumps({run: ingredient.name for run, ingredient in clients.accepted.items()}))
    return verdict


def _save_pipelines(web: LocalServer) -> None:
    api = Api(web.port)
    for ingredient in MIX:
        api.post("/api/pipelines", ingredient.document)
    api.close()


class _Battle:
    """The loop of a campaign: look after the workers, strike one, restart the database, tell how it goes."""

    def __init__(self, plan: Plan, crew: Crew, clients: Clients, postgres: Server | None, began: float) -> None:
        self.restarts = 0
        self._plan = plan
        self._crew = crew
        self._clients = clients
        self._postgres = postgres
        self._began = began
        self._told = 0.0

    def rage(self) -> None:
        """Until nearly all accepted runs have ended, or the time is over."""
        next_strike = time.monotonic() + 3  # let some worker come up
        while not (self._clients.done and self._open() <= self._plan.workers):
            self._crew.look_after()
            if time.monotonic() >= next_strike:
                self._crew.strike()
                next_strike = time.monotonic() + max(_STRIKE_SECONDS, self._crew.start_seconds)
            self._restart_database()
            self._look()
            if time.monotonic() > self._began + self._plan.seconds:
                self._clients.accept_no_more()
                break
            time.sleep(0.05)

    def settle(self) -> None:
        """No strikes any more: all that is left must end."""
        self._crew.thaw_all()
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not (self._clients.done and self._open() == 0) and time.monotonic() < deadline:
            self._crew.look_after()
            self._look()
            time.sleep(0.1)
        self._tell()
        sys.stdout.write("\n")

    def _open(self) -> int:
        return len(self._clients.accepted) - self._clients.ended

    def _restart_database(self) -> None:
        if self._postgres is None or self.restarts == len(_RESTARTS):
            return
        share, number = _RESTARTS[self.restarts]
        if len(self._clients.accepted) >= share * self._plan.runs:
            self.restarts += 1
            self._postgres.restart(number)

    def _look(self) -> None:
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._clients.ended = patiently(Run.objects.filter(status__in=sorted(TERMINAL)).count)
            self._tell()

    def _tell(self) -> None:
        line = f"  {time.monotonic() - self._began:4.0f} s  accepted {len(self._clients.accepted)}, ended {self._clients.ended}, "
        line += f"strikes {len(self._crew.strikes)}"
        sys.stdout.write(f"\r{line}   " if sys.stdout.isatty() else f"{line}\n" if round(self._told) % 10 == 0 else "")
        sys.stdout.flush()


def patiently(ask: Callable[[], T]) -> T:
    """What `ask` gives, however often the database is away meanwhile; for a minute. Errors: the last."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except (DatabaseError, InterfaceError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


# --- afterwards -------------------------------------------------------------------------------------------------------


def _judge(plan: Plan, crew: Crew, clients: Clients, intruder: Intruder, home: Path, ledger: Path) -> Verdict:
    past = patiently(history.History.read)
    claims = past.claims()
    runs = {str(run.id): run for run in Run.objects.all()}
    repeated = history.repeats(past, claims, crew.strikes, plan.lease_seconds if connection.vendor == "sqlite" else None)
    stale = past.out_of_turn() + ["by the intruder"] * intruder.accepted
    return Verdict(
        database=connection.vendor,
        seed=plan.seed,
        lease_seconds=plan.lease_seconds,
        accepted=len(clients.accepted),
        ended=sum(run.status in TERMINAL for run in runs.values()),
        strikes=Counter(strike.signal for strike in crew.strikes),
        lost=[run_id for run_id in clients.accepted if run_id not in runs or runs[run_id].status not in TERMINAL],
        untold=sorted(set(runs) - set(clients.accepted)),
        astray=[text for run in runs.values() if (text := _astray(run, clients))],
        doubles=[_shown(one, other) for one, other in executions.doubles(executions.read(ledger))],
        double_finishes=past.double_finishes(),
        stale_attempted=intruder.attempted + _lease_losses(home),
        stale_accepted=stale,
        reclaims=history.reclaim_seconds(claims, crew.strikes, plan.lease_seconds),
        nodes_started=repeated.started,
        nodes_lost=repeated.lost,
        nodes_unexplained=repeated.unexplained,
        told_to_wait=clients.told_to_wait,
        client_errors=dict(clients.errors),
        files_wrong=_wrong_files(runs, clients),
    )


def _astray(run: Run, clients: Clients) -> str:
    """A sentence when an ended run did not end as its pipeline has it, else empty."""
    ingredient = clients.accepted.get(str(run.id))
    if ingredient is None or run.status not in TERMINAL:
        return ""
    expected = {RunStatus.SUCCESS}
    if str(run.id) in clients.cancelled:
        expected = {RunStatus.CANCELLED, RunStatus.SUCCESS}
    if ingredient.kind == "mended" and run.resumed_from_id is None:
        expected = {RunStatus.FAILED}
    return "" if run.status in expected else f"{run.id} ({ingredient.name}) is {run.status}: {run.error}"


def _lease_losses(home: Path) -> int:
    """How often a worker met the refusal of a write, or refused one itself, and said so."""
    return sum(path.read_text(errors="replace").count('"event": "lease lost"') for path in (home / "logs").glob("worker-*.log"))


def _wrong_files(runs: Mapping[str, Run], clients: Clients) -> list[str]:
    """Runs that succeeded and whose file is not there as it should be: all are equal, for their input is the same."""
    contents = {}
    for run_id, ingredient in clients.accepted.items():
        if ingredient.name == "flights" and run_id in runs and runs[run_id].status == RunStatus.SUCCESS:
            path = settings.DATA_DIRS[0] / "out" / f"{run_id}.csv"
            contents[run_id] = len(list(csv.reader(path.open()))) if path.is_file() else 0
    usual = max(Counter(contents.values()).items(), key=lambda item: item[1], default=(0, 0))[0]
    drafts = [path.name for path in (settings.DATA_DIRS[0] / "out").glob("*") if not path.name.endswith((".csv", ".draft"))]
    return [f"{run_id}: {rows} rows, not {usual}" for run_id, rows in contents.items() if rows != usual or rows < 2] + drafts


def _shown(one: Execution, other: Execution) -> str:
    overlap = min(one.last, other.last) - other.first
    return f"run {one.run}, node {one.node} in process {one.pid} and {other.node} in {other.pid}, for {overlap:.2f} s"
