"""Loading into MySQL and MariaDB: INSERT statements of many rows, their values bound by PyMySQL.

Not LOAD DATA LOCAL: a client that allows it sends whatever file the server asks for, and its LOCAL turns errors of rows into warnings.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pymysql
from pymysql import converters
from pymysql.connections import Connection

from brokoli_site.common.errors import NodeError
from pipelines.databases import complaints
from pipelines.databases.declaring import identifier, table_parts
from pipelines.databases.fitting import Fit, TargetColumn
from pipelines.databases.kinds import Kind, kind_of
from pipelines.databases.loading import TargetTable
from pipelines.databases.placeholders import placed
from pipelines.databases.places import Place
from pipelines.expressions import quote

T = TypeVar("T")
_STAGING = "brokoli_staging"
_NUMBER = "brokoli_row"
_TRANSACTIONAL = ("innodb", "xtradb", "rocksdb", "tokudb", "ndbcluster")
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit"), Kind.INTEGER),
    **dict.fromkeys(("float", "double"), Kind.FLOAT),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"), Kind.TEXT),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), Kind.BINARY),
    **dict.fromkeys(("datetime", "timestamp"), Kind.TIMESTAMP),
    "decimal": Kind.DECIMAL,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "json": Kind.JSON,
    "uuid": Kind.UUID,
}
_COLUMNS = """
    SELECT column_name, column_type, data_type, is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%',
           extra LIKE '%GENERATED%'
    FROM information_schema.columns WHERE table_schema = coalesce(?, database()) AND table_name = ? ORDER BY ordinal_position"""
_TABLE = "SELECT table_type, coalesce(engine, '') FROM information_schema.tables WHERE table_schema = coalesce(?, database()) AND table_name = ?"
_UNIQUE = """SELECT index_name, column_name, sub_part FROM information_schema.statistics
    WHERE table_schema = coalesce(?, database()) AND table_name = ? AND non_unique = 0"""
_MOST_BYTES = 900_000  # of one statement; servers take a megabyte at the least


class MysqlSession:
    """Implements `loading.Session` over a connection of PyMySQL that is not in autocommit. Closing it is its opener's business."""

    dialect = quotes = "mysql"
    one_writer = False
    latest = " FOR UPDATE"
    upserts = True
    transactional_ddl = False  # CREATE TABLE commits what was before it

    def __init__(self, connection: "Connection[Any]", place: Place) -> None:
        self._connection, self._place = connection, place
        self.system = place.system
        # Readers set their own; here Python's values go in, and a few come out.
        connection.encoders, connection.decoders = dict(converters.encoders), dict(converters.decoders)
        # What does not fit must fail, not be cut or turned into zeros.
        self.execute("SET SESSION sql_mode = 'TRADITIONAL', time_zone = '+00:00'")

    # --- statements -----------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return self._do(lambda cursor: int(cursor.execute(placed(sql, "format") if parameters else sql, tuple(parameters) or None)))

    def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        def ask(cursor: Any) -> list[tuple[Any, ...]]:
            cursor.execute(placed(sql, "format") if parameters else sql, tuple(parameters) or None)
            return list(cursor.fetchall())

        return self._do(ask)

    def insert_if_new(self, sql: str, parameters: Sequence[object], keys: Sequence[str]) -> bool:
        # Not INSERT IGNORE, which turns every error into a warning.
        return self.execute(f"{sql} ON DUPLICATE KEY UPDATE {keys[0]} = {keys[0]}", parameters) == 1

    def _do(self, act: Callable[[Any], T]) -> T:
        """Errors: `NodeError` with the server's words."""
        try:
            with self._connection.cursor() as cursor:
                return act(cursor)
        except (pymysql.Error, OSError) as error:
            raise complaints.of_write(error, self._place) from error

    # --- tables ---------------------------------------------------------------------------------------------------

    def exists(self, table: str) -> bool:
        return bool(self.fetch(_TABLE, self._parts(table)))

    def describe(self, table: str) -> TargetTable | None:
        parts = self._parts(table)
        found = self.fetch(_TABLE, parts)
        if not found:
            return None
        columns = tuple(_column(row) for row in self.fetch(_COLUMNS, parts))
        unique: dict[str, set[str]] = {}
        for index, column, cut in self.fetch(_UNIQUE, parts):
            unique.setdefault(index, set()).add(column if cut is None else f"{column}({cut})")
        name = ".".join(identifier(part, "mysql") for part in parts if part)
        refusal = _refusal(table, *found[0])
        return TargetTable(table, name, columns, tuple(frozenset(names) for names in unique.values()), tuple(part for part in parts if part), refusal)

    def _parts(self, table: str) -> tuple[str | None, str]:
        parts = table_parts(table)
        return (parts[-2], parts[-1]) if len(parts) > 1 else (None, parts[0])

    # --- rows -----------------------------------------------------------------------------------------------------

    def items(self, fits: Sequence[Fit]) -> list[str]:
        return [f"{_form(one)} AS {quote(one.target.name)}" for one in fits]

    def fill(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        return self._insert(target.sql, fits, reader, batch_size)

    def lock(self, target: TargetTable) -> None:
        """`clear` locks every row and every gap, as long as the transaction lasts."""

    def clear(self, target: TargetTable, *, truncate: bool) -> None:
        # TRUNCATE would commit at once, and readers would see an empty table until the end.
        self.execute(f"DELETE FROM {target.sql}")  # noqa: S608 - quoted identifiers

    @property
    def staging(self) -> str:
        return identifier(_STAGING, "mysql")

    def stage(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        # Temporary tables do not end the transaction (https://dev.mysql.com/doc/refman/8.0/en/implicit-commit.html).
        self.execute(f"DROP TEMPORARY TABLE IF EXISTS {self.staging}")
        names = ", ".join(identifier(one.target.name, "mysql") for one in fits)
        numbered = f"{identifier(_NUMBER, 'mysql')} BIGINT AUTO_INCREMENT PRIMARY KEY"
        select = f"SELECT {names} FROM {target.sql} LIMIT 0"  # noqa: S608 - quoted identifiers
        self.execute(f"CREATE TEMPORARY TABLE {self.staging} ({numbered}) ENGINE=InnoDB {select}")
        for one in fits:  # a key that is NULL is for us to complain of
            self.execute(f"ALTER TABLE {self.staging} MODIFY {identifier(one.target.name, 'mysql')} {one.target.type} NULL")
        return self._insert(self.staging, fits, reader, batch_size)

    def merge(self, target: TargetTable, fits: Sequence[Fit], keys: Sequence[str], *, repeated: bool) -> None:
        _refuse_ambiguity(target, fits, keys)
        names = [identifier(one.target.name, "mysql") for one in fits]
        others = [identifier(one.target.name, "mysql") for one in fits if one.target.name not in keys] or [identifier(keys[0], "mysql")]
        sets = ", ".join(f"{name} = VALUES({name})" for name in others)
        # In the order in which they came: of several rows with one key the last one stays.
        select = f"SELECT {', '.join(names)} FROM {self.staging} ORDER BY {identifier(_NUMBER, 'mysql')}"  # noqa: S608 - quoted identifiers
        self.execute(f"INSERT INTO {target.sql} ({', '.join(names)}) {select} ON DUPLICATE KEY UPDATE {sets}")

    def _insert(self, table: str, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        names = placed(", ".join(identifier(one.target.name, "mysql") for one in fits), "format")
        sql = f"INSERT INTO {placed(table, 'format')} ({names}) VALUES ({', '.join(['%s'] * len(fits))})"  # noqa: S608 - quoted identifiers
        count = 0
        for batch in reader:
            for start in range(0, batch.num_rows, batch_size):
                part = batch.slice(start, batch_size)
                rows = list(zip(*(column.to_pylist() for column in part.columns), strict=True))
                self._do(partial(_executemany, sql, rows))
                count += len(rows)
        return count

    # --- the end --------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        try:
            self._connection.commit()
        except (pymysql.Error, OSError) as error:
            raise complaints.of_commit(error, self._place) from error

    def rollback(self) -> None:
        try:
            self._connection.rollback()
        except (pymysql.Error, OSError):
            return  # a connection that is gone has taken its transaction with it


def _executemany(sql: str, rows: Sequence[tuple[Any, ...]], cursor: Any) -> None:
    cursor.max_stmt_length = _MOST_BYTES
    cursor.executemany(sql, rows)


def _refusal(table: str, kind: str, engine: str) -> str:
    if "VIEW" in kind:
        return f"'{table}' is a view; rows can be written to tables alone."
    if engine.lower() not in _TRANSACTIONAL:
        return (
            f"The storage engine {engine} of '{table}' knows no transactions: a load that fails half-way would leave half of its rows. "
            f"Convert it: ALTER TABLE {table} ENGINE=InnoDB;"
        )
    return ""


def _refuse_ambiguity(target: TargetTable, fits: Sequence[Fit], keys: Sequence[str]) -> None:
    """Errors: `NodeError` where another unique index could make ON DUPLICATE KEY update a row of another key."""
    given = {one.target.name for one in fits}
    for columns in target.unique:
        if columns != frozenset(keys) and {re.sub(r"\(\d+\)$", "", name) for name in columns} <= given:
            names = ", ".join(sorted(columns))
            raise NodeError(
                f"'{target.name}' has another unique index, on ({names}): a row that meets it would change the row of another key. Upsert on that "
                "key, drop the index, or leave those columns out."
            )


def _column(row: tuple[Any, ...]) -> TargetColumn:
    name, type_name, base, needed, generated = row
    return TargetColumn(name, type_name, _KINDS.get(base.lower()), bool(needed), bool(generated), base.lower())


def _form(one: Fit) -> str:
    """DuckDB's expression for what PyMySQL binds: numbers, texts, bytes. Points in time are texts in UTC."""
    name, about = quote(one.source.name), kind_of(one.source.type)
    if about.kind == Kind.BOOLEAN:
        return f"CAST({name} AS TINYINT)" if one.target.kind != Kind.TEXT else f"CAST({name} AS VARCHAR)"
    if about.kind in (Kind.INTEGER, Kind.BINARY, Kind.FLOAT):
        return f"CAST({name} AS DECIMAL(38, 0))" if about.bits > 64 else name
    if about.kind == Kind.TIMESTAMP_TZ:
        return f"CAST(make_timestamp(epoch_us({name})) AS VARCHAR)"
    if about.kind == Kind.JSON and one.source.type != "JSON":
        return f"CAST(to_json({name}) AS VARCHAR)"
    return f"CAST({name} AS VARCHAR)"
