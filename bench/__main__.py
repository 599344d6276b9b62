"""`make bench`: every figure as a ratio to a baseline of the same run, printed as a table and kept in bench/latest.md."""

import argparse
import datetime as dt
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
import duckdb
import psutil
from rich.console import Console
from rich.table import Table

from bench import code, events, job, load, migrate, small, volume
from examples.local_server import Api, LocalServer, ServerError, free_port, manage
from tests import postgres

LATEST = Path(__file__).parent / "latest.md"
_ENDED = frozenset({"success", "failed", "cancelled"})
_FOLDER = "bench"
_MIGRATE_MEMORY = "512MiB"
_BARE_ROUNDS = 9


@dataclass(frozen=True)
class Figure:
    """One line of the table. `baseline` says what the ratio is to; `target` what was promised."""

    what: str
    measured: str
    baseline: str
    ratio: str
    target: str
    met: bool | None


@dataclass(frozen=True)
class Step:
    """Milliseconds of a node in each round, and of the same step of the plain script."""

    name: str
    ours: Sequence[float]
    plain: Sequence[float]


@dataclass(frozen=True)
class Options:
    rows: int
    rounds: int
    small_runs: int
    burst: int


def spread(values: Sequence[float], unit: str = "ms") -> str:
    return f"{statistics.median(values):,.0f} {unit} ({min(values):,.0f} to {max(values):,.0f})"


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def script(*arguments: str) -> str:
    """Run a module of ours with a Python of its own; what it printed."""
    return subprocess.run([sys.executable, "-m", *arguments], check=True, capture_output=True, text=True).stdout


def run_to_success(api: Api, pipeline: dict[str, Any], poll_seconds: float) -> dict[str, Any]:
    """Trigger and wait until the API says `success`; what it says of the run then. Errors: `ServerError` for any other end."""
    run_id = api.post(f"/api/pipelines/{pipeline['id']}/run")["id"]
    while True:
        run: dict[str, Any] = api.get(f"/api/runs/{run_id}")
        if run["status"] in _ENDED:
            break
        time.sleep(poll_seconds)
    if run["status"] != "success":
        raise ServerError(f"the run ended as {run['status']}: {run['error']}")
    return run


def big_job(api: Api, folder: Path, options: Options) -> tuple[list[Figure], list[Step]]:
    """(a) through the API, (b) the plain script, (c) the fused one, in turn, so that a busy moment of the machine hits all three."""
    job.make_orders(folder, options.rows)
    pipeline = api.post("/api/pipelines", job.pipeline(_FOLDER))
    run_to_success(api, pipeline, 0.05)  # the first run of each warms the file cache
    for way in ("plain", "fused"):
        script("bench.job", way, str(folder))
    ours: list[dict[str, float]] = []
    plain: list[dict[str, float]] = []
    fused: list[dict[str, float]] = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        run = run_to_success(api, pipeline, 0.05)
        total = (time.perf_counter() - start) * 1000
        ours.append({node["node_id"]: node["duration_ms"] for node in run["node_runs"]} | {"total": total})
        result = job.revenues(folder)
        plain.append(json.loads(script("bench.job", "plain", str(folder))))
        if job.revenues(folder) != result:
            raise ServerError("the pipeline and the script do not write the same")
        fused.append(json.loads(script("bench.job", "fused", str(folder))))
    a, b, c = ([round_["total"] for round_ in rounds] for rounds in (ours, plain, fused))
    ratio = statistics.median(a) / statistics.median(b)
    what = f"{options.rows:,} rows: read, keep and add, check, aggregate, write; trigger to success"
    figures = [
        Figure(what, spread(a), f"plain DuckDB script that keeps the same outputs: {spread(b)}", f"{ratio:.2f}", "≤ 1.5", ratio <= 1.5),
        Figure(
            "the same", spread(a), f"one fused query that keeps nothing: {spread(c)}", f"{statistics.median(a) / statistics.median(c):.2f}", "", None
        ),
    ]
    return figures, steps_of(ours, plain)


def steps_of(ours: Sequence[dict[str, float]], plain: Sequence[dict[str, float]]) -> list[Step]:
    """Where the time of the big job goes, node by node, beside the same statement of the script."""
    names = [name for name in plain[0] if name != "total"]
    found = [Step(name, [times[name] for times in ours], [times[name] for times in plain]) for name in names]
    rests = [[times["total"] - sum(times[name] for name in names) for times in rounds] for rounds in (ours, plain)]
    return [*found, Step("outside the nodes", *rests)]


def small_runs(api: Api, folder: Path, options: Options) -> Figure:
    """Trigger to success of three nodes over ten rows, one run at a time."""
    small.make_ten(folder)
    pipeline = api.post("/api/pipelines", small.three_nodes(_FOLDER))
    for _ in range(3):
        run_to_success(api, pipeline, 0.01)
    ours, scripts = [], []
    for index in range(options.small_runs):
        ours.append(timed(lambda: run_to_success(api, pipeline, 0.01)))
        if index % 5 == 0:
            scripts.append(timed(lambda: script("bench.small", str(folder))))
    median = statistics.median(ours)
    measured = f"median {median:,.0f} ms, p95 {percentile(ours, 0.95):,.0f} ms ({min(ours):,.0f} to {max(ours):,.0f})"
    return Figure(
        "3 nodes, 10 rows: trigger to success",
        measured,
        f"the same steps as a script started anew: {spread(scripts)}",
        f"{median / statistics.median(scripts):.2f}",
        "median ≤ 200 ms",
        median <= 200,
    )


def burst(api: Api, folder: Path, options: Options) -> Figure:
    """Runs per second from the first trigger to the last success, with one worker."""
    pipeline = next(item for item in api.get("/api/pipelines") if item["pipeline_id"] == "bench-ten")
    listing = f"/api/pipelines/{pipeline['id']}/runs?page=1&per_page=1"
    before = api.get(f"{listing}&status=success")["total"]
    start = time.perf_counter()
    for _ in range(options.burst):
        api.post(f"/api/pipelines/{pipeline['id']}/run")
    triggered = time.perf_counter() - start
    while api.get(f"{listing}&status=success")["total"] < before + options.burst:
        if api.get(f"{listing}&status=failed")["total"]:
            raise ServerError("a run of the burst failed")
        time.sleep(0.2)
    rate = options.burst / (time.perf_counter() - start)
    scripts = [timed(lambda: script("bench.small", str(folder))) for _ in range(5)]
    script_rate = 1000 / statistics.median(scripts)
    return Figure(
        f"burst of {options.burst} such runs, one worker",
        f"{rate:,.1f} runs/s (all accepted after {triggered:.1f} s)",
        f"scripts started one after the other: {script_rate:,.1f}/s",
        f"{rate / script_rate:.2f}",
        "≥ 15 runs/s",
        rate >= 15,
    )


def validation(api: Api, rounds: int) -> Figure:
    """`POST /api/pipelines/validate` of 500 nodes, seen by the client."""
    document = small.graph(_FOLDER)
    found = api.post("/api/pipelines/validate", document)
    if not found["valid"]:
        raise ServerError(f"the graph of {small.GRAPH_NODES} nodes is not valid: {found['errors'][:3]}")
    ours, parsing = [], []
    for _ in range(rounds):
        ours.append(timed(lambda: api.post("/api/pipelines/validate", document)))
        parsing.append(small.parse_expressions() * 1000)
    median = statistics.median(ours)
    return Figure(
        f"validation of {small.GRAPH_NODES} nodes over HTTP",
        spread(ours),
        f"sqlglot parsing the same expressions, nothing else: {spread(parsing)}",
        f"{median / statistics.median(parsing):.2f}",
        "≤ 500 ms",
        median <= 500,
    )


def code_nodes(api: Api, folder: Path, options: Options) -> list[Figure]:
    """Node by node beside the bare script, in turn."""
    code.make_inputs(folder, options.rows)
    return [
        code_node(api, folder, "rows", code.TEN, "code node, 10 rows", options.small_runs // 3, 60),
        code_node(api, folder, "frame", code.TEN, "code node, 10 rows as a DataFrame", options.small_runs // 3, 60),
        code_node(api, folder, "frame", code.MANY, f"code node, {options.rows:,} rows in and out as a DataFrame", options.rounds, 2000),
        code_node(api, folder, "rows", code.MANY, f"code node, {options.rows:,} rows in and out as a list of dicts", min(3, options.rounds), None),
    ]


def code_node(api: Api, folder: Path, way: str, source: str, what: str, rounds: int, most: int | None) -> Figure:
    """What the node takes beyond its script: `most` milliseconds."""
    pipeline = api.post("/api/pipelines", code.pipeline(_FOLDER, source, way))
    run_to_success(api, pipeline, 0.01)  # the first starts the fork server
    ours, bare = [], []
    for index in range(rounds):
        nodes = run_to_success(api, pipeline, 0.01)["node_runs"]
        ours.append(next(node["duration_ms"] for node in nodes if node["node_id"] == "script"))
        if index < _BARE_ROUNDS:
            bare.append(json.loads(script("bench.code", way, str(folder), source)))
    beyond = statistics.median(ours) - statistics.median(bare)
    return Figure(
        what,
        f"{spread(ours)}, {beyond:,.0f} ms beyond the script",
        f"the script alone, Python and pandas loaded: {spread(bare)}",
        f"{statistics.median(ours) / statistics.median(bare):.2f}",
        "" if most is None else f"≤ {most:,} ms beyond",
        None if most is None else beyond <= most,
    )


def loading(api: Api, folder: Path, options: Options, console: Console) -> list[Figure]:
    """Rows per second of `sink_db`, as a share of those of `psql \\copy`."""
    found = load.measure(
        lambda document: dict(api.post("/api/pipelines", document)),
        lambda pipeline: run_to_success(api, pipeline, 0.02),
        folder / job.ORDERS,
        options.rounds,
    )
    if isinstance(found, str):
        console.print(f"Left out: loading into PostgreSQL. {found}")
        return []
    share = statistics.median(found.psql) / statistics.median(found.sink)
    return [
        Figure(
            f"{options.rows:,} rows into PostgreSQL by sink_db",
            f"{spread(found.sink)}; with reading the CSV, trigger to success {spread(found.whole)}",
            f"psql \\copy of the same CSV: {spread(found.psql)}",
            f"{share:.2f} of its speed",
            "≥ 0.6",
            share >= 0.6,
        )
    ]


def migration(home: Path, env: dict[str, str], options: Options, console: Console) -> list[Figure]:
    """In a worker of its own, so that the memory is that of this work."""
    with LocalServer(free_port(), home / "migrate.log", env | {"BROKOLI_MEMORY_LIMIT": _MIGRATE_MEMORY}) as server:
        api = Api(server.port)
        found = migrate.measure(
            lambda document: dict(api.post("/api/pipelines", document)),
            lambda pipeline: run_to_success(api, pipeline, 0.05),
            options.rows * 5,
        )
        api.close()
    if isinstance(found, str):
        console.print(f"Left out: migrating within PostgreSQL. {found}")
        return []
    mebibytes = [half / 1024**2 for half in (found.first_half, found.second_half)]
    growth = found.second_half / found.first_half
    return [
        Figure(
            f"{options.rows * 5:,} rows from PostgreSQL into PostgreSQL by migrate",
            f"{found.node:,.0f} ms; worker at most {mebibytes[0]:,.0f} MiB in the first half, {mebibytes[1]:,.0f} in the second "
            f"(data engine limited to {_MIGRATE_MEMORY})",
            f"psql COPY TO, piped into psql COPY FROM: {found.psql:,.0f} ms",
            f"{found.node / found.psql:.2f}",
            "memory flat: second half at most 1.1 times the first",
            growth <= 1.1,
        )
    ]


def event_stream(home: Path, env: dict[str, str], options: Options, console: Console) -> list[Figure]:
    """Commit to frame, and what a hundred clients and one that does not read cost. On PostgreSQL as well, but in a quick round."""
    rounds, seconds = (1, 1) if options.rounds < 3 else (3, 5)
    found = _stream_figures("SQLite", 100, events.measure(env | {"BROKOLI_HOME": str(home / "events")}, rounds, seconds))
    if rounds == 1:
        return found
    try:
        with postgres.running() as server:
            measured = events.measure(env | {"BROKOLI_HOME": str(home / "events"), "DATABASE_URL": server.url()}, rounds, seconds)
            return found + _stream_figures("PostgreSQL", 50, measured)
    except SystemExit as error:
        console.print(f"Left out: events on PostgreSQL. {error}")
        return found


def _stream_figures(database: str, target: int, measured: events.Measured) -> list[Figure]:
    def middle(rounds: Sequence[events.Round], name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in rounds))

    alone, bare = middle(measured.alone, "median"), middle(measured.bare, "median")
    p99, p99_stalled = middle(measured.many, "p99"), middle(measured.stalled, "p99")
    cpu, cpu_bare = middle(measured.many, "cpu"), middle(measured.bare, "cpu")
    grown = max(stalled.memory - many.memory for stalled, many in zip(measured.stalled, measured.many, strict=True))
    rate = middle(measured.many, "rate")
    return [
        Figure(
            f"event from before its commit to its frame, {database}",
            f"median {alone:,.0f} ms, p99 {middle(measured.alone, 'p99'):,.0f} ms",
            f"`websockets` sends at once what it makes: median {bare:,.0f} ms",
            f"{alone / bare:.1f}",
            f"median ≤ {target} ms",
            alone <= target,
        ),
        Figure(
            f"100 clients, {rate:,.0f} events/s, {database}: every event, in order",
            f"median {middle(measured.many, 'median'):,.0f} ms, p99 {p99:,.0f} ms; {cpu:,.1f} s of the server's processor",
            f"`websockets` broadcasts as many from memory: p99 {middle(measured.bare, 'p99'):,.0f} ms; {cpu_bare:,.1f} s",
            f"{cpu / cpu_bare:.2f} of its processor time",
            "",
            None,
        ),
        Figure(
            f"the same, with one more client that reads nothing, {database}",
            f"p99 {p99_stalled:,.0f} ms; the server grew by {grown:,.1f} MiB",
            f"without it: p99 {p99:,.0f} ms",
            f"{p99_stalled / p99:.2f}",
            "≤ 1.2, ≤ 16 MiB",
            p99_stalled / p99 <= 1.2 and grown <= 16,
        ),
    ]


def volume_pages(home: Path, env: dict[str, str], quick: bool) -> list[Figure]:
    """The pages about the whole, over a year of a large installation, on both databases; of a small one, and on SQLite, in a quick round."""
    numbers = volume.QUICK if quick else volume.FULL
    found = []
    for page in volume.measure(home, env, numbers, 3 if quick else 15, both=not quick):
        median, most = statistics.median(page.times), volume.TARGETS[page.database]
        what = f"{page.path} of {numbers[0]:,} pipelines, {numbers[1]:,} runs, {numbers[2]:,} log entries on {page.database}"
        baseline, ratio = f"{volume.BASELINE}: {spread(page.baseline)}", median / statistics.median(page.baseline)
        found.append(Figure(what, spread(page.times), baseline, f"{ratio:.2f}", f"median ≤ {most} ms", median <= most))
    return found


def machine() -> str:
    memory = psutil.virtual_memory().total / 1024**3
    return (
        f"{os.cpu_count()} processors, {memory:.0f} GiB memory, {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"Django {django.__version__}, DuckDB {duckdb.__version__}, SQLite {sqlite3.sqlite_version}; the embedded default with one worker"
    )


def verdict(figure: Figure) -> str:
    return figure.target if figure.met is None else f"{figure.target}: {'met' if figure.met else 'MISSED'}"


def show(figures: Sequence[Figure], console: Console) -> None:
    table = Table(show_lines=True)
    for name in ("what", "measured", "baseline of the same run", "ratio", "target"):
        table.add_column(name, justify="right" if name == "ratio" else "left")
    for figure in figures:
        table.add_row(figure.what, figure.measured, figure.baseline, figure.ratio, verdict(figure))
    console.print(table)


def page(figures: Sequence[Figure], steps: Sequence[Step]) -> str:
    median = statistics.median
    step_rows = [f"| {s.name} | {median(s.ours):,.0f} | {median(s.plain):,.0f} | {median(s.ours) - median(s.plain):,.0f} |" for s in steps]
    rows = [f"| {f.what} | {f.measured} | {f.baseline} | {f.ratio} | {verdict(f)} |" for f in figures]
    return "\n".join(
        [
            "# The latest benchmark",
            "",
            f"`make bench` on {dt.datetime.now(dt.UTC):%Y-%m-%d}: {machine()}.",
            "Medians, with the least and the most in brackets. What is compared is run in turn, so that a busy moment hits both.",
            "",
            "| what | measured | baseline of the same run | ratio | target |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "Where the time of the big job goes, milliseconds:",
            "",
            "| node | Brokoli | plain script | difference |",
            "|---|---|---|---|",
            *step_rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work, to see that it works; keeps no page")
    quick = parser.parse_args().quick
    options = Options(rows=10_000, rounds=2, small_runs=6, burst=10) if quick else Options(rows=1_000_000, rounds=9, small_runs=60, burst=200)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="brokoli-bench-") as name:
        home = Path(name)
        folder = home / "data" / _FOLDER
        folder.mkdir(parents=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("BROKOLI_") and key != "DATABASE_URL"}
        env = kept | {"BROKOLI_HOME": str(home), "BROKOLI_ALLOWED_NETWORKS": "127.0.0.0/8"}
        manage("migrate", "--verbosity", "0", env=env)
        figures: list[Figure] = []
        with LocalServer(free_port(), home / "serve.log", env) as server:
            api = Api(server.port)
            with console.status("A million rows…"):
                big, steps = big_job(api, folder, options)
                figures += big
            with console.status("Small runs…"):
                figures.append(small_runs(api, folder, options))
            with console.status("A burst…"):
                figures.append(burst(api, folder, options))
            with console.status("Scripts…"):
                figures += code_nodes(api, folder, options)
            with console.status("Loads…"):
                figures += loading(api, folder, options, console)
            with console.status("Validation…"):
                figures.append(validation(api, options.rounds))
            api.close()
        with console.status("Events…"):
            figures += event_stream(home, env, options, console)
        with console.status("A migration…"):
            figures += migration(home, env, options, console)
        with console.status("A year of runs…"):
            figures += volume_pages(home, env, quick)
    show(figures, console)
    if not quick:
        LATEST.write_text(page(figures, steps))
        console.print(f"Kept in {LATEST.relative_to(Path.cwd())}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
