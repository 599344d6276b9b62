"""What the readers of the file formats have in common: the files of a node, how to quote their paths, and how reading goes on
when DuckDB complains."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import duckdb

from brokoli_site.common.errors import NodeError
from pipelines.expressions import literal, quote
from pipelines.nodes.base import NOT_FOR_NODES, Column, NodeContext, Query
from pipelines.nodes.files import exact_pattern

_LONGEST_SHOWN = 120
# DuckDB ends its sentences with advice on its own options, which our users do not see.
_ADVICE = re.compile(r"\n\s*(?:Possible |Try |LINE \d+:|\* |Set the |file ?= ).*", re.DOTALL)
_PREFIX = re.compile(r"^[A-Z][A-Za-z ]{2,40} (?:Error|Exception): ?")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read: where its plain UTF-8 text is, and what people call it."""

    path: Path
    shown: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A column as the config declares it; `type` "" leaves the type to what is found."""

    name: str
    type: str = ""


class Reading(Protocol):
    """One way of reading the files. Immutable: another try is another value."""

    @property
    def files(self) -> Sequence[SourceFile]: ...

    def relation(self) -> str:
        """The table function call that reads them."""

    def select(self, found: Sequence[Column]) -> str:
        """The SELECT that gives the node's output, from the columns that the relation has."""

    def after(self, error: duckdb.Error, context: NodeContext) -> Self:
        """How to read instead, now that DuckDB has refused with `error`. Errors: `NodeError` naming file and line, when there is no other way."""


def query(context: NodeContext, reading: Reading) -> Query:
    """The query that reads the files, which tries what else can be tried when it meets something unforeseen."""
    while True:
        try:
            rows = context.connection.execute(f"DESCRIBE SELECT * FROM {reading.relation()}").fetchall()  # noqa: S608 - our own relation
            break
        except NOT_FOR_NODES:
            raise
        except duckdb.Error as error:
            reading = reading.after(error, context)
    found = tuple(Column(row[0], row[1]) for row in rows)

    def recover(error: duckdb.Error) -> Query:
        return query(context, reading.after(error, context))

    return Query(reading.select(found), recover=recover)


def nothing(columns: Sequence[Declared]) -> Query:
    """No rows, with the columns declared."""
    items = ", ".join(f"CAST(NULL AS {column.type or 'VARCHAR'}) AS {quote(column.name)}" for column in columns)
    return Query(f"SELECT {items} LIMIT 0")


def paths(files: Sequence[SourceFile]) -> str:
    """The files as a SQL list."""
    return "[" + ", ".join(literal(exact_pattern(file.path)) for file in files) + "]"


def projection(declared: Sequence[Declared], found: Sequence[Column], what: str) -> str:
    """The columns to select. Errors: `NodeError` when one that was declared is not there."""
    if not declared:
        return "*"
    known = {column.name for column in found}
    missing = [column.name for column in declared if column.name not in known]
    if missing:
        listed = ", ".join(repr(column.name) for column in found[:20]) + (", …" if len(found) > 20 else "")
        raise NodeError(f"{what} has no column {', '.join(map(repr, missing[:20]))}. It has: {listed}.")
    return ", ".join(quote(column.name) for column in declared)


def widest(found: Sequence[Column]) -> Mapping[str, str]:
    """Columns of 128-bit integers, with a type that Parquet can hold exactly: it has none so wide and would round."""
    return {column.name: "DECIMAL(38, 0)" for column in found if column.type in ("HUGEINT", "UHUGEINT")}


def replaced(casts: Mapping[str, str]) -> str:
    """`* REPLACE (…)` for these columns and types, or `*`."""
    items = ", ".join(f"CAST({quote(name)} AS {kind}) AS {quote(name)}" for name, kind in casts.items())
    return f"* REPLACE ({items})" if items else "*"


def called(files: Sequence[SourceFile]) -> str:
    """What to call the files together."""
    return files[0].shown if len(files) == 1 else f"{files[0].shown} and {len(files) - 1} more"


def sentence(error: duckdb.Error, files: Sequence[SourceFile]) -> str:
    """DuckDB's complaint without its class, its advice and paths of the host."""
    text = _ADVICE.sub("", _PREFIX.sub("", str(error).strip()))
    for file in files:
        text = text.replace(str(file.path), file.shown)
    return text.strip().rstrip(".")


def at_fault(error: duckdb.Error, files: Sequence[SourceFile]) -> SourceFile:
    """The file that the complaint names, else the first."""
    text = str(error)
    return next((file for file in files if str(file.path) in text), files[0])


def shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
