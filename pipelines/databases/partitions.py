"""Parts of a query that are read at the same time, each over a connection of its own, and passed on as one stream of rows."""

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from brokoli_site.common.errors import NodeError
from pipelines.databases.declaring import identifier
from pipelines.databases.opening import Opening
from pipelines.databases.places import Place
from pipelines.databases.queries import Bound, Statement
from pipelines.databases.streaming import Stream
from pipelines.nodes.base import NodeLogger

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of a column: below the first boundary (and NULL), between each two (the lower one included), from the last on."""

    column: str
    boundaries: tuple[Any, ...]

    def statements(self, query: Statement, dialect: str) -> list[Statement]:
        """A query for each range; together they give every row once."""
        name = "q." + identifier(self.column, dialect)
        edges = [None, *self.boundaries, None]
        return [_part(query, name, lower, upper) for lower, upper in pairwise(edges)]


def _part(query: Statement, name: str, lower: Any, upper: Any) -> Statement:
    parts: list[str | Bound] = ["SELECT * FROM (", *query.parts, "\n) AS q WHERE "]
    if lower is None:
        parts += [f"({name} IS NULL OR {name} < ", Bound(upper), ")"]
    elif upper is None:
        parts += [f"{name} >= ", Bound(lower)]
    else:
        parts += [f"{name} >= ", Bound(lower), f" AND {name} < ", Bound(upper)]
    return Statement(tuple(parts))


class Partitioned:
    """Reads parts in threads and gives their batches as they come. As a `Stream`, it is closed by whoever made it."""

    def __init__(self, place: Place, opening: Opening, parts: Sequence[Statement], most_at_once: int, log: NodeLogger) -> None:
        """Errors: `NodeError`, the stop's reason."""
        self._place, self._opening, self._log = place, opening, log
        self._first = Stream(place, opening, parts[0], log)
        self._parts, self._at_once = list(parts[1:]), most_at_once
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open = {self._first}
        # Two batches waiting for each reader: what is read ahead stays small however slow the destination is.
        self._waiting: queue.Queue[pa.RecordBatch | NodeError | None] = queue.Queue(2 * most_at_once)
        self.schema: pa.Schema = self._first.schema
        self.failure: NodeError | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def told(self, error: Exception) -> Exception:
        return self._opening.stop.reason or self.failure or error

    def close(self) -> None:
        """Let go of the database, also while readers are at work."""
        with self._lock:
            self._closed.set()
            left = tuple(self._open)
        for stream in left:
            stream.close()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        left = len(self._parts) + 1
        with ThreadPoolExecutor(self._at_once, "partition") as pool:
            try:
                pool.submit(self._pass_on, self._first)
                for part in self._parts:
                    pool.submit(self._read, part)
                while left:
                    found = self._waiting.get()
                    if found is None:
                        left -= 1
                    elif isinstance(found, NodeError):
                        self.failure = found
                        raise found
                    else:
                        yield found
            finally:
                self._closed.set()

    def _read(self, part: Statement) -> None:
        if self._closed.is_set():
            return
        try:
            stream = Stream(self._place, self._opening, part, self._log)
        except NodeError as error:
            self._put(error)
            return
        if not stream.schema.equals(self.schema):
            stream.close()
            self._put(NodeError("The parts of the query have columns of different types; cast them in the query, to NUMERIC(38, 9) for instance."))
            return
        with self._lock:
            self._open.add(stream)
        self._pass_on(stream)

    def _pass_on(self, stream: Stream) -> None:
        try:
            for batch in () if self._closed.is_set() else stream.reader():
                if not self._put(batch):
                    return
            self._put(None)
        except (NodeError, pa.ArrowException, OSError) as error:
            self._put(stream.failure or (error if isinstance(error, NodeError) else NodeError(str(error))))
        finally:
            stream.close()
            with self._lock:
                self._open.discard(stream)

    def _put(self, found: "pa.RecordBatch | NodeError | None") -> bool:
        """Whether somebody still waits for it."""
        while not self._closed.is_set():
            try:
                self._waiting.put(found, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False
