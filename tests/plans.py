"""How the database answers a query: by an index, or by reading everything."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.test.utils import CaptureQueriesContext

_BOUNDED_COUNT = re.compile(r"SELECT COUNT\(\*\) FROM \(.* LIMIT \d+\) subquery$")


def analyse() -> None:
    """Give PostgreSQL's planner the statistics that it would have gathered by itself; SQLite's plans here need none."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def plan(sql: str) -> str:
    with connection.cursor() as cursor:
        # The captured text has its values written out and is no template any more.
        cursor.execute(("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + sql.replace("%", "%%"), [])
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def reads_everything(found: str, table: str, may_sort: int = 0) -> bool:
    """Whether a plan reads the whole table, or sorts what it read: more than `may_sort` rows, by PostgreSQL's own estimate.

    SQLite has no estimates: where some may be sorted, grouping is free to.
    """
    if connection.vendor == "postgresql":
        sorted_rows = [int(rows) for rows in re.findall(r"\bSort\b[^\n]*\brows=(\d+)", found)]
        return bool(re.search(rf"Seq Scan on {table}\b", found)) or any(rows > may_sort for rows in sorted_rows)
    return bool(re.search(rf"SCAN {table}(?! USING)|USE TEMP B-TREE{' FOR (?!GROUP BY)' if may_sort else ''}", found))


@contextmanager
def only_indexed(table: str, may_sort: int = 0) -> Iterator[CaptureQueriesContext]:
    """Every SELECT on `table` in the block walks an index and sorts nothing (or `may_sort` rows at most)."""
    with CaptureQueriesContext(connection) as captured:
        yield captured
    asked = [query["sql"] for query in captured.captured_queries if f'FROM "{table}"' in query["sql"] and query["sql"].startswith("SELECT")]
    assert asked, f"nothing was read from {table}"
    for sql in asked:
        if connection.vendor == "postgresql" and _BOUNDED_COUNT.match(sql):
            continue  # reading up to its limit in any order is as good as any index when nearly all rows count
        found = plan(sql)
        assert not reads_everything(found, table, may_sort), f"{sql}\n{found}"
