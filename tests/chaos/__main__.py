"""`python -m tests.chaos`: see `--help`, and docs/chaos.md."""

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import django

from examples.local_server import ROOT, manage
from tests import postgres
from tests.chaos import probe

_DURABLE = {"synchronous_commit": "on", "full_page_writes": "on"}  # what was promised must survive a crash of PostgreSQL
_DATA = ("planes.csv.gz", "airlines.csv.gz")


def main() -> int:
    """Exit status: 0 when every promise was kept."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the blocks end in order
    if options.database == "both":
        arguments = ["--runs", options.runs, "--seconds", options.seconds, "--seed", options.seed, "--workers", options.workers]
        command = [sys.executable, "-m", "tests.chaos", *map(str, arguments), "--database"]
        return max([subprocess.run([*command, database], cwd=ROOT, check=False).returncode for database in ("sqlite", "postgresql")])
    home = ROOT / "var" / f"chaos-{options.database}-{time.strftime('%Y%m%d-%H%M%S')}-{options.seed}"
    home.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.running(changes=_DURABLE)) if options.database == "postgresql" else None
        status = _fight(options, home, server)
    if status == 0:
        shutil.rmtree(home)
    else:
        sys.stdout.write(f"The record is in {home.relative_to(ROOT)}.\n")
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill workers at random while clients trigger runs.")
    parser.add_argument("--runs", type=int, default=1000, help="runs that clients get accepted")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=1800, help="after which no run is accepted any more, on each database")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="for the same dice again")
    parser.add_argument("--workers", type=int, default=4)
    return parser.parse_args()


def _fight(options: argparse.Namespace, home: Path, server: postgres.Server | None) -> int:
    env = _environment(home, server)
    manage("migrate", "--verbosity", "0", env=env)
    os.environ.clear()
    os.environ.update(env)
    sys.path.insert(0, str(home / "site"))
    django.setup()
    campaign = importlib.import_module("tests.chaos.campaign")  # needs the settings
    sys.stdout.write(f"Chaos on {options.database}: {options.runs} runs, {options.workers} workers, SEED={options.seed}\n")
    verdict = campaign.fight(campaign.Plan(options.runs, options.seconds, options.seed, options.workers), env, home, server)
    broken = verdict.broken()
    text = "\n".join([verdict.table(), *(f"BROKEN: {line}" for line in broken)]) + "\n"
    (home / "verdict.txt").write_text(text)
    sys.stdout.write(text)
    return 1 if broken else 0


def _environment(home: Path, server: postgres.Server | None) -> dict[str, str]:
    """What web server and workers see: a home, a database and a probe of their own."""
    for folder in ("data", "ledger"):
        (home / folder).mkdir()
    for name in _DATA:
        shutil.copy(ROOT / "examples" / "data" / name, home / "data" / name)
    probe.install(home / "site")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROKOLI_", "DJANGO_", "DATABASE_", "PYTEST_"))}
    return kept | {
        "BROKOLI_HOME": str(home),
        "DATABASE_URL": server.url() if server else "",
        "DJANGO_SETTINGS_MODULE": "brokoli_site.settings",
        "BROKOLI_LEASE_SECONDS": "4",
        "BROKOLI_DRAIN_SECONDS": "5",
        # A run may lose many workers here: none is to fail for that.
        "BROKOLI_MAX_DEATHS": "100",
        "BROKOLI_MEMORY_LIMIT": "512MiB",
        "BROKOLI_THREADS": "1",
        "BROKOLI_LOG_FORMAT": "json",
        "PYTHONPATH": str(home / "site"),
        "PYTHONUNBUFFERED": "1",
        probe.LEDGER_VARIABLE: str(home / "ledger"),
    }


if __name__ == "__main__":
    sys.exit(main())
