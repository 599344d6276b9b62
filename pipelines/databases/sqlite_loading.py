"""Loading into SQLite: rows go through Python's own driver, a statement prepared once.

ADBC would load twice as fast (docs/adr), but brings a SQLite of its own. Two of those in one process break each other's locks on a
file (https://www.sqlite.org/howtocorrupt.html, 2.2.1), and a worker may well read a file in one thread and write it in another.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipelines.databases import complaints
from pipelines.databases.declaring import identifier, table_parts
from pipelines.databases.fitting import Fit, TargetColumn
from pipelines.databases.kinds import Kind, kind_of
from pipelines.databases.loading import TargetTable
from pipelines.databases.places import Place
from pipelines.expressions import quote
from pipelines.nodes.base import Stop

_LOCK_SECONDS = 30.0
# Other files are not this database's, and settings not the business of whoever writes rows.
_REFUSED = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
_STAGING = '"temp"."brokoli_staging"'
# Words in the name of a declared type, and what they say; the first that fits counts. Any column takes any value; these are what people meant.
_MEANT = (
    (re.compile("INT"), Kind.INTEGER),
    (re.compile("CHAR|CLOB|TEXT"), Kind.TEXT),
    (re.compile("BLOB"), Kind.BINARY),
    (re.compile("REAL|FLOA|DOUB"), Kind.FLOAT),
    (re.compile("BOOL"), Kind.BOOLEAN),
    (re.compile("DATE|TIME"), Kind.TEXT),  # as which it keeps them
    (re.compile("DEC|NUMERIC"), Kind.DECIMAL),
)
_BIG = re.compile("U(BIG|HUGE)INT|HUGEINT")


class SqliteSession:
    """Implements `loading.Session` over a connection of Python's driver with `isolation_level` None. Closing it is its opener's business."""

    dialect = quotes = "sqlite"
    one_writer = True
    latest = ""
    upserts = transactional_ddl = True
    staging = _STAGING

    def __init__(self, connection: sqlite3.Connection, place: Place, stop: Stop, *, read_only: bool = False) -> None:
        self._connection, self._place, self._stop = connection, place, stop
        self.system = place.system
        self._start = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        # What an upsert stages may be larger than memory.
        connection.execute("PRAGMA temp_store = FILE")
        # Waits are short and many, so that a stop is noticed between them.
        connection.execute("PRAGMA busy_timeout = 250")

        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action in _REFUSED else sqlite3.SQLITE_OK)

    # --- statements -----------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return self._execute(sql, parameters).rowcount

    def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return list(self._execute(sql, parameters).fetchall())

    def insert_if_new(self, sql: str, parameters: Sequence[object], keys: Sequence[str]) -> bool:
        return self.execute(f"{sql} ON CONFLICT ({', '.join(keys)}) DO NOTHING", parameters) == 1

    def _execute(self, sql: str, parameters: Sequence[object]) -> sqlite3.Cursor:
        try:
            if not self._connection.in_transaction:
                self._begin()
            return self._connection.execute(sql, tuple(parameters))
        except sqlite3.Error as error:
            raise complaints.of_write(error, self._place) from error

    def _begin(self) -> None:
        """The one lock for writers from the start: a transaction that read first could not get it later."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            self._stop.check()
            try:
                self._connection.execute(self._start)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            else:
                return

    # --- tables ---------------------------------------------------------------------------------------------------

    def exists(self, table: str) -> bool:
        return self._kind(table) is not None

    def describe(self, table: str) -> TargetTable | None:
        kind = self._kind(table)
        if kind is None:
            return None
        schema, name = self._parts(table)
        rows = self.fetch('SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1', (name, schema))
        keys = [row[0] for row in rows if row[4]]
        columns = tuple(_column(row, sole_key=len(keys) == 1) for row in rows)
        unique = self._unique(schema, name) | ({frozenset(keys)} if keys else set())
        refusal = "" if kind == "table" else f"'{table}' is a view; rows can be written to tables alone."
        return TargetTable(table, self._quoted(schema, name), columns, tuple(unique), (schema, name), refusal)

    def _kind(self, table: str) -> str | None:
        schema, name = self._parts(table)
        if schema.casefold() not in {row[0].casefold() for row in self.fetch("SELECT name FROM pragma_database_list")}:
            return None
        master = identifier(schema, "sqlite")
        sql = f"SELECT type FROM {master}.sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE"  # noqa: S608 - quoted
        found = self.fetch(sql, (name,))
        return str(found[0][0]) if found else None

    def _unique(self, schema: str, name: str) -> set[frozenset[str]]:
        found = set()
        for index, partial in self.fetch('SELECT name, partial FROM pragma_index_list(?, ?) WHERE "unique"', (name, schema)):
            columns = [row[0] for row in self.fetch("SELECT name FROM pragma_index_info(?, ?)", (index, schema))]
            if not partial and None not in columns:
                found.add(frozenset(columns))
        return found

    def _parts(self, table: str) -> tuple[str, str]:
        parts = table_parts(table)
        return (parts[-2], parts[-1]) if len(parts) > 1 else ("main", parts[0])

    def _quoted(self, schema: str, name: str) -> str:
        return f"{identifier(schema, 'sqlite')}.{identifier(name, 'sqlite')}"

    # --- rows -----------------------------------------------------------------------------------------------------

    def items(self, fits: Sequence[Fit]) -> list[str]:
        return [f"{_form(one)} AS {quote(one.target.name)}" for one in fits]

    def fill(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        return self._insert(target.sql, fits, reader)

    def lock(self, target: TargetTable) -> None:
        """Every transaction here has the only lock for writers."""

    def clear(self, target: TargetTable, *, truncate: bool) -> None:
        self.execute(f"DELETE FROM {target.sql}")  # noqa: S608 - quoted; SQLite makes a truncation of it where it can

    def stage(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        self.execute(f"DROP TABLE IF EXISTS {_STAGING}")
        columns = ", ".join(identifier(one.target.name, "sqlite") for one in fits)
        self.execute(f"CREATE TEMPORARY TABLE {_STAGING.split('.')[1]} AS SELECT {columns} FROM {target.sql} LIMIT 0")  # noqa: S608 - quoted identifiers
        return self._insert(_STAGING, fits, reader)

    def merge(self, target: TargetTable, fits: Sequence[Fit], keys: Sequence[str], *, repeated: bool) -> None:
        names = [identifier(one.target.name, "sqlite") for one in fits]
        conflict = ", ".join(identifier(key, "sqlite") for key in keys)
        sets = ", ".join(
            f"{identifier(one.target.name, 'sqlite')} = excluded.{identifier(one.target.name, 'sqlite')}"
            for one in fits
            if one.target.name not in keys
        )
        act = f"DO UPDATE SET {sets}" if sets else "DO NOTHING"
        # In the order in which they came: of several rows with one key the last one stays.
        select = f"SELECT {', '.join(names)} FROM {_STAGING} WHERE true ORDER BY rowid"  # noqa: S608 - quoted identifiers
        self.execute(f"INSERT INTO {target.sql} ({', '.join(names)}) {select} ON CONFLICT ({conflict}) {act}")

    def _insert(self, table: str, fits: Sequence[Fit], reader: pa.RecordBatchReader) -> int:
        names = ", ".join(identifier(one.target.name, "sqlite") for one in fits)
        sql = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(fits))})"  # noqa: S608 - quoted identifiers
        try:
            return max(0, self._connection.executemany(sql, _rows(reader)).rowcount)
        except (sqlite3.Error, OverflowError) as error:
            raise complaints.of_write(error, self._place) from error

    # --- the end --------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        try:
            self._connection.commit()
        except sqlite3.Error as error:
            raise complaints.of_write(error, self._place) from error

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()


def _rows(reader: pa.RecordBatchReader) -> Iterator[tuple[Any, ...]]:
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _column(row: tuple[Any, ...], *, sole_key: bool) -> TargetColumn:
    name, type_name, not_null, default, key, hidden = row
    meant = next((kind for pattern, kind in _MEANT if pattern.search(type_name.upper())), None)
    numbered = sole_key and bool(key) and type_name.upper() == "INTEGER"  # an alias of the row's own number
    return TargetColumn(name, type_name or "of any type", meant, bool(not_null) and default is None and not numbered, hidden in (2, 3))


def _form(one: Fit) -> str:
    """DuckDB's expression for what SQLite keeps: numbers, texts, bytes. Dates and times are ISO 8601 texts, in UTC."""
    name, about = quote(one.source.name), kind_of(one.source.type)
    if about.kind == Kind.BOOLEAN:
        return f"CAST({name} AS TINYINT)" if one.target.kind != Kind.TEXT else f"CAST({name} AS VARCHAR)"
    if about.kind == Kind.INTEGER:
        return f"CAST({name} AS VARCHAR)" if _BIG.fullmatch(one.source.type) else name
    if about.kind in (Kind.FLOAT, Kind.BINARY):
        return name
    if about.kind == Kind.TIMESTAMP_TZ:
        return f"CAST(make_timestamp(epoch_us({name})) AS VARCHAR)"
    if about.kind == Kind.JSON and one.source.type != "JSON":
        return f"CAST(to_json({name}) AS VARCHAR)"
    return f"CAST({name} AS VARCHAR)"
