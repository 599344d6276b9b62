"""PostgreSQL through ADBC: a COPY in binary that arrives as Arrow.

libpq gets the judged address as `hostaddr` and the name as `host`, which TLS verifies. What it would otherwise look up on its own (a
password file, a service, client certificates in the account's home) is turned off. Referenced values travel as bound parameters of
`set_config`, because COPY takes none, and the query reads them with `current_setting`, cast to the types that the server inferred.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from brokoli_site.common.errors import NodeError
from pipelines.databases import failures, postgres_types
from pipelines.databases.interruption import Interruption, connected, own_sockets
from pipelines.databases.places import Place
from pipelines.databases.postgres_types import ColumnPlan
from pipelines.databases.queries import Bound, Statement
from pipelines.databases.reading import Reading, need_columns, renamed_note, unique
from pipelines.expressions import quote
from pipelines.nodes.base import Stop
from pipelines.references import as_text

_SETTING = "brokoli.reference_"
_PROBE = "brokoli_reference_types"
_CERTIFICATES = frozenset({"sslcert", "sslkey"})
_DriverErrors = (adbc_driver_manager.Error, pa.ArrowException, OSError)


@contextmanager
def opened(place: Place, addresses: Sequence[str], stop: Stop, deadline: float) -> Iterator["PostgresDatabase"]:
    """The database while the block lasts. Errors: `NodeError`, the stop's reason."""
    connection, shut = _connect(place, addresses, stop, deadline)
    interruption = Interruption(stop)
    interruption.arm(connection.adbc_cancel, shut)
    database = PostgresDatabase(place, connection, stop, interruption)
    try:
        database.set_up()
        yield database
    finally:
        interruption.close(database.close, unread=database.is_reading)


def _connect(place: Place, addresses: Sequence[str], stop: Stop, deadline: float) -> tuple[dbapi.Connection, Any]:
    """To the first address that answers."""
    failure: Exception = TimeoutError("timeout expired")
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        with own_sockets(address, place.port or 0) as find:
            try:
                info = conninfo(place, address, left)
                connection = connected(lambda info=info: dbapi.connect(info), stop, left, lambda made: made.close())  # type: ignore[misc]
            except (*_DriverErrors, TimeoutError) as error:
                failure = error
            else:
                return connection, find(_local_port(connection))
    raise failures.of_connecting(failure, place) from failure


def conninfo(place: Place, address: str, seconds: float) -> str:
    """What libpq is told; its own quoting."""
    given: dict[str, Any] = {
        "host": place.host,
        "hostaddr": address.partition("%")[0],
        "port": place.port,
        "user": place.login or "postgres",
        "password": place.password,
        "dbname": place.database or place.login or "postgres",
        "application_name": "brokoli",
        # Nothing of the account that the worker runs under.
        "passfile": "/dev/null",
        "gssencmode": "disable",
        "client_encoding": "UTF8",
        # A server that vanished is noticed within half a minute, also in the middle of a long query.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    if not place.options.keys() & _CERTIFICATES:
        given["sslcertmode"] = "disable"
    return make_conninfo("", **given | dict(place.options) | {"connect_timeout": max(2, round(seconds))})


def _local_port(connection: dbapi.Connection) -> int | None:
    with contextlib.suppress(*_DriverErrors), connection.cursor() as cursor:
        cursor.execute("SELECT inet_client_port()")
        row = cursor.fetchone()
        connection.rollback()
        return None if row is None else row[0]
    return None


@dataclass(slots=True)
class PostgresDatabase:
    """An open PostgreSQL database. `connection` is ADBC's, not in autocommit."""

    place: Place
    connection: dbapi.Connection
    stop: Stop
    interruption: Interruption
    dialect: str = "postgres"
    _cursor: dbapi.Cursor | None = None
    _is_read: bool = False

    def close(self) -> None:
        for end in (*((self._cursor.close,) if self._cursor is not None else ()), self.connection.close):
            with contextlib.suppress(*_DriverErrors):
                end()

    @property
    def is_reading(self) -> bool:
        """Whether the server may still be sending rows."""
        return self._cursor is not None and not self._is_read

    def set_up(self) -> None:
        """A backslash is a character like any other, whatever the server's setting: so our texts are quoted. Errors: `NodeError`."""
        try:
            self._execute("SET standard_conforming_strings = on")
            self.connection.commit()
        except _DriverErrors as error:
            raise self._failure(error) from error

    def ping(self) -> str:
        try:
            return str(self._one("SELECT version()")).partition(" on ")[0]
        except _DriverErrors as error:
            raise self._failure(error) from error

    def read(self, statement: Statement) -> Reading:
        try:
            return self._read(statement)
        except _DriverErrors as error:
            raise self._failure(error) from error

    def _read(self, statement: Statement) -> Reading:
        self.connection.rollback()
        self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        sql = self._with_settings(statement)
        fields = self._schema(sql)
        need_columns([field.name for field in fields])
        plans = self._plans(sql, fields)
        names = unique([field.name for field in fields])
        cursor = self._cursor = self.connection.cursor()
        cursor.execute(_selected(sql, plans) if any(plan.sql for plan in plans) else sql)
        reader = cursor.fetch_record_batch()
        schema = pa.schema([(name, plan.type) for name, plan in zip(names, plans, strict=True)])
        notes = [note for note in (renamed_note([field.name for field in fields], names), *(plan.note for plan in plans)) if note]
        return Reading(schema, self.interruption.reading(self._batches(reader, plans, schema)), notes)

    def _batches(self, reader: pa.RecordBatchReader, plans: Sequence[ColumnPlan], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                self.stop.check()
                yield pa.record_batch([plan.convert(column) for plan, column in zip(plans, batch.columns, strict=True)], schema=schema)
            self._is_read = True
            self.stop.check()
        except _DriverErrors as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> NodeError:
        self.stop.check()
        return postgres_types.explained(error) or failures.of_query(error, self.place)

    # --- values -------------------------------------------------------------------------------------------------------

    def _with_settings(self, statement: Statement) -> str:
        """The query's text, whose values wait in settings of the transaction."""
        if not statement.values:
            return statement.render(_no_mark)
        self._execute(f"PREPARE {_PROBE} AS " + statement.render(lambda number, bound: _typed(f"${number}", bound)))
        types = self._one(f"SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = '{_PROBE}'")  # noqa: S608 - our own name
        self._execute(f"DEALLOCATE {_PROBE}")
        for number, value in enumerate(statement.values, start=1):
            self._one("SELECT set_config($1, $2, true)", (f"{_SETTING}{number}", _text(value)))

        def mark(number: int, bound: Bound) -> str:
            setting = "NULL" if bound.value is None else f"current_setting('{_SETTING}{number}')"
            return _typed(f"CAST({setting} AS {types[number - 1]})", bound)

        return statement.render(mark)

    # --- columns ------------------------------------------------------------------------------------------------------

    def _schema(self, sql: str) -> list[pa.Field]:
        with self.connection.cursor() as cursor:
            return list(cursor.adbc_execute_schema(sql))

    def _plans(self, sql: str, fields: Sequence[pa.Field]) -> list[ColumnPlan]:
        open_ended = [number for number, field in enumerate(fields) if postgres_types.is_open_ended(field)]
        measured = dict(zip(open_ended, self._measure(sql, len(fields), open_ended), strict=True)) if open_ended else {}
        return [postgres_types.plan(field, measured.get(number)) for number, field in enumerate(fields)]

    def _measure(self, sql: str, count: int, numbers: Sequence[int]) -> list[tuple[int, int, int]]:
        """Of NUMERIC columns without a declared precision: most digits after and before the point, and how many are no numbers."""
        items = []
        for number in numbers:
            name = f"c{number}"
            items += [
                f"max(scale({name}))",
                f"max(length(trunc(abs({name}))::text)) FILTER (WHERE scale({name}) IS NOT NULL)",
                f"count(*) FILTER (WHERE {name} IS NOT NULL AND scale({name}) IS NULL)",
            ]
        row = self._row(f"SELECT {', '.join(items)} FROM ({sql}\n) AS q({_aliases(count)})")  # noqa: S608 - our own names around the user's query
        return [(row[index] or 0, row[index + 1] or 0, row[index + 2]) for index in range(0, len(row), 3)]

    # --- asking -------------------------------------------------------------------------------------------------------

    def _execute(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def _row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters) if parameters else cursor.execute(sql)
            row = cursor.fetchone()
        assert row is not None
        return tuple(row)

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self._row(sql, parameters)[0]


def _no_mark(number: int, bound: Bound) -> str:
    raise AssertionError("a statement without values has no marks")


def _typed(shown: str, bound: Bound) -> str:
    return f"CAST({shown} AS {bound.typed})" if bound.typed else shown


def _text(value: Any) -> str:
    """Errors: `NodeError` for what PostgreSQL's texts cannot hold."""
    text = as_text(value)
    if "\x00" in text:
        raise NodeError("A value of the query holds a character NUL, which PostgreSQL does not take.")
    return text


def _aliases(count: int) -> str:
    return ", ".join(f"c{number}" for number in range(count))


def _selected(sql: str, plans: Sequence[ColumnPlan]) -> str:
    items = ", ".join(f"{(plan.sql or '{}').format(f'c{number}')} AS {quote(f'c{number}')}" for number, plan in enumerate(plans))
    return f"SELECT {items} FROM ({sql}\n) AS q({_aliases(len(plans))})"  # noqa: S608 - our own names around the user's query
