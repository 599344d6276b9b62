"""Records of an XML file as rows of texts, one record in memory at a time.

A record is an element that repeats. Its attributes and child elements are columns; a child that has attributes or children itself, or
comes several times, is JSON text in which attributes are `@name` and text beside them is `#text`. Namespaces are left out of names.
Document types are refused: that is where entities are declared, which read other files or grow without end.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defusedxml import DefusedXmlException, DTDForbidden
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from pipelines.conversion.faults import BadFile
from pipelines.conversion.tables import PART_ROWS, Names, Parts

MOST_DEPTH = 200
MOST_RECORD_BYTES = 48 * 1024**2  # of text in one record, and of one tag
_CHUNK = 64 * 1024
_SAMPLE_BYTES = 4 * 1024**2  # in which the repeated element is looked for
_PART_BYTES = 32 * 1024**2  # of text that is kept before it is written
_PART_CELLS = 2_000_000
_MOST_PATHS = 10_000
_INSTANCE = "{http://www.w3.org/2001/XMLSchema-instance}"
_ELEMENT_BYTES = 64  # what an element takes besides its text
_TEXT = "#text"

Element = tuple[str, ...]
Warn = Callable[[str], None]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Document:
    """What to read. `records` is a path of element names such as `airlines/airline`, or one name; "" finds the repeated element."""

    path: Path
    shown: str
    records: str = ""
    encoding: str = ""
    partial: bool = False  # its end may be missing


def convert(wanted: Document, parts: Parts, warn: Warn, progress: Progress) -> None:
    """Write the records to `parts`. Errors: `BadFile`."""
    if wanted.path.stat().st_size == 0:
        raise BadFile(f"{wanted.shown} is empty (0 bytes), which is not XML.")
    asked = tuple(part for part in (wanted.records.split("/") if "/" in wanted.records else wanted.records.split(".")) if part)
    where = asked or _found(wanted)
    records = _Records(wanted.shown, where, parts)
    parser = _parser(wanted, records)
    records.line = lambda: int(parser.parser.CurrentLineNumber)

    def enough(share: float) -> bool:
        progress(share)
        return parts.full

    _feed(wanted, parser, enough)
    records.flush()
    if parts.rows == 0:
        seen = f"its root element is '{records.root}'" if records.root else "it has no elements"
        if asked:
            raise BadFile(f"{wanted.shown} has no element '{'/'.join(asked)}' (`records`); {seen}.")
        warn(f"{wanted.shown} holds no records; {seen}.")
    elif not asked and records.others:
        warn(f"{wanted.shown}: the records are the elements '{'/'.join(where)}'. Set `records` to choose others.")


def _parser(wanted: Document, target: Any) -> Any:
    return DefusedXMLParser(target=target, encoding=wanted.encoding or None, forbid_dtd=True)


def _feed(wanted: Document, parser: Any, enough: Callable[[float], bool]) -> None:
    size = max(1, wanted.path.stat().st_size)
    fed = 0
    try:
        with wanted.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                parser.feed(chunk)
                fed += len(chunk)
                # What the parser has not come to yet, it keeps: a tag that never ends.
                if fed - parser.parser.CurrentByteIndex > MOST_RECORD_BYTES:
                    raise BadFile(f"{_line(wanted, parser)}: a tag or comment is longer than {MOST_RECORD_BYTES // 1024**2} MiB.")
                if enough(fed / size):
                    return
        if not wanted.partial:
            parser.close()
    except ParseError as error:
        raise BadFile(_complaint(wanted, error)) from error
    except DTDForbidden as error:
        reason = "a document type (DOCTYPE) is declared, which may define entities that read other files or grow without end. Remove it"
        raise BadFile(f"{_line(wanted, parser)}: {reason}.") from error
    except DefusedXmlException as error:
        raise BadFile(f"{_line(wanted, parser)}: it declares or uses an entity of its own, which is refused.") from error
    except (LookupError, ValueError, UnicodeError) as error:
        raise BadFile(f"{_line(wanted, parser)}: not valid in its encoding ({error}).") from error


def _line(wanted: Document, parser: Any) -> str:
    return f"{wanted.shown}, line {parser.parser.CurrentLineNumber}"


def _complaint(wanted: Document, error: ParseError) -> str:
    line, column = error.position
    reason = str(error).split(":", 1)[0]
    if reason == "no element found" or "unclosed" in reason:
        reason = "it is cut off: the file ends before its elements do"
    elif "invalid token" in reason or "encoding" in reason:
        reason += "; if that is a character, set `encoding` to the encoding that the file has"
    return f"{wanted.shown}, line {line}, column {column + 1}: not valid XML ({reason})."


def _found(wanted: Document) -> Element:
    outline = _Outline()
    parser = _parser(wanted, outline)
    try:
        with wanted.path.open("rb") as file:
            read = 0
            while read < _SAMPLE_BYTES and (chunk := file.read(_CHUNK)):
                parser.feed(chunk)
                read += len(chunk)
    except (ParseError, DefusedXmlException, LookupError, ValueError):
        pass  # the reading itself tells, with the line
    return outline.records()


def _local(name: str) -> str:
    return name.rpartition("}")[2]


@dataclass(slots=True)
class _Outline:
    """Counts which elements repeat within one parent."""

    repeats: dict[Element, int] = field(default_factory=dict)
    children: dict[Element, set[str]] = field(default_factory=dict)
    structured: set[Element] = field(default_factory=set)
    _open: list[tuple[Element, Counter[str]]] = field(default_factory=list)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = _local(tag)
        above = self._open[-1][0] if self._open else ()
        path = (*above, name)
        if self._open and len(self.repeats) < _MOST_PATHS:
            siblings = self._open[-1][1]
            siblings[name] += 1
            self.repeats[path] = max(self.repeats.get(path, 0), siblings[name])
            self.structured.add(above)
        if attributes:
            self.structured.add(path)
        self.children.setdefault(above, set()).add(name)
        self._open.append((path if len(path) < MOST_DEPTH else above, Counter()))

    def end(self, tag: str) -> None:
        self._open.pop()

    def records(self) -> Element:
        """The repeated element nearest to the root, the most frequent of several; without any, the innermost that encloses everything."""
        repeated = [path for path, count in self.repeats.items() if count > 1]
        if repeated:
            return min(repeated, key=lambda path: (len(path), -self.repeats[path]))
        path: Element = ()
        while len(self.children.get(path, ())) == 1:
            (only,) = self.children[path]
            if path and (*path, only) not in self.structured:
                break
            path = (*path, only)
        return path


@dataclass(slots=True)
class _Node:
    name: str
    attributes: Mapping[str, str]
    nil: bool
    children: dict[str, list[Any]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str | None:
        return "".join(self.texts).strip() or None

    def value(self) -> Any:
        """Text, None, or an object."""
        if self.nil:
            return None
        if not self.attributes and not self.children:
            return self.text
        found: dict[str, Any] = {f"@{name}": value for name, value in self.attributes.items()}
        found |= {name: values[0] if len(values) == 1 else values for name, values in self.children.items()}
        if self.text is not None:
            found[_TEXT] = self.text
        return found


@dataclass(slots=True)
class _Records:
    """The parser's target: builds one record at a time and hands them on in parts."""

    shown: str
    where: Element
    parts: Parts
    line: Callable[[], int] = lambda: 0
    root: str = ""
    others: bool = False  # elements beside the records
    _names: dict[str, str] = field(default_factory=dict)
    _unique: Names = field(init=False)
    _path: list[str] = field(default_factory=list)
    _open: list[_Node] = field(default_factory=list)
    _columns: dict[str, list[str | None]] = field(default_factory=dict)
    _places: list[int] = field(default_factory=list)
    _record_bytes: int = 0
    _bytes: int = 0
    _begun: int = 0

    def __post_init__(self) -> None:
        self._unique = Names(self.shown)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = _local(tag)
        if not self._path:
            self.root = name
        self._path.append(name)
        if len(self._path) > MOST_DEPTH:
            raise BadFile(f"{self.shown}, line {self.line()}: elements are nested more than {MOST_DEPTH} deep.")
        if self._open or self._is_record():
            if not self._open:
                self._record_bytes, self._begun = 0, self.line()
            self._open.append(_node(name, attributes))
            self._count(sum(len(key) + len(value) for key, value in attributes.items()) + len(name) + _ELEMENT_BYTES)
        elif len(self._path) == len(self.where):
            self.others = True

    def data(self, text: str) -> None:
        if self._open:
            self._open[-1].texts.append(text)
            self._count(len(text))

    def end(self, tag: str) -> None:
        self._path.pop()
        if not self._open:
            return
        node = self._open.pop()
        if self._open:
            self._open[-1].children.setdefault(node.name, []).append(node.value())
        else:
            self._add(node)

    def flush(self) -> None:
        """Write what is kept."""
        if self._places:
            for column in self._columns.values():
                column.extend([None] * (len(self._places) - len(column)))
            self.parts.write(self._columns, self._places)
        self._columns, self._places, self._bytes = {}, [], 0

    def _is_record(self) -> bool:
        if len(self.where) == 1:
            return self._path[-1] == self.where[0]
        return len(self._path) == len(self.where) and tuple(self._path) == self.where

    def _count(self, size: int) -> None:
        self._record_bytes += size
        if self._record_bytes > MOST_RECORD_BYTES:
            raise BadFile(f"{self.shown}, line {self._begun}: a record is larger than {MOST_RECORD_BYTES // 1024**2} MiB, the most that is accepted.")

    def _add(self, node: _Node) -> None:
        if self.parts.full:
            return
        row = len(self._places)
        for name, text in _cells(node):
            column = self._columns.setdefault(self._column(name), [])
            column.extend([None] * (row - len(column)))
            column.append(text)
        self._places.append(self._begun)
        self._bytes += self._record_bytes
        # Columns that most records lack take room too.
        if len(self._places) == PART_ROWS or self._bytes > _PART_BYTES or len(self._places) * len(self._columns) > _PART_CELLS:
            self.flush()

    def _column(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = self._unique.unique(name)
        return self._names[name]


def _node(name: str, attributes: Mapping[str, str]) -> _Node:
    nil = attributes.get(f"{_INSTANCE}nil") in ("true", "1")
    return _Node(name, {_local(key): value for key, value in attributes.items() if not key.startswith(_INSTANCE)}, nil)


def _cells(node: _Node) -> Sequence[tuple[str, str | None]]:
    """The record's columns. An attribute that has the name of a child element is `@name`."""
    cells = [(f"@{name}" if name in node.children else name, value or None) for name, value in node.attributes.items()]
    cells += [(name, _cell(values[0] if len(values) == 1 else values)) for name, values in node.children.items()]
    if node.text is not None:
        cells.append((_TEXT if cells else node.name, node.text))
    return cells or [(node.name, None)]


def _cell(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
