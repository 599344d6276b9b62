"""SQLite through Python's own driver, which can be interrupted from another thread; ADBC's (1.13) cannot.

Any column of SQLite may hold values of any kind. So the query is looked at first: which kinds each column of the result has, in the same
snapshot that is read afterwards. https://www.sqlite.org/datatype3.html
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote

import pyarrow as pa

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.databases import sqlite_types
from pipelines.databases.interruption import Interruption
from pipelines.databases.places import Place
from pipelines.databases.portions import LARGEST_VALUE, portion, texts_of
from pipelines.databases.queries import Statement
from pipelines.databases.reading import Reading, need_columns, renamed_note, unique
from pipelines.databases.sqlite_types import ColumnPlan
from pipelines.nodes.base import Stop
from pipelines.references import as_text

__all__ = ["Path", "SqliteDatabase", "opened"]

_ROWS = 20_000
_BUSY_SECONDS = 10
_VIEW = "brokoli_query"
# What a query may do: read, call functions, recurse. Everything else (ATTACH, PRAGMA, writing) is refused before it begins.
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


@contextmanager
def opened(place: Place, path: Path, stop: Stop, *, write: bool) -> Iterator["SqliteDatabase"]:
    """The database while the block lasts. Errors: `NodeError`, the stop's reason."""
    mode = "rwc" if write else "ro"
    try:
        connection = sqlite3.connect(
            f"file:{url_quote(str(path))}?mode={mode}", uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise NodeError(f"The file '{place.database}' cannot be opened as a SQLite database.") from error
    interruption = Interruption(stop)
    interruption.arm(connection.interrupt, None)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("SELECT count(*) FROM sqlite_schema")  # which reads the file, so that one that is none is told at once
        yield SqliteDatabase(place, connection, stop, interruption)
    except sqlite3.DatabaseError as error:
        raise _failure(error, place, stop) from error
    finally:
        interruption.close(connection.close)


@dataclass(slots=True)
class SqliteDatabase:
    """An open SQLite database. `connection` leaves transactions to who uses it."""

    place: Place
    connection: sqlite3.Connection
    stop: Stop
    interruption: Interruption
    dialect: str = "sqlite"
    _reading: bool = field(default=False)

    def ping(self) -> str:
        try:
            self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            raise _failure(error, self.place, self.stop) from error
        return f"SQLite {sqlite3.sqlite_version}"

    def read(self, statement: Statement) -> Reading:
        try:
            return self._read(statement)
        except sqlite3.Error as error:
            raise _failure(error, self.place, self.stop) from error

    def _read(self, statement: Statement) -> Reading:
        if self._reading:
            self.connection.execute("ROLLBACK")
        self.connection.execute("BEGIN")
        self._reading = True
        declared = self._declared(statement)
        self.connection.execute("PRAGMA query_only = ON")
        self.connection.set_authorizer(_authorise)
        sql, values = statement.render(_mark), [_value(value) for value in statement.values]
        described = _as_written([column[0] for column in self.connection.execute(f"SELECT * FROM ({sql}\n) LIMIT 0", values).description])  # noqa: S608 - as a query
        need_columns(described)
        names = unique(described)
        plans = self._plans(sql, values, names, declared)
        cursor = self.connection.cursor()
        cursor.arraysize = _ROWS
        cursor.execute(_selected(sql, plans) if any(plan.sql for plan in plans) else sql, values)
        schema = pa.schema([(name, plan.type) for name, plan in zip(names, plans, strict=True)])
        notes = [note for note in (renamed_note(described, names), *(plan.note for plan in plans)) if note]
        return Reading(schema, self.interruption.reading(self._batches(cursor, plans, schema)), notes)

    def _declared(self, statement: Statement) -> list[str]:
        """What the tables that are read declare of the result's columns; "" where it is computed. A view knows."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.execute(f"CREATE TEMP VIEW {_VIEW} AS " + statement.render(lambda number, bound: "NULL"))
            rows = self.connection.execute(f"PRAGMA temp.table_xinfo({_VIEW})").fetchall()
            self.connection.execute(f"DROP VIEW temp.{_VIEW}")
            return [row[2] for row in rows]
        return []

    def _plans(self, sql: str, values: Sequence[Any], names: Sequence[str], declared: Sequence[str]) -> list[ColumnPlan]:
        known = declared if len(declared) == len(names) else [""] * len(names)
        plans = []
        # A statement may have 2,000 columns; each is asked about several times.
        for start in range(0, len(names), _AT_ONCE):
            part = range(start, min(start + _AT_ONCE, len(names)))
            asked = ", ".join(sqlite_types.question(f"c{number}", known[number]) for number in part)
            row = self.connection.execute(f"{_with_aliases(sql, len(names))} SELECT {asked} FROM q", values).fetchone()  # noqa: S608 - as a query
            plans += [sqlite_types.plan(names[number], known[number], *row[2 * index : 2 * index + 2]) for index, number in enumerate(part)]
        return plans

    def _batches(self, cursor: sqlite3.Cursor, plans: Sequence[ColumnPlan], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            most, texts = max(1, min(_ROWS, 400_000 // len(plans))), texts_of(schema)
            while rows := portion(cursor, most, texts):
                self.stop.check()
                yield pa.record_batch([plan.convert(column) for plan, column in zip(plans, zip(*rows, strict=True), strict=True)], schema=schema)
            self.stop.check()
        except sqlite3.Error as error:
            raise _failure(error, self.place, self.stop) from error


_AT_ONCE = 400


def _authorise(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _as_written(names: Sequence[str]) -> list[str]:
    """Column names of a subquery, in which SQLite calls the second `a` `a:1`."""
    found: list[str] = []
    for name in names:
        base, colon, number = name.rpartition(":")
        found.append(base if colon and number.isdigit() and base.lower() in {one.lower() for one in found} else name)
    return found


def _mark(number: int, bound: Any) -> str:
    return f"?{number}"


def _value(value: Any) -> Any:
    if isinstance(value, dict | list):
        return as_text(value)
    return value if not isinstance(value, int) or -(2**63) <= value < 2**63 else str(value)


def _with_aliases(sql: str, count: int) -> str:
    return f"WITH q({', '.join(f'c{number}' for number in range(count))}) AS ({sql}\n)"


def _selected(sql: str, plans: Sequence[ColumnPlan]) -> str:
    items = ", ".join((plan.sql or "{}").format(f"c{number}") for number, plan in enumerate(plans))
    return f"{_with_aliases(sql, len(plans))} SELECT {items} FROM q"  # noqa: S608 - our own names around the user's query


def _failure(error: sqlite3.Error, place: Place, stop: Stop) -> NodeError:
    stop.check()
    words = str(error).rstrip(".")
    if words == "file is not a database":
        return NodeError(f"The file '{place.database}' is no SQLite database.")
    if words == "unable to open database file":
        return NodeError(f"The file '{place.database}' cannot be opened as a SQLite database.")
    if "readonly database" in words or "not authorized" in words or "prohibited" in words:
        return NodeError(f"SQLite refused the query: a source only reads ({words}).")
    if "locked" in words or "busy" in words or "disk I/O" in words:
        return TransientNodeError(f"SQLite could not do this now: {words}.")
    return NodeError(f"SQLite refused the query: {words}.")
