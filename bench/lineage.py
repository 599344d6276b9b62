"""The lineage of thousands of pipelines over the API: whole, and around one table.

    python -m bench.lineage --pipelines 2000
    python -m tests.postgres python -m bench.lineage

The baseline is to read the same rows and to parse them, which no answer can do without.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import django
import orjson
from django.core.management import call_command
from django.db import connection

_NODES = 10
_ROUNDS = 9


def document(number: int) -> dict[str, Any]:
    """Ten nodes: two tables and a file are read, one table is written; each table is shared by a few pipelines."""
    sources = [
        {"id": "a", "type": "source_db", "config": {"conn_id": "warehouse", "query": f"SELECT * FROM sales.t{number}"}},
        {"id": "b", "type": "source_db", "config": {"conn_id": "warehouse", "query": f"SELECT * FROM sales.t{number // 3}"}},
        {"id": "c", "type": "source_file", "config": {"path": f"in/{number // 2}.csv"}},
        {"id": "u", "type": "union", "config": {}},
    ]
    steps = [{"id": f"s{step}", "type": "transform", "config": {"rules": []}} for step in range(_NODES - 5)]
    sink = {"id": "z", "type": "sink_db", "config": {"conn_id": "warehouse", "table": f"sales.t{number + 1}"}}
    nodes = [*sources, *steps, sink]
    edges = [{"from": one, "to": "u"} for one in "abc"]
    edges += [{"from": one, "to": other} for one, other in pairwise(str(node["id"]) for node in nodes[3:])]
    return {"name": f"Pipeline {number}", "nodes": [{**node, "name": node["id"]} for node in nodes], "edges": edges}


def median(call: Callable[[], object]) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.lineage", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pipelines", type=int, default=2000)
    count = parser.parse_args().pipelines
    with tempfile.TemporaryDirectory(prefix="brokoli-bench-") as home:
        os.environ |= {"BROKOLI_HOME": home, "DJANGO_SETTINGS_MODULE": "brokoli_site.settings", "BROKOLI_LOG_LEVEL": "ERROR"}
        django.setup()
        call_command("migrate", verbosity=0)
        measure(count)
    return 0


def measure(count: int) -> None:
    from django.test import Client  # noqa: PLC0415 - Django must be set up first

    client = Client(headers={"host": "localhost"})
    start = time.perf_counter()
    for number in range(count):
        answer = client.post("/api/pipelines", data=orjson.dumps(document(number)), content_type="application/json")
        assert answer.status_code == 201, answer.content
    saving = (time.perf_counter() - start) * 1000 / count

    def get(**query: str) -> None:
        answer = client.get("/api/lineage", query)
        assert answer.status_code == 200, answer.content

    def floor() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT graph FROM pipelines_pipelinelineage")
            for (text,) in cursor.fetchall():
                orjson.loads(text)

    middle = f"table://warehouse/sales.t{count // 2}"
    base = median(floor)
    size = len(client.get("/api/lineage").content) / 1024**2
    print(f"{connection.vendor}, {count} pipelines of {_NODES} nodes; saving one: {saving:.1f} ms")
    print(f"baseline, the rows alone: {base:.0f} ms")
    for what, query in (
        (f"the whole ({size:.1f} MiB)", {}),
        ("around a table, depth 1", {"asset": middle, "depth": "1"}),
        ("around a table, depth 3", {"asset": middle}),
        ("around a table, depth 20", {"asset": middle, "depth": "20"}),
        ("around the connection of all, depth 3", {"asset": "connection:warehouse"}),
    ):
        taken = median(lambda query=query: get(**query))  # type: ignore[misc]  # the default binds it
        print(f"{what}: {taken:.0f} ms, {taken / base:.1f} times the baseline")


if __name__ == "__main__":
    sys.exit(main())
