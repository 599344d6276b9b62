"""Writes what a node returned to an artifact, and says what was written."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from brokoli_site.common.errors import NodeError
from pipelines.column_lineage import Facts, TracedInput, facts_of
from pipelines.expressions import literal, quote
from pipelines.nodes.base import NOT_FOR_NODES, Input, Query, Stop
from runs import preview, profile
from runs.artifacts import relation

# Measured (docs/performance.md): Parquet's second version writes a fifth faster than the first and reads a third faster;
# Snappy costs next to nothing. `USE_TMP_FILE false`: the draft is our own business, and the sandbox may not rename.
_FORMAT = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION snappy, USE_TMP_FILE false, RETURN_STATS"
# Parquet has no 128-bit integers: DuckDB would write them as DOUBLE and round. `sum` of any integer column gives one.
_WIDE = frozenset({"HUGEINT", "UHUGEINT"})


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What a run registers of an output; every part is safe for JSON. `schema` is `[{name, type}]` in column order."""

    artifact: str
    row_count: int
    byte_count: int
    schema: list[dict[str, str]]
    preview: dict[str, Any]
    profile: dict[str, Any]
    lineage: Facts | None = None


def write(
    target: AbstractContextManager[Path],
    connection: DuckDBPyConnection,
    query: Query,
    key: str,
    stop: Stop,
    *,
    narrow: bool,
    inputs: Sequence[Input] = (),
) -> OutputFacts:
    """Run `query`, keep its rows as the artifact `key` (whose draft `target` is), and measure them. `narrow`: look for 128-bit integers first.

    `inputs` are those that the query reads by their views, for its lineage.

    Errors: `duckdb.Error`, `OSError`, the stop's reason.
    """
    with target as draft:
        reported, query = _copy_or_recover(connection, query, Attempts(draft), narrow=narrow)
        stop.check()
        row_count, byte_count, statistics = int(reported["count"]), int(reported["file_size_bytes"]), reported["column_statistics"]
        source = relation(draft)
        types = preview.types_of(connection, source)
        known = profile.statistics(statistics, [name for name, _ in types], row_count)
        sample = preview.sample(connection, source, types)
        shown = sample.shown(row_count)
        measured = profile.measure(connection, source, row_count, known, sample, shown)
        stop.check()
    schema = [{"name": name, "type": str(kind)} for name, kind in types]
    return OutputFacts(key, row_count, byte_count, schema, shown, measured, _lineage(query, inputs, [name for name, _ in types]))


def _lineage(query: Query, inputs: Sequence[Input], columns: Sequence[str]) -> Facts | None:
    """Nothing is told of what has no inputs here: a source's columns come from outside."""
    return facts_of(query.sql, [TracedInput(one.view, one.node_id, one.schema) for one in inputs], columns) if inputs else None


@dataclass(slots=True)
class Attempts:
    """A path for each attempt to write one file. DuckDB removes what a failed COPY wrote, and may do so after it has said that it failed:
    one of its threads lets go of it last, while the next attempt is under way. So none gets the path of another.
    """

    target: Path
    made: int = 0

    @contextmanager
    def path(self) -> Iterator[Path]:
        """To be written to; it becomes the target when the block ends well."""
        self.made += 1
        path = self.target.with_suffix(f".{self.made}{self.target.suffix}")
        try:
            yield path
            path.replace(self.target)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _copy_or_recover(connection: DuckDBPyConnection, query: Query, attempts: Attempts, *, narrow: bool) -> tuple[dict[str, Any], Query]:
    """What DuckDB reports, and the query that it ran in the end."""
    while True:
        try:
            return _copy(connection, query, attempts, narrow=narrow), query
        except NOT_FOR_NODES:
            raise
        except duckdb.Error as error:
            if query.recover is None:
                raise
            query = query.recover(error)


def _copy(connection: DuckDBPyConnection, query: Query, attempts: Attempts, *, narrow: bool) -> dict[str, Any]:
    """Errors: `duckdb.Error`."""
    wide = _wide_columns(connection, query) if narrow else []
    try:
        return _copy_as(connection, query, attempts, wide, "BIGINT")
    except duckdb.ConversionException:
        if not wide:
            raise
        # A sum beyond 64 bits: 38 digits hold it exactly. (Any other failed conversion fails here again.)
        return _copy_as(connection, query, attempts, wide, "DECIMAL(38, 0)")


def _copy_as(connection: DuckDBPyConnection, query: Query, attempts: Attempts, wide: list[str], kind: str) -> dict[str, Any]:
    casts = ", ".join(f"CAST({quote(name)} AS {kind}) AS {quote(name)}" for name in wide)
    sql = f"SELECT * REPLACE ({casts}) FROM ({query.sql})" if wide else query.sql  # noqa: S608 - quoted identifiers
    with attempts.path() as path:
        result = connection.execute(f"COPY ({sql}) TO {literal(str(path))} ({_FORMAT})", query.parameters)
        names = [column[0] for column in result.description or ()]
        row = result.fetchone()
        if row is None:
            raise NodeError("The data engine wrote no output.")
    return dict(zip(names, row, strict=True))


def _wide_columns(connection: DuckDBPyConnection, query: Query) -> list[str]:
    return [row[0] for row in connection.execute(f"DESCRIBE {query.sql}", query.parameters).fetchall() if row[1] in _WIDE]
