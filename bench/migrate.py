"""Millions of rows from one PostgreSQL table into another: by `migrate`, its worker's memory watched, and by two `psql`, one into the other."""

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg

from tests import postgres

_COLUMNS = "id BIGINT, customer BIGINT, status TEXT, price DOUBLE PRECISION, ordered_at TIMESTAMP"
_FILL = (
    f"CREATE TABLE orders ({_COLUMNS}); INSERT INTO orders SELECT i, i % 50000, 'status ' || i % 7, i * 0.25, "
    "TIMESTAMP '2024-01-01' + make_interval(secs => i) FROM generate_series(1, {rows}) AS t(i)"
)
_EMPTY = f"DROP TABLE IF EXISTS copied; CREATE TABLE copied ({_COLUMNS})"
_LOOK_SECONDS = 0.05


@dataclass
class Memory:
    """The resident memory of the worker below this process, looked at twenty times a second: (seconds since the start, bytes)."""

    seen: list[tuple[float, int]] = field(default_factory=list)

    def __enter__(self) -> "Memory":
        self._ended = threading.Event()
        (self._worker,) = [child for child in psutil.Process().children(recursive=True) if "runworker" in child.cmdline()]
        self._thread = threading.Thread(target=self._watch)
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self.seen.append((time.perf_counter() - self._start, self._worker.memory_info().rss))

    def halves(self) -> tuple[int, int]:
        """The most in the first half of the time, and in the second; bytes."""
        middle = self.seen[-1][0] / 2
        return max(rss for at, rss in self.seen if at <= middle), max(rss for at, rss in self.seen if at > middle)


@dataclass(frozen=True)
class Migration:
    """Milliseconds of the node and of the pair of `psql`; the most memory of the worker in each half of the node's time, bytes."""

    node: float
    psql: float
    first_half: int
    second_half: int


def pipeline(uri: str) -> dict[str, Any]:
    config = {"source_uri": uri, "dest_uri": uri, "source_query": "SELECT * FROM orders", "dest_table": "copied"}
    return {
        "pipeline_id": "bench-migrate",
        "name": "Migrate",
        "nodes": [{"id": "copy", "type": "migrate", "name": "Copy", "config": config}],
        "edges": [],
    }


def measure(save: Callable[[dict[str, Any]], dict[str, Any]], run: Callable[[dict[str, Any]], dict[str, Any]], rows: int) -> Migration | str:
    """`save` a pipeline, `run` it to its success; why nothing was measured, where there is no PostgreSQL."""
    try:
        with postgres.running() as server:
            return _measure(server, save, run, rows)
    except SystemExit as error:
        return str(error)


def _measure(
    server: postgres.Server, save: Callable[[dict[str, Any]], dict[str, Any]], run: Callable[[dict[str, Any]], dict[str, Any]], rows: int
) -> Migration:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(_FILL.format(rows=rows).encode())
        connection.execute(_EMPTY)
        saved = save(pipeline(server.url()))
        with Memory() as memory:
            ended = run(saved)
        ours = connection.execute("SELECT count(*), sum(id), sum(price::numeric) FROM copied").fetchone()
        connection.execute(_EMPTY)
        psql = _copy(server)
        if connection.execute("SELECT count(*), sum(id), sum(price::numeric) FROM copied").fetchone() != ours:
            raise RuntimeError("migrate and psql did not copy the same")
    first, second = memory.halves()
    return Migration(ended["node_runs"][0]["duration_ms"], psql, first, second)


def _copy(server: postgres.Server) -> float:
    """Milliseconds."""
    program = [str(server.program("psql")), server.url(), "-q", "-c"]
    start = time.perf_counter()
    with subprocess.Popen([*program, "COPY (SELECT * FROM orders) TO STDOUT"], stdout=subprocess.PIPE) as source:
        subprocess.run([*program, "COPY copied FROM STDIN"], stdin=source.stdout, check=True)
    return (time.perf_counter() - start) * 1000
