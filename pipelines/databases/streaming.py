"""A query's rows on their way into the data engine: one batch after the other, never the whole."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import duckdb
import pyarrow as pa

from brokoli_site.common.errors import NodeError
from pipelines.databases.opening import Opening, opened
from pipelines.databases.places import Place
from pipelines.databases.queries import Statement
from pipelines.nodes.base import Column, NodeContext, NodeLogger, Query, Schema

PROGRESS_SECONDS = 10.0
VIEW = "rows_read"


class Stream:
    """Rows that are read while they are asked for. The database is open from here on until the last row, `close`, or oblivion."""

    def __init__(self, place: Place, opening: Opening, statement: Statement, log: NodeLogger) -> None:
        """Errors: `NodeError`, the stop's reason."""
        self.row_count = 0
        self.failure: NodeError | None = None  # what a consumer that swallows Python's errors should raise
        self._log, self._stop = log, opening.stop
        self._is_closed, self._lock = False, threading.Lock()
        self._cleanup = ExitStack()
        try:
            self._reading = self._cleanup.enter_context(opened(place, opening)).read(statement)
        except BaseException:
            self.close()
            raise
        self.schema: pa.Schema = self._reading.schema

    def reader(self) -> pa.RecordBatchReader:
        """All the rows, once."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def first(self, count: int) -> pa.Table:
        """The first rows. The stream is closed then."""
        kept: list[pa.RecordBatch] = []
        for batch in self._batches():
            kept.append(batch.slice(0, count - sum(one.num_rows for one in kept)))
            if sum(one.num_rows for one in kept) >= count:
                break
        self.close()
        return pa.Table.from_batches(kept, self.schema)

    def close(self) -> None:
        """Let go of the database, also while another thread reads. May be called again."""
        with self._lock:
            self._is_closed = True
            cleanup = self._cleanup.pop_all()
        # A session that ends while its query does complains; the rows are there, or the reason why not is known.
        with suppress(NodeError):
            cleanup.close()

    def told(self, error: Exception) -> Exception:
        """What to raise where a consumer failed with `error`: the stop's reason, or what went wrong on this side."""
        return self._stop.reason or self.failure or error

    def _batches(self) -> Iterator[pa.RecordBatch]:
        began = told = time.monotonic()
        try:
            for batch in self._reading.batches:
                self._stop.check()
                self.row_count += batch.num_rows
                if (now := time.monotonic()) - told >= PROGRESS_SECONDS:
                    told = now
                    self._log.info(f"{self.row_count:,} rows read so far ({self.row_count / (now - began):,.0f} rows/s)")
                yield batch
            for note in self._reading.notes:
                self._log.warning(note)
        except NodeError as error:
            if not self._is_closed:  # or that is all it says
                self.failure = error
            raise
        finally:
            self.close()


def query_of(stream: Stream, context: NodeContext) -> Query:
    """The stream as what a node returns. It is closed where there is nothing to return: a stop interrupts the data engine here, too."""
    try:
        context.connection.register(VIEW, stream.reader())
    except BaseException:
        stream.close()
        raise

    def recover(error: duckdb.Error) -> Query:
        context.connection.unregister(VIEW)
        raise stream.told(error)

    return Query(f"SELECT * FROM {VIEW}", recover=recover, close=stream.close)  # noqa: S608 - our own name


def schema_in(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> Schema:
    """The columns as DuckDB will call their types."""
    described = connection.from_arrow(schema.empty_table())
    return tuple(Column(name, str(kind)) for name, kind in zip(described.columns, described.types, strict=True))
