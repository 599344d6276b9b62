"""A million rows into PostgreSQL: by a pipeline whose last node is `sink_db`, and by `psql \\copy` of the same CSV, in turn.

Both write to an empty table without indexes, on one temporary server (`tests.postgres`, which is not durable: neither of the two waits
for a disk). What is compared is the time of the node and that of the command.
"""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench import job
from tests import postgres

_TABLE = (
    "DROP TABLE IF EXISTS loaded; CREATE TABLE loaded (order_id BIGINT, customer_id BIGINT, status TEXT, country TEXT, quantity BIGINT, "
    "price DOUBLE PRECISION, ordered_at TIMESTAMP)"
)


@dataclass(frozen=True)
class Loads:
    """Milliseconds of each round; `whole` is the run from its trigger to its success, the reading of the CSV included."""

    sink: list[float]
    whole: list[float]
    psql: list[float]


def pipeline(folder: str, uri: str) -> dict[str, Any]:
    nodes = [
        {"id": "orders", "type": "source_file", "name": "Orders", "config": {"path": f"{folder}/{job.ORDERS}"}},
        {"id": "load", "type": "sink_db", "name": "Load", "config": {"uri": uri, "table": "loaded"}},
    ]
    return {"pipeline_id": "bench-load", "name": "Load", "nodes": nodes, "edges": [{"from": "orders", "to": "load"}]}


def measure(save: Callable[[dict[str, Any]], dict[str, Any]], run: Callable[[dict[str, Any]], dict[str, Any]], csv: Path, rounds: int) -> Loads | str:
    """`save` a pipeline, `run` it to its success; why nothing was measured, where there is no PostgreSQL. `csv` is that of `job`."""
    try:
        with postgres.running() as server:
            saved = save(pipeline(csv.parent.name, server.url()))
            return _measure(server, lambda: run(saved), csv, rounds)
    except SystemExit as error:
        return str(error)


def _measure(server: postgres.Server, run: Callable[[], dict[str, Any]], csv: Path, rounds: int) -> Loads:
    found = Loads([], [], [])
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for number in range(rounds + 1):
            connection.execute(_TABLE)
            start = time.perf_counter()
            ended = run()
            whole = (time.perf_counter() - start) * 1000
            sink = next(node["duration_ms"] for node in ended["node_runs"] if node["node_id"] == "load")
            ours = connection.execute("SELECT count(*), sum(order_id), sum(price::numeric) FROM loaded").fetchone()
            connection.execute(_TABLE)
            psql = _copy(server, csv)
            if connection.execute("SELECT count(*), sum(order_id), sum(price::numeric) FROM loaded").fetchone() != ours:
                raise RuntimeError("sink_db and psql did not load the same")
            if number:  # the first round of each warms the caches
                found.sink.append(sink)
                found.whole.append(whole)
                found.psql.append(psql)
    return found


def _copy(server: postgres.Server, csv: Path) -> float:
    """Milliseconds."""
    command = [str(server.program("psql")), server.url(), "-q", "-c", f"\\copy loaded FROM '{csv}' CSV HEADER"]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - start) * 1000
