"""A year of a large installation, and how long its pages take over HTTP, on SQLite and on PostgreSQL.

    python -m bench.volume --database sqlite:////tmp/volume/db.sqlite3 --pipelines 2000 --runs 300000 --log 5000000

migrates an empty database and fills it, for whoever wants to look at one. `make bench` fills one of each kind and measures.
"""

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.local_server import LocalServer, ServerError, free_port, manage
from tests import postgres

FULL, QUICK = (2_000, 300_000, 5_000_000), (20, 1_000, 5_000)  # pipelines, runs, log entries
TARGETS = {"sqlite": 150, "postgresql": 100}  # milliseconds at the median
BASELINE = "/api/pipelines?limit=1"
PAGES = (
    "/api/dashboard",
    "/api/runs/calendar?days=365",
    "/api/runs/calendar?days=365&pipeline_id=orders-0",
    "/api/search?q=orders&limit=100",
    "/api/search?q=nothing-like-this",
    "/api/system/info",
    "/api/runs",
    "/api/runs?page=500&per_page=100&status=success",
)


@dataclass(frozen=True)
class Page:
    """Milliseconds of each call of a page, and of the baseline beside it."""

    database: str
    path: str
    times: Sequence[float]
    baseline: Sequence[float]
    byte_count: int


def fill(database: str, home: Path, numbers: tuple[int, int, int], output: int | None = subprocess.DEVNULL) -> None:
    """Errors: `ServerError`, also when the database is not empty."""
    env = os.environ | {"DATABASE_URL": database, "BROKOLI_HOME": str(home)}
    manage("migrate", "--verbosity", "0", env=env)
    if subprocess.run([sys.executable, "-m", "bench.volume_rows", *map(str, numbers)], env=env, stdout=output, check=False).returncode:
        raise ServerError("The database could not be filled; only an empty one can.")


def measure(home: Path, env: Mapping[str, str], numbers: tuple[int, int, int], rounds: int, *, both: bool = True) -> list[Page]:
    """Fill a database of each kind (or SQLite only) and call the pages of a server on it, one after the other, `rounds` times each."""
    folder = home / "volume"
    folder.mkdir()
    found = _measure("sqlite", f"sqlite:///{folder / 'db.sqlite3'}", folder, env, numbers, rounds)
    for path in folder.glob("db.sqlite3*"):
        path.unlink()
    if not both:
        return found
    with postgres.running() as server:
        return found + _measure("postgresql", server.url(), folder, env, numbers, rounds)


def _measure(kind: str, database: str, home: Path, env: Mapping[str, str], numbers: tuple[int, int, int], rounds: int) -> list[Page]:
    fill(database, home, numbers)
    with LocalServer(free_port(), home / f"{kind}.log", {**env, "DATABASE_URL": database, "BROKOLI_HOME": str(home)}) as server:
        return calls(kind, server.port, rounds)


def calls(kind: str, port: int, rounds: int) -> list[Page]:
    """The pages in turn with the baseline, after one call of each that warms the caches."""
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    sizes = {path: _call(connection, path)[1] for path in (BASELINE, *PAGES)}
    times: dict[str, list[float]] = {path: [] for path in (BASELINE, *PAGES)}
    for _ in range(rounds):
        for path, spent in times.items():
            spent.append(_call(connection, path)[0])
    connection.close()
    return [Page(kind, path, times[path], times[BASELINE], sizes[path]) for path in PAGES]


def _call(connection: http.client.HTTPConnection, path: str) -> tuple[float, int]:
    """Milliseconds until the answer is read, and its bytes. Errors: `ServerError`."""
    started = time.perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    size = len(response.read())
    if response.status != 200:
        raise ServerError(f"GET {path} answered {response.status}")
    return (time.perf_counter() - started) * 1000, size


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.volume", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, help="sqlite:////absolute/path or postgres://…; empty, or not there yet")
    for name, value in zip(("pipelines", "runs", "log"), FULL, strict=True):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"how many (default: {value:,})")
    parser.add_argument("--port", type=int, help="instead: call the pages of the server that listens there, and print their times")
    given = parser.parse_args(arguments)
    if given.port is not None:
        for page in calls(given.database.partition(":")[0], given.port, 15):
            median = statistics.median(page.times)
            ratio = median / statistics.median(page.baseline)
            times = f"{median:7.1f} ms ({min(page.times):.1f} to {max(page.times):.1f})"
            print(f"{times}, {ratio:5.1f} times the baseline, {page.byte_count:9,} B  {page.path}")
        return 0
    home = Path(os.environ.get("BROKOLI_HOME", "var"))
    try:
        fill(given.database, home, (given.pipelines, given.runs, given.log), None)
    except ServerError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
