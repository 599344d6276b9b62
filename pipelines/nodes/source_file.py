"""`source_file`: rows from files in the data folders."""

import codecs
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import duckdb
from pydantic import Field, field_validator

from brokoli_site.common.errors import NodeError
from pipelines.assets import naming
from pipelines.assets.values import Assets, Databases, text
from pipelines.conversion.converting import Conversion, ConvertedReading
from pipelines.expressions import quote
from pipelines.nodes import csv_files, formats, json_files, reading, remote
from pipelines.nodes.base import Analysis, Category, Column, NodeConfig, NodeContext, NodeType, Ports, Query, Schema
from pipelines.nodes.reading import Declared, SourceFile
from pipelines.nodes.source_columns import SourceColumn, SourceColumns
from pipelines.nodes.unpacking import is_utf8, keep_whole_lines, marked_encoding, unpack
from pipelines.problems import Problem
from pipelines.references import is_unresolved
from pipelines.spec import NodeSpec

_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_CONVERTED = formats.WORKBOOKS | {"xml"}
_BINARY = formats.WORKBOOKS | {"parquet"}
_HEAD_BYTES = 16 * 1024**2  # that a dry run unpacks of a file: as many rows as types are guessed from, and more


class SourceFileConfig(NodeConfig):
    """Config of `source_file`."""

    path: str = Field(min_length=1, description="File in a data folder, or a pattern such as `in/*.csv`; several files are joined by column name.")
    conn_id: str = Field(
        "", description="Connection of type sftp, s3 or http: the path starts at its folder, bucket or address. Empty: data folders."
    )
    format: str = Field("", description=f"One of {', '.join(formats.READABLE)}. Empty: as the name ends; `.gz` files are unpacked.")
    delimiter: str = Field("", max_length=4, description="What separates the values of a CSV file. Empty: found in its first line.")
    header: bool = Field(default=True, description="Whether the first line of a CSV or TSV file names the columns.")
    null_values: tuple[str, ...] = Field((), description="Texts that mean no value, such as NA. The empty text always does.")
    encoding: str = Field("utf-8", description="Encoding of the text: utf-8, latin-1, cp1252, utf-16, … XML that declares its own needs none.")
    sheet: str = Field("", description="Sheet of a workbook: its name, or its number from 1. Empty: the first.")
    records: str = Field("", description="Path of the elements of an XML file that are records, such as airlines/airline. Empty: what repeats.")
    max_memory_mb: int = Field(2048, ge=256, le=1_048_576, description="Memory that reading a workbook or an XML file may take, in MB.")
    columns: SourceColumns = Field((), description="The columns to read, in order, with their types. Empty: all, as they are found.")

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return formats.readable("", value) if value else ""

    @field_validator("delimiter")
    @classmethod
    def _usable_delimiter(cls, value: str) -> str:
        value = _DELIMITERS.get(value.lower(), value)
        if value and (set(value) & set('"\r\n\0') or not value.isascii()):
            raise ValueError("cannot be a quote, a line break or a character outside ASCII")
        return value

    @field_validator("null_values", mode="before")
    @classmethod
    def _list_of_texts(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("sheet", mode="before")
    @classmethod
    def _number_of_sheet(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            info = codecs.lookup(value)
        except (LookupError, ValueError) as error:
            raise ValueError(f"'{value}' is not an encoding. Use utf-8, latin-1, cp1252, utf-16, …") from error
        if not info._is_text_encoding:
            raise ValueError(f"'{value}' does not encode text. Use utf-8, latin-1, cp1252, utf-16, …")
        return value

    @field_validator("columns")
    @classmethod
    def _unique(cls, value: tuple[SourceColumn, ...]) -> tuple[SourceColumn, ...]:
        names = [column.name.casefold() for column in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names {', '.join(map(repr, twice))} more than once")
        return value


@dataclass(frozen=True, slots=True)
class ParquetReading:
    """Implements `reading.Reading`."""

    files: tuple[SourceFile, ...]
    declared: tuple[Declared, ...] = ()

    def relation(self) -> str:
        options = ", union_by_name=true" if len(self.files) > 1 else ""
        return f"read_parquet({reading.paths(self.files)}{options})"

    def select(self, found: Sequence[Column]) -> str:
        reading.projection(self.declared, found, reading.called(self.files))
        items = ", ".join(
            f"CAST({quote(column.name)} AS {column.type}) AS {quote(column.name)}" if column.type else quote(column.name) for column in self.declared
        )
        return f"SELECT {items or '*'} FROM {self.relation()}"  # noqa: S608 - quoted

    def after(self, error: duckdb.Error, context: NodeContext) -> "ParquetReading":
        file = reading.at_fault(error, self.files).shown
        raise NodeError(f"{file} cannot be read as Parquet: {reading.shortened(reading.sentence(error, self.files))}.") from error


class SourceFileNode(NodeType):
    name: ClassVar[str] = "source_file"
    label: ClassVar[str] = "File"
    category: ClassVar[Category] = "source"
    help: ClassVar[str] = "Reads CSV, TSV, JSON, JSON lines, Parquet, Excel or XML files, compressed or not, from the data folders or a connection."
    ports: ClassVar[Ports] = Ports(0, 0)
    Config: ClassVar[type[NodeConfig]] = SourceFileConfig
    trusted: ClassVar[bool] = True

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        if "schema" in found and "columns" not in found:
            found["columns"] = found.pop("schema")
        return found

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        problems = []
        if not is_unresolved(config.path):
            if ".." in Path(config.path).parts:
                problems.append(Problem("must not contain '..'; file nodes reach only the data folders", node.id, "path"))
            try:
                if config.format or not formats.is_pattern(config.path) or formats.by_suffix(config.path):
                    formats.readable(config.path, config.format)
            except ValueError as error:
                problems.append(Problem(str(error), node.id, "path" if not config.format else "format"))
        typed = config.columns and all(column.type for column in config.columns)
        schema = tuple(Column(column.name, column.type) for column in config.columns) if typed else None
        return Analysis(tuple(problems), schema)

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        return Assets(reads=(naming.file(text(config, "path"), text(config, "conn_id")),))

    def run(self, context: NodeContext) -> Query:
        """In a dry run, what is compressed or in another encoding is unpacked into memory, and no more of it than the first rows need."""
        config: SourceFileConfig = context.config
        # A name tells its format before its file is looked for; a pattern may leave that to what it matches.
        told = config.format or formats.by_suffix(config.path) or not formats.is_pattern(config.path)
        kind = _format(config, config.path) if told else ""
        if config.conn_id:
            found = remote.fetched(context, config.conn_id, config.path)
        else:
            paths = context.files.resolve_read(config.path)
            found = [SourceFile(path, _shown(config.path, path, paths)) for path in paths]
        kind = kind or _format(config, found[0].shown)
        files = tuple(_plain(context, file, number, kind) for number, file in enumerate(found))
        declared = tuple(Declared(column.name, column.type) for column in config.columns)
        if kind == "parquet":
            return reading.query(context, ParquetReading(files, declared))
        if kind in ("json", "jsonl"):
            return _json(context, files, kind, declared)
        if kind in _CONVERTED:
            return _converted(context, files, kind, declared)
        return _csv(context, files, kind, declared)


def _format(config: SourceFileConfig, name: str) -> str:
    """Errors: `NodeError`."""
    try:
        return formats.readable(name, config.format)
    except ValueError as error:
        raise NodeError(f"Field '{'format' if config.format else 'path'}': {error}") from error


def _plain(context: NodeContext, file: SourceFile, number: int, kind: str) -> SourceFile:
    """The file itself, or its unpacked text when it is compressed or not in UTF-8. XML and workbooks keep the encoding that they tell of."""
    path, shown = file.path, file.shown
    gzipped = kind != "parquet" and (formats.is_gzipped(shown) or formats.has_gzip_mark(path))
    encoding = context.config.encoding if kind not in _BINARY and kind != "xml" else "utf-8"
    if gzipped or not is_utf8(encoding) or (kind in ("json", "jsonl") and json_files.has_mark(path)):
        path = _unpacked(context, path, shown, number, kind, gzipped=gzipped, encoding=encoding)
    other = marked_encoding(path) if kind not in _BINARY and kind != "xml" and is_utf8(encoding) else None
    if other:
        raise NodeError(f"{shown} is not UTF-8: its first bytes say {other}. Set `encoding` to {other}.")
    return SourceFile(path, shown)


def _unpacked(context: NodeContext, path: Path, shown: str, number: int, kind: str, *, gzipped: bool, encoding: str) -> Path:
    target = context.scratch() / f"{number}.{kind}" if context.memory_file is None else context.memory_file()
    head = None if context.memory_file is None else _HEAD_BYTES
    whole = unpack(path, shown, target, gzipped=gzipped, encoding=encoding, stop=context.stop, head=head)
    if not whole and (kind == "json" or kind in formats.WORKBOOKS):
        most = f"{_HEAD_BYTES // 1024**2} MiB, the most {'JSON' if kind == 'json' else 'of a workbook'} that a dry run reads"
        raise NodeError(f"{shown} unpacks to more than {most}; as JSON lines it may be of any size.")
    if not whole and kind != "xml":
        keep_whole_lines(target, quoted=kind != "jsonl")
    return target


def _shown(asked: str, path: Path, found: Sequence[Path]) -> str:
    """What to call a file: as it was asked for, or below the folder that all matches of the pattern have in common."""
    if len(found) == 1 and path.name == Path(asked).name:
        return asked
    return path.name if len(found) == 1 else os.path.relpath(path, os.path.commonpath([file.parent for file in found]))


def _csv(context: NodeContext, files: tuple[SourceFile, ...], kind: str, declared: tuple[Declared, ...]) -> Query:
    config: SourceFileConfig = context.config
    filled = tuple(file for file in files if file.path.stat().st_size)
    if not filled:
        if declared:
            return reading.nothing(declared)
        hint = "without a header it has no columns. Declare them in `columns` if no rows are what you expect."
        raise NodeError(f"{reading.called(files)} is empty (0 bytes): {hint}")
    delimiter = config.delimiter or ("\t" if kind == "tsv" else csv_files.likely_delimiter(filled[0].path))
    return reading.query(context, csv_files.CsvReading(filled, delimiter, config.header, config.null_values, declared))


def _json(context: NodeContext, files: tuple[SourceFile, ...], kind: str, declared: tuple[Declared, ...]) -> Query:
    filled = tuple(file for file in files if not json_files.is_empty(file.path))
    if not filled:
        # Zero records are a valid file. DuckDB has no table without columns, so it gets the one that DuckDB gives it, too.
        if not declared:
            context.log.warning(f"{reading.called(files)} holds no records, so its columns are not known; declare them in `columns`.")
        return reading.nothing(declared or (Declared("json"),))
    shape: json_files.Shape = "newline_delimited" if kind == "jsonl" else "array"
    if kind == "json" and any(json_files.first_character(file.path) != "[" for file in filled):
        shape = "auto"
    return reading.query(context, json_files.JsonReading(filled, shape, declared))


def _converted(context: NodeContext, files: tuple[SourceFile, ...], kind: str, declared: tuple[Declared, ...]) -> Query:
    config: SourceFileConfig = context.config
    encoding = "" if is_utf8(config.encoding) else config.encoding
    if kind == "xml":
        options: dict[str, Any] = {"records": config.records, "encoding": encoding}
    else:
        options = {"sheet": config.sheet, "header": config.header, "names": [] if config.header else [column.name for column in declared]}
    unit = "line" if kind == "xml" else "row"
    conversion = Conversion(kind, options, config.null_values, config.max_memory_mb)
    converted = tuple(conversion.convert(context, file) for file in files)
    filled = tuple(one for one in converted if one.parts)
    if not filled or not any(one.found for one in filled):
        if not declared:
            context.log.warning(f"{reading.called(files)} holds no rows, so its columns are not known; declare them in `columns`.")
        return reading.nothing(declared or (Declared("column0"),))
    found = ConvertedReading(filled, declared, unit)
    found.check_whole_numbers(context)
    return reading.query(context, found)
