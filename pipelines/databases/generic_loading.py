"""Loading into whatever SQLAlchemy has a dialect for: prepared INSERT statements, a batch of rows at a time."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, NoSuchTableError, SQLAlchemyError

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.databases import complaints
from pipelines.databases.declaring import identifier, table_parts
from pipelines.databases.fitting import Fit, TargetColumn
from pipelines.databases.kinds import Kind, kind_of
from pipelines.databases.loading import TargetTable
from pipelines.databases.places import Place
from pipelines.expressions import quote

T = TypeVar("T")
# SQLAlchemy's classes of types, the particular before the general.
_KINDS: tuple[tuple[type[sa.types.TypeEngine[Any]], Kind], ...] = (
    (sa.Boolean, Kind.BOOLEAN),
    (sa.Integer, Kind.INTEGER),
    (sa.Float, Kind.FLOAT),
    (sa.Numeric, Kind.DECIMAL),
    (sa.DateTime, Kind.TIMESTAMP),
    (sa.Date, Kind.DATE),
    (sa.Time, Kind.TIME),
    (sa.LargeBinary, Kind.BINARY),
    (sa.JSON, Kind.JSON),
    (sa.Uuid, Kind.UUID),
    (sa.String, Kind.TEXT),
)


class GenericSession:
    """Implements `loading.Session` over a connection of SQLAlchemy. Closing it is its opener's business."""

    dialect = "generic"
    one_writer = False
    latest = ""
    transactional_ddl = False  # in some it is; nothing is lost by taking it for none
    upserts = False
    staging = ""

    def __init__(self, connection: sa.Connection, place: Place, quotes: str) -> None:
        self._connection, self._place = connection, place
        self.system, self.quotes = place.system, quotes

    # --- statements -----------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return self._do(lambda: self._execute(sql, parameters).rowcount)

    def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._do(lambda: [tuple(row) for row in self._execute(sql, parameters).fetchall()])

    def insert_if_new(self, sql: str, parameters: Sequence[object], keys: Sequence[str]) -> bool:
        table = sql.split(" (", 1)[0].removeprefix("INSERT INTO ")
        if self.fetch(f"SELECT 1 FROM {table} WHERE {keys[0]} = ? AND {keys[1]} = ?", parameters[:2]):  # noqa: S608 - quoted identifiers
            return False
        try:
            self._execute(sql, parameters)
        except IntegrityError as error:
            raise TransientNodeError("Another attempt of this node is at the same work; this one has to wait for its end.") from error
        except SQLAlchemyError as error:
            raise self._failure(error) from error
        return True

    def _execute(self, sql: str, parameters: Sequence[object]) -> sa.CursorResult[Any]:
        """`?` become parameters of SQLAlchemy; statements without any are passed to the driver as they are."""
        if not parameters:
            return self._connection.exec_driver_sql(sql)
        pieces = sql.split("?")
        named = "".join(piece.replace(":", "\\:") + (f":p{number}" if number < len(parameters) else "") for number, piece in enumerate(pieces))
        return self._connection.execute(sa.text(named), {f"p{number}": value for number, value in enumerate(parameters)})

    def _do(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def _failure(self, error: SQLAlchemyError) -> NodeError:
        original = error.orig if isinstance(error, DBAPIError) and isinstance(error.orig, Exception) else error
        return complaints.of_write(original, self._place)

    # --- tables ---------------------------------------------------------------------------------------------------

    def exists(self, table: str) -> bool:
        parts = table_parts(table)
        return self._do(lambda: sa.inspect(self._connection).has_table(parts[-1], schema=self._schema(parts)))

    def describe(self, table: str) -> TargetTable | None:
        parts = table_parts(table)
        inspector = sa.inspect(self._connection)
        try:
            columns = tuple(_column(dict(one)) for one in inspector.get_columns(parts[-1], schema=self._schema(parts)))
        except NoSuchTableError:
            return None
        except SQLAlchemyError as error:
            raise self._failure(error) from error
        return TargetTable(table, ".".join(identifier(part, self.quotes) for part in parts), columns, (), parts)

    def _schema(self, parts: Sequence[str]) -> str | None:
        return ".".join(parts[:-1]) or None

    # --- rows -----------------------------------------------------------------------------------------------------

    def items(self, fits: Sequence[Fit]) -> list[str]:
        return [f"{_form(one)} AS {quote(one.target.name)}" for one in fits]

    def fill(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        columns: list[sa.ColumnClause[Any]] = [sa.column(one.target.name) for one in fits]
        table = sa.table(target.parts[-1], *columns, schema=self._schema(target.parts))
        keys = [f"v{number}" for number in range(len(fits))]
        insert = sa.insert(table).values({column: sa.bindparam(key) for column, key in zip(columns, keys, strict=True)})
        count = 0
        for batch in reader:
            for start in range(0, batch.num_rows, batch_size):
                rows = zip(*(column.to_pylist() for column in batch.slice(start, batch_size).columns), strict=True)
                given = [dict(zip(keys, row, strict=True)) for row in rows]
                self._do(lambda given=given: self._connection.execute(insert, given))  # type: ignore[misc]
                count += len(given)
        return count

    def lock(self, target: TargetTable) -> None:
        """There is no word for it that all databases know."""

    def clear(self, target: TargetTable, *, truncate: bool) -> None:
        self.execute(f"DELETE FROM {target.sql}")  # noqa: S608 - quoted identifiers

    def stage(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        """Never reached: `upserts` is False."""
        raise NotImplementedError

    def merge(self, target: TargetTable, fits: Sequence[Fit], keys: Sequence[str], *, repeated: bool) -> None:
        """Never reached: nothing can be staged."""

    # --- the end --------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        try:
            self._connection.commit()
        except SQLAlchemyError as error:
            original = error.orig if isinstance(error, DBAPIError) and isinstance(error.orig, Exception) else error
            raise complaints.of_commit(original, self._place) from error

    def rollback(self) -> None:
        try:
            self._connection.rollback()
        except SQLAlchemyError:
            return  # a connection that is gone has taken its transaction with it


def _column(about: dict[str, Any]) -> TargetColumn:
    kind = next((kind for base, kind in _KINDS if isinstance(about["type"], base)), None)
    given = about.get("default") is not None or about.get("autoincrement") is True or about.get("identity") is not None
    return TargetColumn(about["name"], str(about["type"]), kind, not about["nullable"] and not given, about.get("computed") is not None)


def _form(one: Fit) -> str:
    """DuckDB's expression for what drivers bind: numbers, dates, texts, bytes."""
    name, about = quote(one.source.name), kind_of(one.source.type)
    if one.target.kind == Kind.TEXT and about.kind not in (Kind.TEXT, Kind.JSON):
        return f"CAST({name} AS VARCHAR)"
    if about.kind == Kind.TIMESTAMP_TZ:
        return f"make_timestamp(epoch_us({name}))"
    if about.kind == Kind.TIMESTAMP:
        return f"CAST({name} AS TIMESTAMP)"
    if about.kind == Kind.JSON and one.source.type != "JSON":
        return f"CAST(to_json({name}) AS VARCHAR)"
    if about.kind in (Kind.UUID, Kind.INTERVAL, Kind.TEXT):
        return f"CAST({name} AS VARCHAR)"
    return name
