"""Whatever SQLAlchemy has a dialect and an installed driver for.

The host is resolved and judged, but the driver resolves it again: its address cannot be pinned here. `docs/databases.md` says so.
Types are those of the values in the first rows; a later value that does not fit them fails the node.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import URL, Connection, CursorResult, Engine, create_engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlglot.dialects.dialect import Dialects

from brokoli_site.common.errors import NodeError
from pipelines.databases import failures
from pipelines.databases.interruption import Interruption, connected
from pipelines.databases.places import Place
from pipelines.databases.queries import Bound, Statement
from pipelines.databases.reading import Reading, need_columns, renamed_note, unique
from pipelines.nodes.base import Stop
from pipelines.references import as_text

_ROWS = 5_000
_MARKS = {"qmark": "?", "format": "%s", "numeric": ":{}", "named": ":p{}", "pyformat": "%(p{})s", "numeric_dollar": "${}"}


@contextmanager
def opened(place: Place, stop: Stop, deadline: float) -> Iterator["GenericDatabase"]:
    """The database while the block lasts. Errors: `NodeError`, the stop's reason."""
    engine = _engine(place)
    try:
        connection = connected(engine.connect, stop, max(0.1, deadline - time.monotonic()), lambda made: made.close())
    except (SQLAlchemyError, TimeoutError, OSError) as error:
        raise failures.of_connecting(_driver_error(error), place) from error
    interruption = Interruption(stop)
    interruption.arm(lambda: _cancel(connection), None)
    database = GenericDatabase(place, connection, stop, interruption, dialect_of(place))
    try:
        yield database
    finally:
        interruption.close(database.close)


def dialect_of(place: Place) -> str:
    """sqlglot's name of the dialect; "" (its own) for one that it does not know."""
    if place.kind != "generic":
        return place.kind
    name = {"postgresql": "postgres", "mssql": "tsql", "mariadb": "mysql", "awsathena": "athena"}.get(place.system, place.system)
    return name if name in {one.value for one in Dialects} else ""


def _engine(place: Place) -> Engine:
    """Errors: `NodeError` for a dialect that SQLAlchemy does not know, or whose driver is not installed."""
    url = URL.create(place.driver, place.login or None, place.password or None, place.host, place.port, place.database or None, dict(place.options))
    try:
        return create_engine(url, poolclass=NullPool)
    except (NoSuchModuleError, ImportError) as error:
        raise NodeError(f"There is no driver for {place.driver} on this server; an operator can install one for SQLAlchemy.") from error
    except (ArgumentError, TypeError, ValueError) as error:
        raise NodeError(f"{place.driver} cannot be used with what {place.label} says.") from error


def _cancel(connection: Connection) -> None:
    """As far as the driver can: a method `cancel` (psycopg, oracledb, …), or the end of the connection."""
    driver: Any = connection.connection.driver_connection
    (getattr(driver, "cancel", None) or driver.close)()


def _driver_error(error: Exception) -> Exception:
    return error.orig if isinstance(error, DBAPIError) and isinstance(error.orig, Exception) else error


@dataclass(slots=True)
class GenericDatabase:
    """An open database. `connection` is SQLAlchemy's."""

    place: Place
    connection: Connection
    stop: Stop
    interruption: Interruption
    dialect: str

    def close(self) -> None:
        for end in (self.connection.rollback, self.connection.close):
            with contextlib.suppress(SQLAlchemyError, OSError):
                end()
        self.connection.engine.dispose()

    def ping(self) -> str:
        version = ".".join(str(part) for part in self.connection.dialect.server_version_info or ())
        return f"{self.place.system} {version}".strip()

    def read(self, statement: Statement) -> Reading:
        try:
            return self._read(statement)
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def _read(self, statement: Statement) -> Reading:
        """Nothing is ever committed here, which is all that can be said of a database that is not known better."""
        self.connection.rollback()
        streaming = self.connection.execution_options(stream_results=True, max_row_buffer=_ROWS)
        style = self.connection.dialect.paramstyle
        escaped = style in ("format", "pyformat") and bool(statement.values)
        sql = statement.render(lambda number, bound: _mark(style, number, bound), _doubled if escaped else str)
        result = streaming.exec_driver_sql(sql, _parameters(style, statement.values)) if statement.values else streaming.exec_driver_sql(sql)
        described = [str(column[0]) for column in (result.cursor.description or ())] if result.cursor is not None else []
        need_columns(described)
        names = unique(described)
        first = _columns(names, [tuple(row) for row in result.fetchmany(_ROWS)])
        schema = pa.schema([(name, _widened(column.type)) for name, column in zip(names, first, strict=True)])
        notes = [note for note in (renamed_note(described, names),) if note]
        return Reading(schema, self.interruption.reading(self._batches(result, first, schema)), notes)

    def _batches(self, result: CursorResult[Any], first: Sequence[pa.Array], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([_cast(column, field) for column, field in zip(first, schema, strict=True)], schema=schema)
        try:
            while rows := result.fetchmany(_ROWS):
                self.stop.check()
                columns = zip(*(tuple(row) for row in rows), strict=True)
                yield pa.record_batch([_array(column, field) for column, field in zip(columns, schema, strict=True)], schema=schema)
            self.stop.check()
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> NodeError:
        self.stop.check()
        return failures.of_query(_driver_error(error), self.place)


def _mark(style: str, number: int, bound: Bound) -> str:
    mark = _MARKS[style].format(number)
    return f"CAST({mark} AS {bound.typed})" if bound.typed else mark


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


def _parameters(style: str, values: Sequence[Any]) -> Any:
    plain = [as_text(value) if isinstance(value, dict | list) else value for value in values]
    return {f"p{number}": value for number, value in enumerate(plain, start=1)} if style in ("named", "pyformat") else tuple(plain)


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[pa.Array]:
    """The first rows, with the types that their values have; text where there are none."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    found = []
    for name, values in zip(names, columns, strict=True):
        try:
            column = pa.array(values)
        except (pa.ArrowException, TypeError) as error:
            raise NodeError(f"Column '{name}' holds values of several kinds, or of a kind that is not known here; cast it in the query.") from error
        found.append(column.cast(pa.string()) if pa.types.is_null(column.type) else column)
    return found


def _widened(kind: pa.DataType) -> pa.DataType:
    """Decimals with room for later ones: as many digits before the point as there can be."""
    return pa.decimal128(38, kind.scale) if pa.types.is_decimal(kind) and kind.precision <= 38 else kind


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise NodeError(
            f"Column '{field.name}' was {field.type} in the first rows, and a later value is not: {str(error)[:200]}. Cast it in the query."
        ) from error


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    return column if column.type == field.type else column.cast(field.type)
