"""CSV and TSV as RFC 4180 describes them. The delimiter, the quotes and the header are never guessed by DuckDB: its guess takes a
file with one ragged row for a file of one wide column. Only types are, from a sample, and from the whole file where the sample misled.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from brokoli_site.common.errors import NodeError
from pipelines.expressions import literal
from pipelines.nodes.base import NOT_FOR_NODES, Column, NodeContext
from pipelines.nodes.reading import Declared, SourceFile, at_fault, called, paths, projection, replaced, sentence, shortened, widest

_HEAD = 64 * 1024  # bytes in which the header line is looked for
_CANDIDATES = (",", ";", "\t", "|")
_SAMPLE_ROWS = 20_480
_LINE_BYTES, _LONG_LINE_BYTES = 2 * 1024**2, 64 * 1024**2
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_ORIGINAL = re.compile(r"Original Line: ?(.*?)\n(?=Expected|Error|Value|Invalid|Maximum|\s*\n|$)", re.DOTALL)
_COUNTS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
# What DuckDB says, and what that means for the file.
_REASONS = (
    ("unterminated quote", "a quoted value is not closed, or goes on after its closing quote"),
    ("not utf-8", "not valid UTF-8; set `encoding` to the one that the file has, such as latin-1, cp1252 or utf-16"),
    ("Maximum line size", f"a row is longer than {_LONG_LINE_BYTES // 1024**2} MiB, the most that is accepted"),
    ("invalid state", "it mixes line endings (CRLF and LF), or quotes are where none may be; save it with one kind of line ending"),
    ("Error when sniffing", "it cannot be read as rows of values; set `delimiter` to the one that the file has"),
)
_NO_SUCH_COLUMN = re.compile(r'Columns with names: (".*?") do not exist in the CSV', re.DOTALL)
_CONVERSION = re.compile(r'converting column "(.*?)"\. Could not convert string "(.*?)" to \'(.*?)\'', re.DOTALL)


@dataclass(frozen=True, slots=True)
class CsvReading:
    """Implements `reading.Reading`."""

    files: tuple[SourceFile, ...]
    delimiter: str
    header: bool
    null_values: tuple[str, ...]
    declared: tuple[Declared, ...] = ()
    whole_sample: bool = False
    long_lines: bool = False

    def relation(self) -> str:
        options = [*self._dialect(), f"sample_size={-1 if self.whole_sample else _SAMPLE_ROWS}"]
        if len(self.files) > 1:
            options.append("union_by_name=true")
        if self.declared and not self.header:
            options.append(f"names=[{', '.join(literal(column.name) for column in self.declared)}]")
        types = [f"{literal(column.name)}: {literal(column.type)}" for column in self.declared if column.type]
        if types:
            options.append(f"types={{{', '.join(types)}}}")
        return f"read_csv({paths(self.files)}, {', '.join(options)})"

    def select(self, found: Sequence[Column]) -> str:
        if self.declared and not self.header and len(found) != len(self.declared):
            raise NodeError(f"{called(self.files)} has {len(found)} columns, but `columns` names {len(self.declared)}.")
        inner = f"SELECT {projection(self.declared, found, called(self.files))} FROM {self.relation()}"  # noqa: S608 - quoted
        casts = widest(found)
        return f"SELECT {replaced(casts)} FROM ({inner})" if casts and not self.declared else inner  # noqa: S608 - quoted

    def after(self, error: duckdb.Error, context: NodeContext) -> "CsvReading":
        text = str(error)
        if "Maximum line size" in text and not self.long_lines:
            return replace(self, long_lines=True)
        contradiction = _CONVERSION.search(text)
        if contradiction and "auto-detected" in text and not self.whole_sample:
            column, value, kind = contradiction.groups()
            context.log.warning(
                f"{self._place(text, error)}: column '{column}' looked like {kind} at first, but holds '{shortened(value)}'. "
                "Types are now taken from the whole file; set `columns` to choose them."
            )
            return replace(self, whole_sample=True)
        if "Error when sniffing" in text:
            self._find_fault(at_fault(error, self.files), context)
        raise self._failure(error) from error

    def _dialect(self) -> list[str]:
        nulls = ", ".join(literal(value) for value in dict.fromkeys(("", *self.null_values)))
        options = [
            f"delim={literal(self.delimiter)}",
            f"header={literal(self.header)}",
            f"nullstr=[{nulls}]",
            "quote='\"', escape='\"', comment='', skip=0, strict_mode=true",
            f"max_line_size={_LONG_LINE_BYTES if self.long_lines else _LINE_BYTES}",
        ]
        return [*options, "parallel=false"] if self.long_lines else options

    def _find_fault(self, file: SourceFile, context: NodeContext) -> None:
        """DuckDB says only that the sample made no sense; reading with fixed columns says where. Errors: `NodeError`."""
        names = header_of(file.path, self.delimiter)
        columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(max(1, len(names))))
        options = ", ".join([*self._dialect(), "auto_detect=false", f"columns={{{columns}}}"])
        try:
            context.connection.execute(f"SELECT count(*) FROM read_csv({paths([file])}, {options})").fetchall()  # noqa: S608 - quoted
        except NOT_FOR_NODES:
            raise
        except duckdb.Error as error:
            raise self._failure(error) from error

    def _place(self, text: str, error: duckdb.Error) -> str:
        line = _LINE.search(text)
        return f"{at_fault(error, self.files).shown}, line {line[1]}" if line else at_fault(error, self.files).shown

    def _failure(self, error: duckdb.Error) -> NodeError:
        text = str(error)
        place = self._place(text, error)
        counts, conversion, original = _COUNTS.search(text), _CONVERSION.search(text), _ORIGINAL.search(text)
        shown = f" The line is: {shortened(original[1].strip())!r}." if original and original[1].strip() else ""
        if counts:
            return NodeError(f"{place}: {counts[2]} values where {counts[1]} columns are expected.{shown}")
        if conversion:
            column, value, kind = conversion.groups()
            hint = "Declare another type in `columns`, or add the value to `null_values`."
            return NodeError(f"{place}: column '{column}' holds '{shortened(value)}', which is not {kind}. {hint}")
        if unknown := _NO_SUCH_COLUMN.search(text):
            listed = ", ".join(repr(name) for name in header_of(at_fault(error, self.files).path, self.delimiter)[:20])
            return NodeError(f"{place} has no column {unknown[1].replace(chr(34), chr(39))}. It has: {listed}. Correct `columns`.")
        reason = next((reason for mark, reason in _REASONS if mark in text), shortened(sentence(error, self.files)))
        return NodeError(f"{place}: {reason}.{shown if 'quote' in reason else ''}")


def header_of(path: Path, delimiter: str) -> list[str]:
    """The values of the first line."""
    with path.open("rb") as file:
        text = file.read(_HEAD).decode("utf-8-sig", "replace")
    return next(csv.reader(text.splitlines(), delimiter=delimiter), []) if len(delimiter) == 1 else text.split("\n", 1)[0].split(delimiter)


def likely_delimiter(path: Path) -> str:
    """A comma, unless the first line holds none but another usual delimiter."""
    with path.open("rb") as file:
        lines = file.read(_HEAD).decode("utf-8-sig", "replace").splitlines()
    outside_quotes = re.sub(r'"[^"]*"', "", lines[0] if lines else "")
    return next((candidate for candidate in _CANDIDATES if candidate in outside_quotes), ",")
