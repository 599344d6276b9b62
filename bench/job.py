"""The job that the benchmark runs in three ways: read a CSV of orders, keep the paid ones and add a total, check, aggregate, write.

`python -m bench.job plain FOLDER` and `python -m bench.job fused FOLDER` run it as a script would, and print the milliseconds of its
steps and their total, from connecting to the last statement, without the start of Python and the import of DuckDB.
"""

import contextlib
import csv
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

ORDERS = "orders.csv"
_STATUSES = "['paid', 'paid', 'paid', 'pending', 'refunded']"
_COUNTRIES = "['DE', 'US', 'FR', 'GB', 'IT', 'ES', 'NL', 'SE', 'PL', 'JP']"


def make_orders(folder: Path, rows: int) -> None:
    """`orders.csv` with this many rows, three fifths of them paid; the same bytes every time."""
    query = f"""
        select i as order_id, r % 50000 as customer_id, {_STATUSES}[r % 5 + 1] as status, {_COUNTRIES}[r // 5 % 10 + 1] as country,
               r // 50 % 9 + 1 as quantity, (r // 450 % 99900 + 100) / 100 as price, timestamp '2024-01-01' + interval (i) second as ordered_at
        from (select i, i * 48271 % 2147483647 as r from range({rows}) t(i)) order by i
    """
    with duckdb.connect() as connection:
        connection.execute(f"copy ({query}) to '{folder / ORDERS}' (header)")


def pipeline(folder: str) -> dict[str, Any]:
    """The job as a pipeline of five nodes; `folder` lies in the data folder."""
    nodes = [
        {"id": "orders", "type": "source_file", "name": "Orders", "config": {"path": f"{folder}/{ORDERS}"}},
        {
            "id": "paid",
            "type": "transform",
            "name": "Paid orders",
            "config": {
                "rules": [
                    {"type": "filter_rows", "condition": "status = 'paid'"},
                    {"type": "add_column", "name": "total", "expression": "quantity * price"},
                ]
            },
        },
        {
            "id": "checked",
            "type": "quality_check",
            "name": "Check",
            "config": {
                "rules": [
                    {"column": "order_id", "rule": "not_null", "on_failure": "block"},
                    {"column": "total", "rule": "range", "params": {"min": 0, "max": 100000}, "on_failure": "block"},
                    {"column": "country", "rule": "not_null", "on_failure": "block"},
                ]
            },
        },
        {
            "id": "by_country",
            "type": "transform",
            "name": "By country",
            "config": {
                "rules": [
                    {
                        "type": "aggregate",
                        "group_by": ["country"],
                        "agg_fields": [
                            {"column": "order_id", "function": "count", "alias": "orders"},
                            {"column": "total", "function": "sum", "alias": "revenue"},
                        ],
                    },
                    {"type": "sort", "columns": ["country"]},
                ]
            },
        },
        {"id": "written", "type": "sink_file", "name": "Write", "config": {"path": f"{folder}/by_country.csv"}},
    ]
    ids = [str(node["id"]) for node in nodes]
    edges = [{"from": source, "to": target} for source, target in itertools.pairwise(ids)]
    return {"name": "Bench: a million orders", "pipeline_id": "bench-orders", "nodes": nodes, "edges": edges}


class Steps:
    """Milliseconds of each step, named as the nodes of the pipeline."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.times[name] = (time.perf_counter() - start) * 1000


def plain(folder: Path, steps: Steps) -> None:
    """The five steps one by one, each output kept as Parquet for the next. The check changes no row, so its output is its input's."""
    with duckdb.connect() as connection:
        with steps.step("orders"):
            connection.execute(f"copy (select * from read_csv('{folder / ORDERS}')) to '{folder / 'orders.parquet'}'")
        with steps.step("paid"):
            paid = f"select *, quantity * price as total from read_parquet('{folder / 'orders.parquet'}') where status = 'paid'"
            connection.execute(f"copy ({paid}) to '{folder / 'paid.parquet'}'")
        with steps.step("checked"):
            check = f"""
                select count(*) filter (order_id is null), count(*) filter (total not between 0 and 100000), count(*) filter (country is null)
                from read_parquet('{folder / "paid.parquet"}')
            """
            if any(connection.execute(check).fetchall()[0]):
                raise SystemExit("the check failed")
        with steps.step("by_country"):
            by_country = f"select country, count(order_id) as orders, sum(total) as revenue from read_parquet('{folder / 'paid.parquet'}')"
            connection.execute(f"copy ({by_country} group by country order by country) to '{folder / 'by_country.parquet'}'")
        with steps.step("written"):
            connection.execute(f"copy (select * from read_parquet('{folder / 'by_country.parquet'}')) to '{folder / 'by_country.csv'}' (header)")


def fused(folder: Path, steps: Steps) -> None:
    """Everything in one statement that keeps nothing but its result; the check is part of the scan."""
    query = f"""
        with paid as (select *, quantity * price as total from read_csv('{folder / ORDERS}') where status = 'paid')
        select country, count(order_id) as orders, sum(total) as revenue,
               count(*) filter (order_id is null or country is null or total not between 0 and 100000) as wrong
        from paid group by country order by country
    """
    with duckdb.connect() as connection, steps.step("all"):
        connection.execute(f"create temp table result as {query}")
        if any(connection.execute("select sum(wrong) from result").fetchall()[0]):
            raise SystemExit("the check failed")
        connection.execute(f"copy (select country, orders, revenue from result order by country) to '{folder / 'by_country.csv'}' (header)")


def revenues(folder: Path) -> list[tuple[str, int, int]]:
    """What was written: country, orders, revenue in cents. Sums of floats differ in their last digits with the order of threads."""
    with (folder / "by_country.csv").open(newline="") as file:
        return [(row["country"], int(row["orders"]), round(float(row["revenue"]) * 100)) for row in csv.DictReader(file)]


def main(way: str, folder: str) -> None:
    run = {"plain": plain, "fused": fused}[way]
    steps = Steps()
    with steps.step("total"):
        run(Path(folder), steps)
    print(json.dumps(steps.times))


if __name__ == "__main__":
    main(*sys.argv[1:])
