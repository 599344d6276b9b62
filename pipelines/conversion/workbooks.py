"""Sheets of workbooks as rows of texts: calamine reads, this gives names, types and places.

What comes out: the first row that is not empty names the columns; rows without any value are left out; a cell that was merged has its
value at its top left; a formula is its last result; a formula's error (`#N/A`) is null, and told. Excel knows no integers: a column whose
numbers all are whole is BIGINT. Values of several kinds in one column are text, each as the cell reads.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import python_calamine
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from pipelines.conversion import archives
from pipelines.conversion.faults import BadFile
from pipelines.conversion.tables import PART_ROWS, Names, Parts

_OLE = b"\xd0\xcf\x11\xe0"
_WHOLE_LIMIT = 2.0**53
_ERROR_CELL = re.compile(rb'<c (?:r="([A-Z]+\d+)")?[^>]*\bt="e"')
_OVERLAP = 64
_MOST_DIRECTORY = 4 * 1024**2  # bytes of the parts that say which sheet is which file

Warn = Callable[[str], None]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Sheet:
    """What to read. `sheet` is a name or a number from 1; "" is the first. `most_bytes` that the archive may unpack to."""

    path: Path
    shown: str
    sheet: str = ""
    header: bool = True
    names: Sequence[str] = ()  # of the columns, without a header
    most_bytes: int = archives.MOST_BYTES


def convert(wanted: Sheet, parts: Parts, warn: Warn, progress: Progress) -> None:
    """Write the sheet's rows to `parts`. Errors: `BadFile`."""
    errors = _Errors()
    if archives.is_zip(wanted.path):
        archives.check(wanted.path, wanted.shown, errors.look, wanted.most_bytes)
    with _opened(wanted) as book:
        name = _name(book, wanted)
        try:
            sheet = book.get_sheet_by_name(name)
        except (python_calamine.CalamineError, OSError, ValueError) as error:
            raise BadFile(f"{wanted.shown}, sheet '{name}': it cannot be read ({error}).") from error
        if told := errors.told(name):
            warn(f"{wanted.shown}, sheet '{name}': {told}")
        _write(sheet, wanted, parts, progress)


def _opened(wanted: Sheet) -> python_calamine.CalamineWorkbook:
    try:
        with wanted.path.open("rb") as file:
            return python_calamine.CalamineWorkbook.from_filelike(file)
    except python_calamine.PasswordError as error:
        raise BadFile(f"{wanted.shown} is encrypted. Save it without a password.") from error
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        with wanted.path.open("rb") as file:
            start = file.read(4)
        if not start:
            raise BadFile(f"{wanted.shown} is empty (0 bytes), which is no workbook.") from error
        if start not in (_OLE, b"PK\x03\x04"):
            raise BadFile(f"{wanted.shown} is not a workbook: it is neither xlsx nor xls nor ods.") from error
        hint = "it may be encrypted, or damaged" if start == _OLE else "it is damaged, or no workbook"
        raise BadFile(f"{wanted.shown} cannot be read as a workbook: {hint} ({error}).") from error


def _name(book: python_calamine.CalamineWorkbook, wanted: Sheet) -> str:
    names = book.sheet_names
    listed = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
    if not names:
        raise BadFile(f"{wanted.shown} has no sheets.")
    if not wanted.sheet:
        return names[0]
    if wanted.sheet in names:
        return wanted.sheet
    if wanted.sheet.isdecimal() and 1 <= int(wanted.sheet) <= len(names):
        return names[int(wanted.sheet) - 1]
    raise BadFile(f"{wanted.shown} has no sheet '{wanted.sheet}'. It has: {listed}.")


def _write(sheet: python_calamine.CalamineSheet, wanted: Sheet, parts: Parts, progress: Progress) -> None:
    rows = _rows(sheet)
    first = next(rows, None)
    if first is None:
        return
    width = len(first[1])
    if wanted.names and len(wanted.names) != width:
        raise BadFile(f"{wanted.shown} has {width} columns, but `columns` names {len(wanted.names)}.")
    names: Sequence[str | None] = wanted.names or (None,) * width
    header = [_text(value) for value in first[1]] if wanted.header else names
    titles = _titles(header, wanted.shown)
    total = max(1, sheet.total_height)
    for places, batch in _batches(rows if wanted.header else _again(first, rows)):
        _write_batch(titles, batch, places, parts)
        progress(min(1.0, places[-1] / total))
        if parts.full:
            break
    if not parts.files:
        parts.write({title: [] for title in titles}, [])


def _titles(header: Sequence[str | None], shown: str) -> list[str]:
    names = Names(shown)
    digits = len(str(max(0, len(header) - 1)))
    return [names.unique(title if title is not None and title.strip() else f"column{number:0{digits}d}") for number, title in enumerate(header)]


def _rows(sheet: python_calamine.CalamineSheet) -> Iterator[tuple[int, list[Any]]]:
    """The rows that have a value, with their numbers from 1."""
    for number, row in enumerate(sheet.iter_rows(), start=1):
        if any(value != "" for value in row):
            yield number, row


def _again(first: tuple[int, list[Any]], rows: Iterator[tuple[int, list[Any]]]) -> Iterator[tuple[int, list[Any]]]:
    yield first
    yield from rows


def _batches(rows: Iterable[tuple[int, list[Any]]]) -> Iterator[tuple[list[int], list[list[Any]]]]:
    places: list[int] = []
    batch: list[list[Any]] = []
    for number, row in rows:
        places.append(number)
        batch.append(row)
        if len(batch) == PART_ROWS:
            yield places, batch
            places, batch = [], []
    if batch:
        yield places, batch


def _write_batch(titles: Sequence[str], batch: Sequence[Sequence[Any]], places: Sequence[int], parts: Parts) -> None:
    columns: dict[str, list[str | None]] = {}
    known: dict[str, set[str]] = {}
    for title, values in zip(titles, zip(*batch, strict=True), strict=False):
        columns[title] = [_text(value) for value in values]
        # What stands for no value has no type either; the texts are looked up once more only where there are such words.
        counted = (
            [value for value, text in zip(values, columns[title], strict=True) if text not in parts.null_values] if parts.null_values else values
        )
        known[title] = _kinds(counted)
    parts.write(columns, places, known)


def _kinds(values: Sequence[Any]) -> set[str]:
    found: set[str] = set()
    for kind in set(map(type, values)):
        if kind is float:
            numbers = [value for value in values if type(value) is float]
            found.add("BIGINT" if all(value.is_integer() and abs(value) < _WHOLE_LIMIT for value in numbers) else "DOUBLE")
        elif kind is not str:
            found.add({bool: "BOOLEAN", int: "BIGINT", dt.datetime: "TIMESTAMP", dt.date: "DATE", dt.time: "TIME"}.get(kind, "VARCHAR"))
        elif any(value != "" for value in values if type(value) is str):
            found.add("VARCHAR")
    return found


def _text(value: Any) -> str | None:
    """As the cell reads, in ISO 8601 where it is a time; None when it holds nothing."""
    kind = type(value)
    if kind is str:
        return value or None
    if kind is float:
        return str(int(value)) if value.is_integer() and abs(value) < _WHOLE_LIMIT else repr(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is dt.datetime:
        return str(value.isoformat(" "))
    if kind is dt.timedelta:
        return _duration(value)
    return str(value)


def _duration(value: dt.timedelta) -> str:
    """`[h]:mm:ss`, as Excel shows it."""
    seconds = round(abs(value).total_seconds())
    return f"{'-' if value < dt.timedelta() else ''}{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


@dataclass(slots=True)
class _Errors:
    """Finds the cells that hold errors: calamine gives them as empty ones. It looks at the XML of the sheets as they are unpacked."""

    _count: dict[str, int] = field(default_factory=dict)
    _first: dict[str, str] = field(default_factory=dict)
    _tail: dict[str, bytes] = field(default_factory=dict)
    _directory: dict[str, bytes] = field(default_factory=dict)

    def look(self, member: str, piece: bytes) -> None:
        if member in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels"):
            self._directory[member] = (self._directory.get(member, b"") + piece)[:_MOST_DIRECTORY]
        if not member.startswith("xl/worksheets/"):
            return
        tail = self._tail.get(member, b"")
        text = tail + piece
        if b't="e"' in text:
            for match in _ERROR_CELL.finditer(text):
                if match.end() > len(tail):
                    self._count[member] = self._count.get(member, 0) + 1
                    self._first.setdefault(member, (match[1] or b"").decode())
        self._tail[member] = text[-_OVERLAP:]

    def told(self, sheet: str) -> str:
        """A sentence about the sheet's errors, "" when it has none."""
        member = self._member(sheet) if self._count else ""
        if not self._count.get(member):
            return ""
        where = f", the first in {self._first[member]}" if self._first[member] else ""
        return f"{self._count[member]} cells hold errors such as #N/A{where}; they are read as null."

    def _member(self, sheet: str) -> str:
        try:
            book = fromstring(self._directory.get("xl/workbook.xml", b""), forbid_dtd=True)
            relations = fromstring(self._directory.get("xl/_rels/workbook.xml.rels", b""), forbid_dtd=True)
        except (ParseError, DefusedXmlException):
            return ""
        targets = {one.get("Id"): str(one.get("Target", "")) for one in relations}
        for one in book.iter():
            if one.tag.endswith("}sheet") and one.get("name") == sheet:
                key = next((value for name, value in one.items() if name.endswith("}id")), "")
                target = targets.get(key, "")
                return target.lstrip("/") if target.startswith("/") else f"xl/{target}"
        return ""
