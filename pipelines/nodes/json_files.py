"""JSON: an array of objects, a single object, or one object a line. What is found in a sample is checked against every record."""

import codecs
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import duckdb

from brokoli_site.common.errors import NodeError
from pipelines.expressions import literal, quote
from pipelines.nodes.base import Column, NodeContext
from pipelines.nodes.reading import Declared, SourceFile, at_fault, paths, sentence, shortened

Shape = Literal["array", "newline_delimited", "auto"]

_SAMPLE_RECORDS = 20_480
# DuckDB takes twice as much memory for each thread that reads.
_RECORD_BYTES, _LARGE_RECORD_BYTES = 16 * 1024**2, 48 * 1024**2
_CHUNK = 64 * 1024
_NOT_UTF8 = "not valid UTF-8; set `encoding` to the one that the file has"
_PLACE = re.compile(r"(?:at byte (\d+) )?in (line|record/value) (\d+)")


@dataclass(frozen=True, slots=True)
class JsonReading:
    """Implements `reading.Reading`."""

    files: tuple[SourceFile, ...]
    shape: Shape
    declared: tuple[Declared, ...] = ()
    whole_sample: bool = False
    large_records: bool = False

    def relation(self) -> str:
        options = [
            f"format={literal(self.shape)}",
            "records='true'",
            "map_inference_threshold=-1",  # else records of many columns of one type are taken for one MAP
            f"sample_size={-1 if self.whole_sample else _SAMPLE_RECORDS}",
            f"maximum_object_size={_LARGE_RECORD_BYTES if self.large_records else _RECORD_BYTES}",
        ]
        if len(self.files) > 1:
            options.append("union_by_name=true")
        if self.declared and all(column.type for column in self.declared):
            # With every type declared nothing is guessed, and a key that a record lacks is null.
            options.append("columns={" + ", ".join(f"{literal(column.name)}: {literal(column.type)}" for column in self.declared) + "}")
        return f"read_json({paths(self.files)}, {', '.join(options)})"

    def select(self, found: Sequence[Column]) -> str:
        return f"SELECT {self._items(found)} FROM {self.relation()}"  # noqa: S608 - quoted

    def _items(self, found: Sequence[Column]) -> str:
        kinds = {column.name: column.type for column in found}
        wanted = self.declared or tuple(Declared(column.name) for column in found)
        return ", ".join(_item(column, kinds.get(column.name)) for column in wanted)

    def after(self, error: duckdb.Error, context: NodeContext) -> "JsonReading":
        text = str(error)
        if "maximum_object_size" in text and not self.large_records:
            return replace(self, large_records=True)
        if "JSON transform error" in text and not self.whole_sample and not (self.declared and all(column.type for column in self.declared)):
            return replace(self, whole_sample=True)
        raise self._failure(error) from error

    def _failure(self, error: duckdb.Error) -> NodeError:
        text = str(error)
        file = at_fault(error, self.files).shown
        if "Malformed JSON" in text and self.shape == "newline_delimited":
            return _first_bad_line(at_fault(error, self.files))
        if "non-record JSON" in text:
            return NodeError(f'{file}: the records must be JSON objects, such as {{"id": 1}}; it holds something else.')
        if "maximum_object_size" in text:
            return NodeError(f"{file}: a record is larger than {_LARGE_RECORD_BYTES // 1024**2} MiB, the most that is accepted.")
        place = _PLACE.search(text)
        what = shortened(sentence(error, self.files).rsplit(": ", 1)[-1])
        if place is None:
            return NodeError(f"{file}: {shortened(sentence(error, self.files))}.")
        return NodeError(f"{_called(file, place)}: {_reason(text, what)}.")


def _called(file: str, place: re.Match[str]) -> str:
    byte, unit, number = place.groups()
    # DuckDB counts the record that it could not read twice.
    where = f"{file}, line {number}" if unit == "line" else f"{file}, about record {max(1, int(number) - 1)}"
    return f"{where}, byte {byte}" if byte else where


def _first_bad_line(file: SourceFile) -> NodeError:
    """DuckDB's line is off by one or more where it reads in parallel, so the file is read once again for the right one."""
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                json.loads(line.strip() or b"null")
            except UnicodeDecodeError:
                return NodeError(f"{file.shown}, line {number}: {_NOT_UTF8}.")
            except (ValueError, RecursionError) as error:
                shown = shortened(line[:1000].decode("utf-8", "replace").strip())
                return NodeError(f"{file.shown}, line {number}: not valid JSON ({shortened(str(error))}). The line is: {shown!r}.")
    return NodeError(f"{file.shown}: not valid JSON.")


def _reason(text: str, what: str) -> str:
    if "invalid UTF-8" in text:
        return _NOT_UTF8
    return f"not valid JSON ({what})" if "Malformed JSON" in text else what


def _item(column: Declared, found: str | None) -> str:
    name = quote(column.name)
    if found is None:
        return f"CAST(NULL AS {column.type or 'VARCHAR'}) AS {name}"  # no record has it
    if column.type:
        return f"CAST({name} AS {column.type}) AS {name}"
    if found == "JSON":
        # Values of several types. As text, `"x"` is `x`, and what is nested stays JSON.
        return f"({name} ->> '$') AS {name}"
    return f"CAST({name} AS DECIMAL(38, 0)) AS {name}" if found in ("HUGEINT", "UHUGEINT") else name


def first_character(path: Path) -> str:
    """The first character that is not white space, "" when there is none."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            text = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()
            if text:
                return chr(text[0])
    return ""


def has_mark(path: Path) -> bool:
    """Whether it starts with a byte order mark, which DuckDB's JSON reader takes for content."""
    with path.open("rb") as file:
        return file.read(3) == codecs.BOM_UTF8


def is_empty(path: Path) -> bool:
    """Whether it holds no record: nothing but white space, or an empty array."""
    first = first_character(path)
    if first != "[":
        return first == ""
    with path.open("rb") as file:
        return re.fullmatch(rb"(?:\xef\xbb\xbf)?\s*\[\s*\]\s*", file.read(_CHUNK)) is not None
