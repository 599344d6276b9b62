"""What reading gives: batches of Arrow, one after the other, of a schema that is known before the first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from brokoli_site.common.errors import NodeError
from pipelines.databases.places import Place
from pipelines.databases.queries import Statement


@dataclass(slots=True)
class Reading:
    """The result of a query while it is read. `batches` raises `NodeError` only. `notes` fill up meanwhile: what people should know."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    notes: list[str] = field(default_factory=list)


class Database(Protocol):
    """An open database. `dialect` is sqlglot's name of its SQL."""

    place: Place
    dialect: str

    def read(self, statement: Statement) -> Reading:
        """Run one query in a read-only transaction of its own, which lasts until the database is closed, or read again.

        Errors: `NodeError` with the database's words; `TransientNodeError`; the stop's reason.
        """

    def ping(self) -> str:
        """Ask something small. Returns the software's version. Errors: as `read`."""


def unique(names: Sequence[str]) -> list[str]:
    """Column names made different, as DuckDB compares them, without case: `id, ID` becomes `id, ID_1`. A column without a name is `column3`."""
    taken = {name.lower() for name in names}
    found: list[str] = []
    used: set[str] = set()
    for position, written in enumerate(names, start=1):
        name, number = written or f"column{position}", 0
        candidate = name
        while candidate.lower() in used or (number and candidate.lower() in taken):
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate.lower())
        found.append(candidate)
    return found


def renamed_note(before: Sequence[str], after: Sequence[str]) -> str:
    """What people are told of columns that were renamed; "" when none was."""
    pairs = [f"'{old}' is now '{new}'" for old, new in zip(before, after, strict=True) if old != new]
    return f"The query names columns twice or not at all: {', '.join(pairs[:20])}." if pairs else ""


def need_columns(names: Sequence[str]) -> None:
    """Errors: `NodeError` for a query that gives none."""
    if not names:
        raise NodeError("The query gives no columns; a source needs a SELECT that gives some.")
