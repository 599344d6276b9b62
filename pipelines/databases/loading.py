"""Rows into a table, in one transaction: all of them are there afterwards, once, or none is.

    with target as session:
        count = load(session, Load("sales.orders", "append", mark=Mark(origin_id, node_id)), rows, stop, log)

The order of things is the same for every database; `Session` is what one of them has to be able to do. What must not happen twice is
written down in the target itself (`ledger.py`), in the transaction that writes the rows: whoever asks again, because the answer to
COMMIT was lost or a worker died after it, finds it there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import duckdb
import pyarrow as pa

from brokoli_site.common.errors import NodeError
from pipelines.databases import ledger
from pipelines.databases.declaring import declared, identifier, spelled, table_parts
from pipelines.databases.fitting import Fit, TargetColumn, fit, missing_keys
from pipelines.databases.ledger import Mark
from pipelines.expressions import quote
from pipelines.nodes.base import NodeLogger, Schema, Stop

Mode = Literal["append", "overwrite", "upsert"]
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be done. `mark` names an append that must happen once; None where a repetition does no harm."""

    table: str
    mode: Mode = "append"
    keys: tuple[str, ...] = ()  # of an upsert
    create_table: bool = False
    truncate: bool = False  # clear with TRUNCATE where that belongs to the transaction
    mark: Mark | None = None
    batch_size: int = 5000  # rows of one statement, where rows go in statements


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows to load: a view or table of a DuckDB connection, read once. `total` is their number where it is known."""

    connection: duckdb.DuckDBPyConnection
    view: str
    schema: Schema
    total: int | None = None

    def reader(self, items: Sequence[str]) -> pa.RecordBatchReader:
        """The rows as Arrow, streamed; `items` are SQL expressions over the view's columns, each with its name."""
        query = f"SELECT {', '.join(items)} FROM {quote(self.view)}"  # noqa: S608 - quoted identifiers
        return self.connection.sql(query).to_arrow_reader(_ROWS_AT_ONCE)


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A table as its database describes it. `unique` are the sets of columns that a unique index covers."""

    name: str  # as people wrote it
    sql: str  # quoted, as its database finds it again
    columns: tuple[TargetColumn, ...]
    unique: tuple[frozenset[str], ...] = ()
    parts: tuple[str, ...] = ()
    refusal: str = ""  # why nothing can be loaded into it


class Session(Protocol):
    """A connection to one database, for one load. All that it does until `commit` is one transaction. Errors of all: `NodeError`."""

    system: str  # what people call it: `PostgreSQL`
    dialect: str  # one of `declaring.declared`
    quotes: str  # sqlglot's dialect for identifiers
    latest: str  # added to a SELECT that has to see what others committed a moment ago
    upserts: bool  # can it?
    one_writer: bool  # is a transaction that writes the only one?
    transactional_ddl: bool  # does CREATE TABLE belong to the transaction?

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Execute one statement, its values bound to `?`; the number of rows that it changed, -1 where that is not known."""

    def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...
    def insert_if_new(self, sql: str, parameters: Sequence[object], keys: Sequence[str]) -> bool:
        """Execute an INSERT of one row; whether there was none with its `keys`. Waits for the end of a rival that is inserting it."""

    def describe(self, table: str) -> TargetTable | None:
        """The table as it is now; None where there is none."""

    def exists(self, table: str) -> bool: ...
    def items(self, fits: Sequence[Fit]) -> list[str]:
        """DuckDB expressions that give the columns in types that `fill` passes on as they are."""

    def fill(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        """Add the rows to the table; how many."""

    def lock(self, target: TargetTable) -> None:
        """Let nobody else write to the table until the end; readers go on reading what there was."""

    def clear(self, target: TargetTable, *, truncate: bool) -> None:
        """Remove every row, as a part of the transaction."""

    @property
    def staging(self) -> str:
        """The name of the table for `stage`, quoted."""

    def stage(self, target: TargetTable, fits: Sequence[Fit], reader: pa.RecordBatchReader, batch_size: int) -> int:
        """Keep the rows in a temporary table that goes with the transaction or the session; how many."""

    def merge(self, target: TargetTable, fits: Sequence[Fit], keys: Sequence[str], *, repeated: bool) -> None:
        """Insert the staged rows, or update those whose keys are there. Of rows with one key (`repeated`) the last one counts."""

    def commit(self) -> None:
        """Errors: `TransientNodeError` when the connection broke before the answer came."""

    def rollback(self) -> None: ...


@dataclass(slots=True)
class Progress:
    """Passes batches on, looks whether to stop, and tells how far it is."""

    stop: Stop
    log: NodeLogger
    total: int | None
    told_every: int = 200_000
    done: int = 0
    failure: Exception | None = None
    _told: int = field(default=0, init=False)

    def watched(self, reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(reader.schema, self._batches(reader))

    def _noticed(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            for batch in reader:
                self.stop.check()
                yield batch
        except (NodeError, duckdb.Error) as error:
            self.failure = error
            raise
        except (OSError, pa.ArrowException) as error:
            self.failure = _of_rows(error)
            raise self.failure from error

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in self._noticed(reader):
            yield batch
            self.done += batch.num_rows
            if self.done - self._told >= self.told_every:
                self._told = self.done
                self.log.progress(min(1.0, self.done / self.total) if self.total else 0.0, f"{self.done} rows")


def _of_rows(error: Exception) -> Exception:
    """DuckDB's complaint about the rows, which arrives as one of Arrow's."""
    kind, _, words = str(error).partition(": ")
    found = {"Out of Memory Error": duckdb.OutOfMemoryException, "IO Error": duckdb.IOException, "INTERRUPT Error": duckdb.InterruptException}.get(
        kind
    )
    if found is not None:
        return found(str(error))
    if kind in ("Conversion Error", "Invalid Input Error"):
        return NodeError(f"A value does not fit the type of its column in the table: {words.splitlines()[0].rstrip('.')}.")
    return NodeError(f"The rows cannot be read: {str(error).splitlines()[0]}")


def load(session: Session, what: Load, rows: Rows, stop: Stop, log: NodeLogger) -> int:
    """Load the rows and commit; how many were written, by this attempt or an earlier one. On any error nothing is written.

    Errors: `NodeError` for a table that is not there or does not fit, a rule of the table that a row breaks, a lost connection; the stop's reason.
    """
    progress = Progress(stop, log, rows.total)
    try:
        return at_once(
            session, what.mark, what.table, lambda: _load(session, what, rows, progress, log), stop, log, lambda: _prepare(session, what, rows, log)
        )
    except NodeError as error:
        if stop.reason is None and progress.failure is not None:
            # What went wrong with the rows on their way came back in the words of the driver that asked for them.
            raise progress.failure from error
        raise


def at_once(
    session: Session, mark: Mark | None, target: str, act: Callable[[], int], stop: Stop, log: NodeLogger, prepare: Callable[[], None]
) -> int:
    """`prepare`, `act` and commit, or roll back; but where the ledger knows the mark already: the number that `act` gave then."""
    try:
        if mark is not None:
            ledger.ensure(session, mark)
        prepare()
        before = None if mark is None else ledger.claim(session, mark, target)
        if before is not None:
            log.info(f"An earlier attempt has written these rows ({before}) already.")
            session.rollback()
            return before
        count = act()
        if mark is not None:
            ledger.fill_in(session, mark, count)
        stop.check()
        session.commit()
    except BaseException:
        session.rollback()
        stop.check()  # a stop breaks connections off; their complaints are not the reason
        raise
    return count


def _prepare(session: Session, what: Load, rows: Rows, log: NodeLogger) -> None:
    """Create the table where that is wanted and needed."""
    if what.create_table and not session.exists(what.table):
        session.execute(creation(session, what.table, rows.schema, what.keys))
        if not session.transactional_ddl:
            session.commit()
        log.info(f"Created table '{what.table}'")


def _load(session: Session, what: Load, rows: Rows, progress: Progress, log: NodeLogger) -> int:
    target = existing(session, what.table)
    fits = fit(session.system, target.name, target.columns, rows.schema)
    reader = progress.watched(rows.reader(session.items(fits)))
    if what.mode == "upsert":
        if not session.upserts:
            raise NodeError(f"An upsert into {session.system} is not possible here. Append to a table of its own, and merge it there.")
        check_keys(session, target, fits, what.keys)
        count = session.stage(target, fits, reader, what.batch_size)
        return _merge(session, target, fits, _named(fits, what.keys), count, log)
    if what.mode == "overwrite":
        session.lock(target)
        session.clear(target, truncate=what.truncate)
    return session.fill(target, fits, reader, what.batch_size)


def _merge(session: Session, target: TargetTable, fits: Sequence[Fit], keys: Sequence[str], count: int, log: NodeLogger) -> int:
    """The staged rows into the table. Errors: `NodeError` for a key that is NULL."""
    names = [identifier(key, session.quotes) for key in keys]
    empty = " OR ".join(f"{name} IS NULL" for name in names)
    ((nulls,),) = session.fetch(f"SELECT count(*) FROM {session.staging} WHERE {empty}")  # noqa: S608 - quoted identifiers
    if nulls:
        raise NodeError(f"{nulls} rows have no value in the key ({', '.join(keys)}), so nothing says which row they update. Filter them out before.")
    grouped = f"SELECT 1 AS one FROM {session.staging} GROUP BY {', '.join(names)}"  # noqa: S608 - quoted identifiers
    ((distinct,),) = session.fetch(f"SELECT count(*) FROM ({grouped}) AS grouped")  # noqa: S608 - quoted identifiers
    repeated = count - int(str(distinct))
    if repeated:
        log.warning(f"{repeated} rows have the key of a later row; of each key the last row is kept.")
    session.merge(target, fits, keys, repeated=repeated > 0)
    return count - repeated


def existing(session: Session, table: str) -> TargetTable:
    """Errors: `NodeError` where there is no such table, or it is none that can be loaded."""
    target = session.describe(table)
    if target is None:
        raise NodeError(f"There is no table '{table}'. Create it, correct the name, or set create_table to true.")
    if target.refusal:
        raise NodeError(target.refusal)
    return target


def creation(session: Session, table: str, schema: Schema, keys: Sequence[str]) -> str:
    """The statement that creates a table for these columns."""
    wanted = {key.casefold() for key in keys}
    types = [declared(session.dialect, c.type, key=c.name.casefold() in wanted) for c in schema]
    if session.dialect == "generic":
        types = [spelled(one, session.quotes) for one in types]
    lines = [f"{identifier(c.name, session.quotes)} {one}" for c, one in zip(schema, types, strict=True)]
    names = [identifier(c.name, session.quotes) for c in schema if c.name.casefold() in wanted]
    if names:
        lines.append(f"PRIMARY KEY ({', '.join(names)})")
    name = ".".join(identifier(part, session.quotes) for part in table_parts(table))
    return f"CREATE TABLE {name} ({', '.join(lines)})"


def check_keys(session: Session, target: TargetTable, fits: Sequence[Fit], keys: Sequence[str]) -> None:
    """Errors: `NodeError` for keys that the input or the table lacks, without a unique index, or that are NULL."""
    missing_keys(target.name, fits, keys)
    named = _named(fits, keys)
    if frozenset(named) not in target.unique:
        columns = ", ".join(identifier(name, session.quotes) for name in named)
        raise NodeError(
            f"'{target.name}' has no unique index on ({', '.join(named)}), so nothing says which row an upsert is to update. "
            f"Create one: CREATE UNIQUE INDEX ON_KEYS ON {target.sql} ({columns});".replace(
                "ON_KEYS", identifier(_index_name(target, named), session.quotes)
            )
        )


def _index_name(target: TargetTable, keys: Sequence[str]) -> str:
    return "_".join((table_parts(target.name)[-1], *keys, "key"))[:60]


def _named(fits: Sequence[Fit], keys: Sequence[str]) -> list[str]:
    """The keys as the table spells them."""
    spelled: Mapping[str, str] = {fit.source.name.casefold(): fit.target.name for fit in fits}
    return [spelled[key.casefold()] for key in keys]
