"""Adding rows to a file that is there already: what must fit, and how old and new bytes are joined."""

import csv
import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import duckdb

from brokoli_site.common.errors import NodeError
from brokoli_site.common.spreadsheets import harmless
from pipelines.expressions import literal
from pipelines.nodes.base import NOT_FOR_NODES, Column, NodeContext, Schema, Stop
from pipelines.nodes.files import exact_pattern
from pipelines.nodes.formats import has_gzip_mark
from pipelines.nodes.writing import Writing

_CHUNK = 1024 * 1024
_UNREADABLE = (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, zlib.error)


def check_parquet(context: NodeContext, target: Path, columns: Sequence[Column]) -> None:
    """Errors: `NodeError` when the file has other columns or types, or is no Parquet."""
    shown = context.config.path
    try:
        rows = context.connection.execute(f"DESCRIBE FROM read_parquet({literal(exact_pattern(target))})").fetchall()
    except NOT_FOR_NODES:
        raise
    except duckdb.Error as error:
        raise NodeError(f"'{shown}' cannot be appended to: it is not a Parquet file.") from error
    before = {row[0]: row[1] for row in rows}
    now = {column.name: column.type for column in columns}
    if before != now:
        raise NodeError(_difference(shown, [f"{name} {kind}" for name, kind in before.items()], [f"{name} {kind}" for name, kind in now.items()]))


def refusal(context: NodeContext, writing: Writing, target: Path, columns: Sequence[Column]) -> str:
    """The sentence with which rows of these columns cannot be appended to the file, "" when they can."""
    try:
        if writing.kind == "parquet":
            check_parquet(context, target, columns)
            return ""
        check_text(context, writing, target, columns)
        if writing.kind == "json":
            with target.open("rb") as file:
                _tail_of_array(file)
    except NodeError as error:
        return error.message
    return ""


def columns_of(context: NodeContext, writing: Writing, target: Path) -> Schema | None:
    """The columns that the file has; text has no types, so theirs are "". None where they cannot be told."""
    try:
        if writing.kind == "parquet":
            rows = context.connection.execute(f"DESCRIBE FROM read_parquet({literal(exact_pattern(target))})").fetchall()
            return tuple(Column(row[0], row[1]) for row in rows)
        if writing.kind in ("json", "jsonl"):
            rows = context.connection.execute(f"DESCRIBE FROM read_json({literal(exact_pattern(target))})").fetchall()
            return tuple(Column(row[0], "") for row in rows)
        if writing.kind in ("csv", "tsv") and writing.header:
            return tuple(Column(name, "") for name in _header(writing, target, gzipped=has_gzip_mark(target)))
    except NOT_FOR_NODES:
        raise
    except (duckdb.Error, *_UNREADABLE):
        return None
    return None


def check_text(context: NodeContext, writing: Writing, target: Path, columns: Sequence[Column]) -> None:
    """Errors: `NodeError` when a CSV file's header is not the input's, or the file is compressed otherwise."""
    shown = context.config.path
    gzipped = has_gzip_mark(target)
    if gzipped != (writing.compression == "gzip"):
        raise NodeError(f"'{shown}' cannot be appended to: it is {'compressed' if gzipped else 'not compressed'}, the new rows are not alike.")
    if writing.kind not in ("csv", "tsv") or not writing.header:
        return
    try:
        before = _header(writing, target, gzipped=gzipped)
    except _UNREADABLE as error:
        raise NodeError(f"'{shown}' cannot be appended to: its first line is not readable.") from error
    now = [harmless(column.name) if writing.neutralise else column.name for column in columns]
    if before != now:
        raise NodeError(_difference(shown, before, now))


def _header(writing: Writing, target: Path, *, gzipped: bool) -> list[str]:
    """Errors: those in `_UNREADABLE`."""
    delimiter = writing.delimiter if writing.kind == "csv" else "\t"
    with gzip.open(target, "rt", encoding="utf-8-sig") if gzipped else target.open(encoding="utf-8-sig") as file:
        return next(csv.reader(file, delimiter=delimiter), [])


def _difference(shown: str, before: Sequence[str], now: Sequence[str]) -> str:
    return f"'{shown}' cannot be appended to: it has the columns {_listed(before)}; the new rows have {_listed(now)}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def join_text(writing: Writing, old: Path, new: Path, draft: Path, stop: Stop) -> None:
    """`draft` becomes the old file's content and the new one's. Members of gzip may follow each other, so they need no unpacking.

    Errors: `NodeError` when an old JSON file is no array; the stop's reason.
    """
    with old.open("rb") as before, new.open("rb") as after, draft.open("xb") as out:
        if writing.kind == "json":
            _join_arrays(before, after, out, stop)
            return
        _pour(before, out, stop)
        if writing.compression == "none" and not _ends_with_newline(before):
            out.write(b"\n")
        _pour(after, out, stop)


def _join_arrays(before: BinaryIO, after: BinaryIO, out: BinaryIO, stop: Stop) -> None:
    tail_start, tail = _tail_of_array(before)
    kept = tail[:-1].rstrip()
    before.seek(0)
    _pour(before, out, stop, tail_start)
    out.write(kept)
    new_tail = after.read(_CHUNK).lstrip()[1:].lstrip()
    if not kept.endswith(b"[") and not new_tail.startswith(b"]"):
        out.write(b",")
    out.write(b"\n\t" + new_tail)
    _pour(after, out, stop)


def _tail_of_array(file: BinaryIO) -> tuple[int, bytes]:
    """The end of a file that holds a JSON array, and where it starts. Errors: `NodeError` when it holds none."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - _CHUNK)
    file.seek(start)
    tail = file.read().rstrip()
    file.seek(0)
    if not tail.endswith(b"]") or not file.read(_CHUNK).lstrip().startswith(b"["):
        raise NodeError("The rows cannot be appended: the file does not hold a JSON array.")
    return start, tail


def _pour(source: BinaryIO, out: BinaryIO, stop: Stop, byte_count: int | None = None) -> None:
    left = byte_count
    while left is None or left > 0:
        stop.check()
        chunk = source.read(_CHUNK if left is None else min(_CHUNK, left))
        if not chunk:
            return
        out.write(chunk)
        left = None if left is None else left - len(chunk)


def _ends_with_newline(file: BinaryIO) -> bool:
    position = file.tell()
    if position == 0:
        return True
    file.seek(position - 1)
    return file.read(1) == b"\n"
