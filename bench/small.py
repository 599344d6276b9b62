"""The small things whose cost is Brokoli's own: a run of three nodes over ten rows, and a graph of 500 nodes to validate."""

import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import sqlglot

TEN = "ten.csv"
GRAPH_NODES = 500


def make_ten(folder: Path) -> None:
    rows = "".join(f"{i},{'paid' if i % 2 else 'open'},{i * 1.5}\n" for i in range(10))
    (folder / TEN).write_text(f"id,status,amount\n{rows}")


def three_nodes(folder: str) -> dict[str, Any]:
    nodes = [
        {"id": "read", "type": "source_file", "name": "Read", "config": {"path": f"{folder}/{TEN}"}},
        {"id": "keep", "type": "transform", "name": "Keep", "config": {"rules": [{"type": "filter_rows", "condition": "status = 'paid'"}]}},
        {"id": "write", "type": "sink_file", "name": "Write", "config": {"path": f"{folder}/paid.csv"}},
    ]
    edges = [{"from": "read", "to": "keep"}, {"from": "keep", "to": "write"}]
    return {"name": "Bench: ten rows", "pipeline_id": "bench-ten", "nodes": nodes, "edges": edges}


def three_steps(folder: Path) -> None:
    """The same as a script: what somebody without an orchestrator would put into a crontab."""
    with duckdb.connect() as connection:
        connection.execute(f"copy (select * from read_csv('{folder / TEN}')) to '{folder / 'ten.parquet'}'")
        connection.execute(f"copy (select * from read_parquet('{folder / 'ten.parquet'}') where status = 'paid') to '{folder / 'paid.parquet'}'")
        connection.execute(f"copy (select * from read_parquet('{folder / 'paid.parquet'}')) to '{folder / 'paid.csv'}' (header)")


def _expression(index: int) -> str:
    return f"case when c{index} % 2 = 0 then round(c{index} * 1.5, 2) else coalesce(nullif(c{index}, 7), 0) + length('x{index}') end"


def graph(folder: str) -> dict[str, Any]:
    """500 nodes with an expression each: one source, 20 chains of transforms below it, and a union of them all."""
    nodes: list[dict[str, Any]] = [{"id": "read", "type": "source_file", "name": "Read", "config": {"path": f"{folder}/{TEN}", "columns": ["c0"]}}]
    edges: list[dict[str, str]] = []
    chains = 20
    for index in range(GRAPH_NODES - 2):
        rule = {"type": "add_column", "name": f"c{index + chains}", "expression": _expression(0)}
        nodes.append({"id": f"n{index}", "type": "transform", "name": f"Node {index}", "config": {"rules": [rule]}})
        edges.append({"from": "read" if index < chains else f"n{index - chains}", "to": f"n{index}"})
    nodes.append({"id": "all", "type": "union", "name": "All", "config": {}})
    edges += [{"from": f"n{index}", "to": "all"} for index in range(GRAPH_NODES - 2 - chains, GRAPH_NODES - 2)]
    return {"name": "Bench: 500 nodes", "nodes": nodes, "edges": edges}


def parse_expressions() -> float:
    """Seconds that sqlglot alone takes to parse as many such expressions as the graph holds."""
    start = time.perf_counter()
    for index in range(GRAPH_NODES - 2):
        sqlglot.parse_one(_expression(index), dialect="duckdb")
    return time.perf_counter() - start


if __name__ == "__main__":
    three_steps(Path(sys.argv[1]))
