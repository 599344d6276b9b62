"""Loading into PostgreSQL: rows go as Arrow into binary COPY, with ADBC. An upsert goes through a temporary table.

Binary COPY takes a value in the very form of its column's type, so DuckDB casts to that type on the way. Columns of types for which
there is no such form here (arrays, ranges, addresses, types of extensions) are staged as text, and PostgreSQL casts them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
from adbc_driver_manager import dbapi

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
# DuckDB's expression for a value in the form of a PostgreSQL type, by the type's name in pg_type; {0} is the column.
_AS: Mapping[str, str] = {
    "bool": "CAST({0} AS BOOLEAN)",
    "int2": "CAST({0} AS SMALLINT)",
    "int4": "CAST({0} AS INTEGER)",
    "int8": "CAST({0} AS BIGINT)",
    "float4": "CAST({0} AS FLOAT)",
    "float8": "CAST({0} AS DOUBLE)",
    "text": "CAST({0} AS VARCHAR)",
    "varchar": "CAST({0} AS VARCHAR)",
    "bpchar": "CAST({0} AS VARCHAR)",
    "citext": "CAST({0} AS VARCHAR)",
    "json": "CAST({0} AS VARCHAR)",
    "jsonb": "encode(chr(1) || CAST({0} AS VARCHAR))",  # the form's version, then text
    "bytea": "{0}",
    "date": "CAST({0} AS DATE)",
    "time": "CAST({0} AS TIME)",
    "timestamp": "CAST({0} AS TIMESTAMP)",
    "timestamptz": "CAST({0} AS TIMESTAMP WITH TIME ZONE)",
    "uuid": "unhex(replace(CAST(CAST({0} AS UUID) AS VARCHAR), '-', ''))",
    "interval": "CAST({0} AS INTERVAL)",
}
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), Kind.INTEGER),
    **dict.fromkeys(("float4", "float8"), Kind.FLOAT),
    **dict.fromkeys(("text", "varchar", "bpchar", "citext", "name"), Kind.TEXT),
    **dict.fromkeys(("json", "jsonb"), Kind.JSON),
    "bool": Kind.BOOLEAN,
    "numeric": Kind.DECIMAL,
    "bytea": Kind.BINARY,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timestamp": Kind.TIMESTAMP,
    "timestamptz": Kind.TIMESTAMP_TZ,
    "uuid": Kind.UUID,
    "interval": Kind.INTERVAL,
}
_COLUMNS = """
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), b.typname::text, (a.attnotnull AND NOT a.atthasdef AND a.attidentity = '')::int,
           (a.attgenerated <> '' OR a.attidentity = 'a')::int, (b.typtype = 'e')::int
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_UNIQUE = """
    SELECT i.indexrelid::bigint, a.attname::text
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
    WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL"""
_RELATION = """
    SELECT n.nspname::text, c.relname::text, c.relkind::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(?)"""
_TABLES = ("r", "p", "f", "v")  # plain, partitioned, foreign, and views, which may be written to


class PostgresSession:
    """Implements `loading.Session` over an ADBC connection that is not in autocommit. Closing it is its opener's business."""

    dialect = quotes = "postgres"
    upserts = transactional_ddl = True
    one_writer = False
    latest = ""

    def __init__(self, connection: dbapi.Connection, place: Place) -> None:
        self._connection, self._place = connection, place
        self.system = place.system

    # --- statements -----------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return self._do(lambda cursor: self._changed(cursor, sql, parameters))

    def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        def ask(cursor: dbapi.Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(placed(sql, "postgres"), list(parameters) or None)
            return [tuple(row) for row in cursor.fetchall()]

        return self._do(ask)

    def insert_if_new(self, sql: str, parameters: Sequence[object], keys: Sequence[str]) -> bool:
        statement = f"{sql} ON CONFLICT ({', '.join(keys)}) DO NOTHING RETURNING 1"
        return bool(self.fetch(statement, parameters))

    def _changed(self, cursor: dbapi.Cursor, sql: str, parameters: Sequence[object]) -> int:
        cursor.execute(placed(sql, "postgres") if parameters else sql, list(parameters) or None)
        return int(cursor.rowcount)

    def _do(self, act: Callable[[dbapi.Cursor], T]) -> T:
        """Errors: `NodeError` with the server's words."""
        with self._connection.cursor() as cursor:
            try:
                return act(cursor)
            except dbapi.Error as error:
                raise complaints.of_write(error, self._place) from error

    # --- tables ---------------------------------------------------------------------------------------------------

    def exists(self, table: str) -> bool:
        return bool(self.fetch(_RELATION, (self._quoted(table_parts(table)),)))

    def describe(self, table: str) -> TargetTable | None:
        name = self._quoted(table_parts(table))
        found = self.fetch(_RELATION, (name,))
        if not found:
            return None
        schema, relation, kind = found[0]
        refusal = "" if kind in _TABLES else f"'{table}' is no table that rows can be written to."
        unique: dict[int, set[str]] = {}
        for index, column in self.fetch(_UNIQUE, (name,)):
            unique.setdefault(index, set()).add(column)
        columns = tuple(_column(row) for row in self.fetch(_COLUMNS, (name,)))
        return TargetTable(table, name, columns, tuple(frozenset(names) for names in unique.values()), (schema, relation), refusal)

    def _quoted(self, parts: Sequence[str]) -> str:
        return ".".join(identifier(part, "postgres") for part in parts)

    # --- rows -----------------------------------------------------------------------------------------------------

    def items(self, fits: Sequence[Fit]) -> list[str]:
        return [f"{_form(one)} AS {quote(one.target.name)}" for one in fits]

    def fill(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        if all(_has_form(one) for one in fits):
            return self._copy(reader, target.parts)
        count = self.stage(target, fits, reader, batch_size)
        self.execute(f"INSERT INTO {target.sql} ({_names(fits)}) {self._selected(fits)}")
        return count

    def lock(self, target: TargetTable) -> None:
        self.execute(f"LOCK TABLE {target.sql} IN SHARE ROW EXCLUSIVE MODE")

    def clear(self, target: TargetTable, *, truncate: bool) -> None:
        self.execute(f"TRUNCATE {target.sql}" if truncate else f"DELETE FROM {target.sql}")  # noqa: S608 - quoted identifiers

    def stage(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        """The rows in the temporary table `staging`; how many."""
        columns = ", ".join(f"{identifier(one.target.name, 'postgres')} {one.target.type if _has_form(one) else 'text'}" for one in fits)
        self.execute(f"CREATE TEMPORARY TABLE {self.staging} ({columns}) ON COMMIT DROP")
        return self._copy(reader, ("pg_temp", _STAGING))

    @property
    def staging(self) -> str:
        return self._quoted(("pg_temp", _STAGING))

    def merge(self, target: TargetTable, fits: Sequence[Fit], keys: Sequence[str], *, repeated: bool) -> None:
        conflict = ", ".join(identifier(key, "postgres") for key in keys)
        others = [identifier(one.target.name, "postgres") for one in fits if one.target.name not in keys]
        sets = ", ".join(f"{name} = excluded.{name}" for name in others)
        act = f"DO UPDATE SET {sets}" if others else "DO NOTHING"
        distinct = f"DISTINCT ON ({conflict})" if repeated else ""
        # Rows lie in a table that was just filled in the order in which they came, and `ctid` says where.
        order = f" ORDER BY {conflict}, ctid DESC" if repeated else ""
        selected = self._selected(fits, distinct)
        self.execute(f"INSERT INTO {target.sql} ({_names(fits)}) {selected}{order} ON CONFLICT ({conflict}) {act}")

    def _selected(self, fits: Sequence[Fit], distinct: str = "") -> str:
        items = ", ".join(f"CAST({identifier(one.target.name, 'postgres')} AS {one.target.type})" for one in fits)
        return f"SELECT {distinct} {items} FROM {self.staging}"  # noqa: S608 - quoted identifiers

    def _copy(self, reader: pa.RecordBatchReader, parts: Sequence[str]) -> int:
        def ingest(cursor: dbapi.Cursor) -> int:
            return cursor.adbc_ingest(parts[-1], reader, mode="append", db_schema_name=parts[0])

        return self._do(ingest)

    # --- the end --------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        try:
            self._connection.commit()
        except dbapi.Error as error:
            raise complaints.of_commit(error, self._place) from error

    def rollback(self) -> None:
        try:
            self._connection.rollback()
        except dbapi.Error:
            return  # a connection that is gone has taken its transaction with it


def _column(row: tuple[Any, ...]) -> TargetColumn:
    name, type_name, base, needed, generated, enum = row
    return TargetColumn(name, type_name, Kind.TEXT if enum else _KINDS.get(base), bool(needed), bool(generated), "text" if enum else base)


def _has_form(one: Fit) -> bool:
    base = one.target.base
    return base in _AS or (base == "numeric" and kind_of(one.source.type).kind in (Kind.DECIMAL, Kind.INTEGER))


def _form(one: Fit) -> str:
    """DuckDB's expression that gives the column in the form of its type; as text where the type has none here."""
    name, about = quote(one.source.name), kind_of(one.source.type)
    if one.target.base == "numeric" and about.kind == Kind.INTEGER:
        return f"CAST({name} AS DECIMAL(38, 0))"
    if one.target.base == "numeric" and about.kind == Kind.DECIMAL:
        return name
    if about.kind == Kind.JSON and one.source.type != "JSON":
        name = f"to_json({name})"
    return _AS.get(one.target.base, "CAST({0} AS VARCHAR)").format(name)


def _names(fits: Sequence[Fit]) -> str:
    return ", ".join(identifier(one.target.name, "postgres") for one in fits)
