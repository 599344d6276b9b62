"""MySQL and MariaDB through PyMySQL: a socket of our own to the judged address, and rows that stream from an unbuffered cursor."""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pymysql
from pymysql.constants import CR
from pymysql.cursors import SSCursor

from brokoli_site.common.errors import NodeError
from pipelines.databases import failures, mysql_types
from pipelines.databases.interruption import Interruption, connected
from pipelines.databases.mysql_types import ColumnPlan, Skipped
from pipelines.databases.places import Place
from pipelines.databases.portions import LARGEST_VALUE, portion, texts_of
from pipelines.databases.queries import Bound, Statement
from pipelines.databases.reading import Reading, need_columns, renamed_note, unique
from pipelines.nodes.base import Stop
from pipelines.references import as_text

_CANCEL_SECONDS = 3
_CELLS = 200_000  # of a batch
_DriverErrors = (pymysql.Error, OSError, EOFError)
Connection: TypeAlias = "pymysql.Connection[Any]"


@contextmanager
def opened(place: Place, addresses: Sequence[str], stop: Stop, deadline: float) -> Iterator["MysqlDatabase"]:
    """The database while the block lasts. Errors: `NodeError`, the stop's reason."""
    connection, address = _connect(place, addresses, stop, deadline)
    interruption = Interruption(stop)
    interruption.arm(lambda: _kill(place, address, connection), lambda: _shut(connection))
    database = MysqlDatabase(place, connection, stop, interruption)
    try:
        yield database
    finally:
        interruption.close(database.close)


def _connect(place: Place, addresses: Sequence[str], stop: Stop, deadline: float) -> tuple[Connection, str]:
    """To the first address that answers."""
    failure: Exception = TimeoutError("timed out")
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return connected(lambda address=address, left=left: _open(place, address, left), stop, left, _close), address  # type: ignore[misc]
        except _DriverErrors as error:
            failure = error
    raise failures.of_connecting(failure, place) from failure


def _open(place: Place, address: str, seconds: float) -> Connection:
    connection: Connection = _Bounded(
        host=place.host,  # which TLS verifies; the socket below goes to the address
        port=place.port or 3306,
        user=place.login,
        password=place.password.encode(),
        database=place.database or None,
        charset=place.options.get("charset", "utf8mb4"),
        program_name=place.options.get("application_name", "brokoli"),
        connect_timeout=max(1, round(seconds)),
        conv=dict(mysql_types.DECODERS),
        autocommit=False,
        local_infile=False,
        defer_connect=True,
        **_tls(place),
    )
    opened_socket = socket.create_connection((address, place.port or 3306), timeout=max(seconds, 0.1))
    try:
        opened_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(opened_socket)
        connection.connect(opened_socket)
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
        _socket(connection).settimeout(None)
    except BaseException:
        opened_socket.close()
        raise
    return connection


class _Bounded(pymysql.Connection):
    """A server may send a row in packets without end, which PyMySQL would keep."""

    _left = LARGEST_VALUE

    def _read_packet(self, *arguments: Any, **options: Any) -> Any:
        self._left = LARGEST_VALUE
        return super()._read_packet(*arguments, **options)  # type: ignore[no-untyped-call]

    def _read_bytes(self, num_bytes: int) -> Any:
        self._left -= num_bytes
        if self._left < 0:
            self._force_close()  # type: ignore[attr-defined]
            raise pymysql.OperationalError(CR.CR_NET_PACKET_TOO_LARGE, f"A row is larger than {LARGEST_VALUE // 1024**2} MiB, the most that is read")
        return super()._read_bytes(num_bytes)  # type: ignore[misc]


def _tls(place: Place) -> dict[str, Any]:
    """libpq's words for it: https://www.postgresql.org/docs/current/libpq-ssl.html. Without any, TLS where the server has it."""
    mode = place.options.get("sslmode", "")
    if mode == "disable":
        return {"ssl_disabled": True}
    files = {"ssl_ca": place.options.get("sslrootcert"), "ssl_cert": place.options.get("sslcert"), "ssl_key": place.options.get("sslkey")}
    files = {name: path for name, path in files.items() if path}
    if mode in ("verify-ca", "verify-full"):
        return {**files, "ssl_verify_cert": True, "ssl_verify_identity": mode == "verify-full"}
    if mode == "require":
        return {**files, "ssl": {"verify_mode": "none"}} if not files else {**files, "ssl_verify_cert": "ssl_ca" in files}
    return files


def _keep_alive(opened_socket: socket.socket) -> None:
    opened_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, name):
            opened_socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _kill(place: Place, address: str, connection: Connection) -> None:
    """End the session on the server, which would otherwise finish a query that nobody waits for."""
    other = _open(place, address, _CANCEL_SECONDS)
    try:
        with other.cursor() as cursor:
            cursor.execute("KILL %s", (connection.thread_id(),))  # type: ignore[no-untyped-call]
    finally:
        _close(other)


def _socket(connection: Connection) -> socket.socket:
    found: socket.socket = connection._sock  # type: ignore[attr-defined]  # PyMySQL has no other way to it
    return found


def _shut(connection: Connection) -> None:
    _socket(connection).shutdown(socket.SHUT_RDWR)


def _close(connection: Connection) -> None:
    """At once: `close` would first read to the end of a result that nobody wants, and so would the result when it is forgotten."""
    inside: Any = connection
    if inside._result is not None:
        inside._result.unbuffered_active = False
    stream = inside._rfile
    for end in (lambda: _shut(connection), inside._force_close, *([stream.close] if stream is not None else [])):
        with contextlib.suppress(*_DriverErrors, AttributeError):
            end()


@dataclass(slots=True)
class MysqlDatabase:
    """An open MySQL or MariaDB database. `connection` is PyMySQL's, not in autocommit."""

    place: Place
    connection: Connection
    stop: Stop
    interruption: Interruption
    dialect: str = "mysql"
    _cursor: SSCursor | None = None

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.connection = None  # type: ignore[assignment]  # or it would read to the end
        _close(self.connection)

    def ping(self) -> str:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT version()")
                row = cursor.fetchone()
        except _DriverErrors as error:
            raise self._failure(error) from error
        version = str(row[0]) if row else ""
        return f"{'MariaDB' if 'mariadb' in version.lower() else 'MySQL'} {version.partition('-')[0]}"

    def read(self, statement: Statement) -> Reading:
        try:
            return self._read(statement)
        except _DriverErrors as error:
            raise self._failure(error) from error

    def _read(self, statement: Statement) -> Reading:
        self.connection.rollback()
        with self.connection.cursor() as first:
            first.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        cursor = self._cursor = self.connection.cursor(SSCursor)
        values = [_value(value) for value in statement.values]
        if values:
            cursor.execute(statement.render(_mark, _doubled), values)
        else:
            cursor.execute(statement.render(_mark))
        described = mysql_types.fields_of(cursor)
        need_columns([column.name for column in described])
        names = unique([column.name for column in described])
        skipped = Skipped()
        plans = [mysql_types.plan(name, column, skipped) for name, column in zip(names, described, strict=True)]
        schema = pa.schema([(plan.name, plan.type) for plan in plans])
        notes = [note for note in (renamed_note([column.name for column in described], names),) if note]
        return Reading(schema, self.interruption.reading(self._batches(cursor, plans, schema, skipped, notes)), notes)

    def _batches(
        self, cursor: SSCursor, plans: Sequence[ColumnPlan], schema: pa.Schema, skipped: Skipped, notes: list[str]
    ) -> Iterator[pa.RecordBatch]:
        size, texts = max(1, min(20_000, _CELLS // len(plans))), texts_of(schema)
        try:
            while rows := portion(cursor.fetchall_unbuffered(), size, texts):
                self.stop.check()
                yield pa.record_batch([plan.convert(column) for plan, column in zip(plans, zip(*rows, strict=True), strict=True)], schema=schema)
            self.stop.check()
        except _DriverErrors as error:
            raise self._failure(error) from error
        notes += skipped.notes()

    def _failure(self, error: Exception) -> NodeError:
        self.stop.check()
        if isinstance(error, OSError | EOFError):
            error = pymysql.OperationalError(CR.CR_SERVER_LOST, "Lost connection to the server during the query")
        return failures.of_query(error, self.place)


def _mark(number: int, bound: Bound) -> str:
    # DATE '…' takes a plain text alone; the function of the same name takes any value.
    return f"{bound.typed}(%s)" if bound.typed in ("DATE", "TIME", "TIMESTAMP") else "%s"


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


def _value(value: Any) -> Any:
    return as_text(value) if isinstance(value, dict | list) else value
