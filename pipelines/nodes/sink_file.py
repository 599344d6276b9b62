"""`sink_file`: rows into a file in the data folders, seen whole or not at all."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from brokoli_site.common import durable
from brokoli_site.common.errors import NodeError
from pipelines.assets import naming
from pipelines.assets.values import Assets, Databases, text
from pipelines.expressions import literal, quote
from pipelines.nodes import append_ledger, appending, formats, remote, workbook_writing
from pipelines.nodes.base import Analysis, Category, Column, NodeConfig, NodeContext, NodeType, Ports, Schema, Stop, WouldWrite, Written
from pipelines.nodes.files import exact_pattern
from pipelines.nodes.unpacking import pack
from pipelines.nodes.writing import PARQUET_COMPRESSIONS, TEXT_COMPRESSIONS, Writing
from pipelines.problems import Problem
from pipelines.references import is_unresolved
from pipelines.spec import NodeSpec

_LOCK_SECONDS = 0.05


class SinkFileConfig(NodeConfig):
    """Config of `sink_file`."""

    path: str = Field(min_length=1, description="File in a data folder. Folders on the way are created.")
    conn_id: str = Field("", description="Connection of type sftp or s3: the path starts at its folder or bucket. Empty: the data folders.")
    format: str = Field("", description=f"One of {', '.join(formats.WRITABLE)}. Empty: as the name ends.")
    compression: str = Field(
        "", description="gzip or none for text; snappy, zstd, gzip, lz4, brotli or none for Parquet. Empty: gzip when the name ends in .gz."
    )
    mode: Literal["overwrite", "append"] = Field("overwrite", description="Replace the file, or add the rows to what it holds.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="What separates the values of a CSV file.")
    header: bool = Field(default=True, description="Whether the first line of a CSV or TSV file names the columns.")
    table: str = Field("", description="Name of the table in a SQL file. Empty: the name of the file.")
    sheet: str = Field("", description="Name of the sheet of a workbook. Empty: Sheet1.")
    neutralise_formulas: bool = Field(
        default=False, description="For CSV and TSV files that people open: texts that a spreadsheet would execute get an apostrophe before them."
    )

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        return formats.writable("", value) if value else ""

    @field_validator("sheet")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if fault := workbook_writing.fault_of_name(value):
            raise ValueError(fault)
        return value

    @field_validator("compression", mode="before")
    @classmethod
    def _compression(cls, value: object) -> object:
        """`true` means gzip, which every reader of text knows; `false` means none."""
        if isinstance(value, bool):
            return "gzip" if value else "none"
        text = value.strip().lower() if isinstance(value, str) else value
        text = {"gz": "gzip", "uncompressed": "none", "zst": "zstd"}.get(text, text) if isinstance(text, str) else text
        known = {"", *TEXT_COMPRESSIONS, *PARQUET_COMPRESSIONS}
        if isinstance(text, str) and text not in known:
            raise ValueError(f"'{value}' is not a compression. Known: {', '.join(sorted(known - {''}))}.")
        return text


class SinkFileNode(NodeType):
    name: ClassVar[str] = "sink_file"
    label: ClassVar[str] = "File"
    category: ClassVar[Category] = "sink"
    help: ClassVar[str] = "Writes its input to a CSV, TSV, JSON, JSON lines, Parquet, Excel or SQL file in the data folders or behind a connection."
    ports: ClassVar[Ports] = Ports(1, 1)
    Config: ClassVar[type[NodeConfig]] = SinkFileConfig
    trusted: ClassVar[bool] = True

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        if "compress" in found and "compression" not in found:
            found["compression"] = found.pop("compress")
        return found

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        problems = []
        if not is_unresolved(config.path):
            if ".." in Path(config.path).parts:
                problems.append(Problem("must not contain '..'; file nodes reach only the data folders", node.id, "path"))
            try:
                writing = _writing(config)
                _check_append(config, writing)
            except ValueError as error:
                problems.append(Problem(str(error), node.id, _field(config, error)))
        return Analysis(tuple(problems), inputs[0] if inputs else None)

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        return Assets(writes=(naming.file(text(config, "path"), text(config, "conn_id")),))

    def run(self, context: NodeContext) -> Written:
        config: SinkFileConfig = context.config
        writing = _checked(config)
        columns = _columns(context)
        if config.conn_id:
            return Written(_store(context, writing, columns))
        target = context.files.resolve_write(config.path)
        if config.mode == "append":
            return Written(_append(context, writing, columns, target))
        with _draft(target) as draft:
            count = _copy(context, writing, columns, quote(context.inputs[0].view), draft, header=config.header)
            _put(draft, target, context.stop)
        return Written(count)

    def dry_run(self, context: NodeContext) -> WouldWrite:
        config: SinkFileConfig = context.config
        writing = _checked(config)
        columns = _columns(context)
        if config.conn_id:  # a dry run asks no server of a sink what it has
            return WouldWrite(context.inputs[0].row_count, columns, f"{config.path} ({config.conn_id})", config.mode, exists=False)
        target = context.files.resolve_target(config.path)
        exists = target.exists()
        existing, refusal = None, ""
        if exists and target.stat().st_size:
            existing = appending.columns_of(context, writing, target)
            refusal = appending.refusal(context, writing, target, columns) if config.mode == "append" else ""
        return WouldWrite(context.inputs[0].row_count, columns, config.path, config.mode, exists, existing, refusal)


def _checked(config: SinkFileConfig) -> Writing:
    """Errors: `NodeError`."""
    try:
        writing = _writing(config)
        _check_append(config, writing)
    except ValueError as error:
        raise NodeError(f"Field '{_field(config, error)}': {error}") from error
    return writing


def _writing(config: SinkFileConfig) -> Writing:
    """Errors: `ValueError` with a sentence."""
    kind = formats.writable(config.path, config.format)
    possible = PARQUET_COMPRESSIONS if kind == "parquet" else TEXT_COMPRESSIONS
    default = "snappy" if kind == "parquet" else "gzip" if formats.is_gzipped(config.path) else "none"
    compression = config.compression or default
    if kind == "xlsx" and compression != "none":
        raise ValueError("xlsx files are compressed in themselves; leave compression out, and .gz off the name.")
    if compression not in possible:
        raise ValueError(f"{kind} files can be compressed with {', '.join(possible)}, not with {compression}.")
    table = config.table or Path(config.path).name.split(".", 1)[0]
    return Writing(kind, compression, config.delimiter, config.header, table, config.neutralise_formulas)


def _field(config: SinkFileConfig, error: ValueError) -> str:
    """Which key of the config the sentence is about."""
    if "compress" in str(error):
        return "compression"
    return "format" if config.format else "path"


def _check_append(config: SinkFileConfig, writing: Writing) -> None:
    if config.mode == "append" and config.conn_id:
        raise ValueError("rows cannot be appended to a file behind a connection: two runs at once would lose some. Write a file for each run.")
    if config.mode == "append" and writing.kind == "xlsx":
        raise ValueError("rows cannot be appended to a workbook: its formats, formulas and other sheets would be lost. Write another file, or csv.")
    if config.mode == "append" and writing.kind == "json" and writing.compression != "none":
        raise ValueError("rows cannot be appended to a compressed JSON array. Use jsonl, or compression none.")


def _columns(context: NodeContext) -> tuple[Column, ...]:
    """The input's columns as its artifact has them."""
    rows = context.connection.execute(f"DESCRIBE SELECT * FROM {quote(context.inputs[0].view)}").fetchall()  # noqa: S608 - quoted
    return tuple(Column(row[0], row[1]) for row in rows)


def _copy(context: NodeContext, writing: Writing, columns: Sequence[Column], source: str, draft: Path, *, header: bool) -> int:
    """Write the relation `source` to `draft`; the number of rows."""
    if writing.kind == "xlsx":
        return workbook_writing.write(context, columns, source, draft, context.config.sheet, header=header)
    plain = context.scratch() / "plain" if writing.kind != "parquet" and writing.compression == "gzip" else draft
    row = context.connection.execute(writing.copy(columns, source, str(plain), header=header)).fetchone()
    if plain is not draft:
        pack(plain, draft, context.stop)
        plain.unlink()
    return int(row[0]) if row else 0


def _append(context: NodeContext, writing: Writing, columns: Sequence[Column], target: Path) -> int:
    """Add the input's rows to the file. Readers see it before or after, never between; appends to one folder take turns.

    The new rows are written first; the turn is taken only to put old and new together in a draft and rename it. Rows that an
    earlier attempt added (its worker died before it could say so) are not added again.
    """
    mark = append_ledger.mark(context.run.run_id, context.node.id)
    source = quote(context.inputs[0].view)
    with _draft(target) as rows, _draft(target) as draft:
        count = _copy(context, writing, columns, source, rows, header=False)
        with _turn(target.parent, context.stop):
            there = append_ledger.find(target, mark)
            if there is not None:
                context.log.info(f"An earlier attempt has appended these rows ({there}) already.")
                return there
            if not target.exists() or target.stat().st_size == 0:
                _copy(context, writing, columns, source, draft, header=context.config.header)
            elif writing.kind == "parquet":
                appending.check_parquet(context, target, columns)
                both = f"(FROM read_parquet({literal(exact_pattern(target))}) UNION ALL BY NAME FROM {source})"
                _copy(context, writing, columns, both, draft, header=False)
            else:
                appending.check_text(context, writing, target, columns)
                appending.join_text(writing, target, rows, draft, context.stop)
            append_ledger.copy(target, draft, mark, count)
            _put(draft, target, context.stop)
    return count


def _store(context: NodeContext, writing: Writing, columns: Sequence[Column]) -> int:
    """Write the input to a file behind the connection, by way of one here; the number of rows."""
    draft = context.scratch() / "draft"
    count = _copy(context, writing, columns, quote(context.inputs[0].view), draft, header=context.config.header)
    remote.stored(context, context.config.conn_id, context.config.path, draft)
    return count


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A path beside `target`; what is left there afterwards is removed."""
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.draft")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _put(draft: Path, target: Path, stop: Stop) -> None:
    if target.exists():
        shutil.copymode(target, draft)
    durable.put(draft, target, stop.check)


@contextlib.contextmanager
def _turn(folder: Path, stop: Stop) -> Iterator[None]:
    """Hold the folder's lock: the lock of a folder leaves no file behind, and falls with its process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            stop.check()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop.wait(_LOCK_SECONDS)
        yield
    finally:
        os.close(descriptor)
