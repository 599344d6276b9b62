"""Rows as an Excel workbook, row by row in constant memory.

What Excel has no exact word for is written as text, never rounded or lost: integers and decimals of more than 15 digits, times with a
zone, dates before March 1900 (Excel's calendar has a day in February 1900 that never was), durations, and what is nested. Texts are text
cells whatever they begin with, so none is ever a formula.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from brokoli_site.common.errors import NodeError
from pipelines.expressions import quote
from pipelines.nodes.base import Column, NodeContext, Stop
from pipelines.nodes.writing import is_nested

MOST_ROWS, MOST_COLUMNS, LONGEST_TEXT = 1_048_576, 16_384, 32_767
LONGEST_SHEET_NAME = 31
_FORBIDDEN_IN_NAMES = re.compile(r"[\[\]:*?/\\]|^'|'$|^history$", re.IGNORECASE)
_FETCHED = 2_000  # rows between two looks at the stop
_MADE = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - of the file, so that equal rows give equal files; Excel knows no zones
_SMALL = re.compile(r"^(U?(TINY|SMALL)INT|U?INTEGER)$")
_LARGE = re.compile(r"^(U?(BIG|HUGE)INT)$")
_EXACT = "999999999999999"
_TIMESTAMPS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_SHOWN_AS = {"DATE": "yyyy-mm-dd", "TIME": "hh:mm:ss", **dict.fromkeys(_TIMESTAMPS, "yyyy-mm-dd hh:mm:ss")}
_WIDTHS = {"DATE": 11, "TIME": 9, **dict.fromkeys(_TIMESTAMPS, 19)}


def fault_of_name(name: str) -> str:
    """What is wrong with the name of a sheet, "" when nothing is."""
    if len(name) > LONGEST_SHEET_NAME or _FORBIDDEN_IN_NAMES.search(name):
        return f"'{name[:100]}' cannot be the name of a sheet: at most {LONGEST_SHEET_NAME} characters, none of []:*?/\\, no ' at its ends."
    return ""


def write(context: NodeContext, columns: Sequence[Column], source: str, draft: Path, sheet: str, *, header: bool) -> int:
    """Write the relation `source` to `draft`; the number of rows. Errors: `NodeError` for what does not fit; `OSError`; the stop's reason."""
    shown = context.config.path
    if len(columns) > MOST_COLUMNS:
        raise NodeError(f"'{shown}' would have {len(columns):,} columns; a sheet holds {MOST_COLUMNS:,}. Leave some out, or write parquet.")
    ((count,),) = context.connection.execute(f"SELECT count(*) FROM {source}").fetchall()  # noqa: S608 - quoted
    if count + header > MOST_ROWS:
        rows = f"{count:,} rows{' and a header' if header else ''}"
        raise NodeError(f"'{shown}' would have {rows}; a sheet holds {MOST_ROWS:,} rows. Split them, or write csv or parquet.")
    with draft.open("wb") as file, _workbook(_Watched(file, context.stop), context.scratch(), sheet) as (book, page):
        formats = _prepare(book, page, columns)
        if header:
            for place, column in enumerate(columns):
                _put_text(page, 0, place, column.name, column.name, shown)
        _put_rows(context, page, columns, formats, source, first=int(header))
    return int(count)


@contextlib.contextmanager
def _workbook(file: "_Watched", scratch: Path, sheet: str) -> Iterator[tuple[xlsxwriter.Workbook, Worksheet]]:
    book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": str(scratch), "strings_to_formulas": False, "strings_to_urls": False})
    try:
        page = book.add_worksheet(sheet or None)
        book.set_properties({"created": _MADE})
        yield book, page
        try:
            book.close()
        except FileCreateError as error:
            raise error.args[0] if error.args and isinstance(error.args[0], OSError) else OSError(str(error)) from error
    finally:
        # A workbook that was not closed would try to be written when Python forgets it.
        book.fileclosed = True
        for page in book.worksheets():
            page.row_data_fh.close()


def _prepare(book: xlsxwriter.Workbook, page: Worksheet, columns: Sequence[Column]) -> list[Format | None]:
    """The formats of the columns' numbers."""
    made = {kind: book.add_format({"num_format": shown}) for kind, shown in _SHOWN_AS.items()}
    for place, column in enumerate(columns):
        if column.type in _WIDTHS:
            page.set_column(place, place, _WIDTHS[column.type])
    return [made.get(column.type) for column in columns]


def _put_rows(context: NodeContext, page: Worksheet, columns: Sequence[Column], formats: Sequence[Format | None], source: str, *, first: int) -> None:
    items = ", ".join(part for column in columns for part in _cell(column))
    cursor = context.connection.execute(f"SELECT {items} FROM {source}")  # noqa: S608 - quoted
    row = first
    while batch := cursor.fetchmany(_FETCHED):
        context.stop.check()
        for values in batch:
            _put_row(page, row, values, columns, formats, context.config.path)
            row += 1


def _put_row(page: Worksheet, row: int, values: Sequence[Any], columns: Sequence[Column], formats: Sequence[Format | None], shown: str) -> None:
    """`values` are a number (or a truth value) and a text for each column, one of which is None."""
    for place, column in enumerate(columns):
        number, text = values[2 * place], values[2 * place + 1]
        if isinstance(number, bool):
            page.write_boolean(row, place, number)
        elif number is not None:
            page.write_number(row, place, number, formats[place])
        elif text is not None:
            _put_text(page, row, place, text, column.name, shown)


def _put_text(page: Worksheet, row: int, place: int, text: str, column: str, shown: str) -> None:
    if len(text) > LONGEST_TEXT:
        what = f"'{shown}', row {row + 1}: column '{column}' holds a text of {len(text):,} characters"
        raise NodeError(f"{what}; a cell holds {LONGEST_TEXT:,}. Shorten it, or write csv or parquet.")
    page.write_string(row, place, text)


def _cell(column: Column) -> tuple[str, str]:
    """Two SQL items: the value where it is a number of Excel's, and as text where it is not."""
    name, kind = quote(column.name), column.type
    if _SMALL.match(kind) or kind == "BOOLEAN":
        return name, "NULL"
    if kind in ("FLOAT", "DOUBLE"):
        # Through text: 0.1 as FLOAT is 0.1, not 0.10000000149. Excel has no NaN and no infinities.
        return f"CASE WHEN isfinite({name}) THEN CAST(CAST({name} AS VARCHAR) AS DOUBLE) END", "NULL"
    if kind in _SHOWN_AS:
        return _moment(name, kind)
    if kind.startswith("DECIMAL") or _LARGE.match(kind):
        return _long_number(name, kind)
    if is_nested(kind):
        return "NULL", f"CAST(to_json({name}) AS VARCHAR)"
    return "NULL", f"base64({name})" if kind == "BLOB" else f"CAST({name} AS VARCHAR)"


def _long_number(name: str, kind: str) -> tuple[str, str]:
    text = f"CAST({name} AS VARCHAR)"
    digits = f"length(ltrim(regexp_replace({text}, '[^0-9]', '', 'g'), '0')) <= 15"
    return _either(digits if kind.startswith("DECIMAL") else f"{name} BETWEEN -{_EXACT} AND {_EXACT}", f"CAST({name} AS DOUBLE)", text)


def _moment(name: str, kind: str) -> tuple[str, str]:
    if kind == "TIME":
        return f"epoch_us({name}) / 86400000000", "NULL"
    fits = f"{name} >= '1900-03-01' AND {name} < '10000-01-01'"
    return _either(fits, f"epoch_us(CAST({name} AS TIMESTAMP)) / 86400000000 + 25569", f"CAST({name} AS VARCHAR)")


def _either(fits: str, number: str, text: str) -> tuple[str, str]:
    return f"CASE WHEN {fits} THEN {number} END", f"CASE WHEN NOT ({fits}) THEN {text} END"


class _Watched:
    """A file that looks at the stop whenever it is written: closing a large workbook packs it for seconds."""

    def __init__(self, file: BinaryIO, stop: Stop) -> None:
        self._file, self._stop = file, stop

    def write(self, data: bytes) -> int:
        self._stop.check()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
