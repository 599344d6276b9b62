"""Tables of SQLite files, where a case looks at what was written."""

import itertools
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.contracts.case import Row
from tests.contracts.workshop import Workshop

_numbers = itertools.count(1)


def execute(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(f"BEGIN;{script};COMMIT;")


def rows(file: Path, sql: str) -> list[Row]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.execute(sql).fetchall())


def taken_over(workshop: Workshop, file: Path, table: str) -> str:
    """SQL of the table's rows, in the order in which they were written, for the workshop's own connection."""
    with closing(sqlite3.connect(file)) as connection:
        cursor = connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
        names = [column[0] for column in cursor.description]
        batches = []
        while part := cursor.fetchmany(50_000):
            batches.append(_batch(names, list(zip(*part, strict=True))))
    found = pa.concat_tables(batches, promote_options="permissive") if batches else _batch(names, [()] * len(names))
    view = f"taken_{next(_numbers)}"
    workshop.maker.register(view, found)
    return f"FROM {view}"


def _batch(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> pa.Table:
    return pa.Table.from_arrays([pa.array(column) for column in columns], names=list(names))
