"""An output as a download: the Parquet file itself, or its rows as CSV or JSON lines, a batch of them at a time."""

from collections.abc import Generator
from typing import BinaryIO

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from runs import plain

_CHUNK = 256 * 1024  # bytes
# A batch is the least of these, so that neither many rows, nor many columns, nor long texts decide how much memory it takes.
_ROWS, _CELLS, _BYTES = 10_000, 200_000, 8 * 1024 * 1024

# A spreadsheet executes a text that starts like a formula, full-width signs included. What is only a number in quotes is left alone.
_FORMULA = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
_NUMBER = r"^[+-]?\d+([.,]\d+)?$"


def parquet(file: BinaryIO) -> Generator[bytes]:
    """The file as it is."""
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


def jsonl(file: BinaryIO) -> Generator[bytes]:
    """One JSON object a row; values as `plain` writes them."""
    for batch in _batches(file):
        names = batch.schema.names
        columns = [plain.values(column) for column in batch.columns]
        rows = zip(*columns, strict=True)
        yield b"".join(orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def csv(file: BinaryIO, *, raw: bool) -> Generator[bytes]:
    """A header and a line a row, UTF-8, fields quoted where they must be; NULL is empty, an empty text is `""`.

    Unless `raw`, a text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    header = True
    for batch in _batches(file):
        columns = [plain.cells(column) for column in batch.columns]
        names = pa.array(batch.schema.names, pa.string())
        if not raw:
            columns = [_harmless(column) if plain.is_text(column.type) else column for column in columns]
            names = _harmless(names)
        table = pa.table(columns, schema=pa.schema(list(zip(names.to_pylist(), (column.type for column in columns), strict=True))))
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(include_header=header))
        yield sink.getvalue().to_pybytes()
        header = False


def _batches(file: BinaryIO) -> Generator[pa.RecordBatch]:
    """The file's rows in pieces of bounded size; one empty piece when it has none, for the sake of its columns."""
    with file, pq.ParquetFile(file, buffer_size=_CHUNK, pre_buffer=False) as rows:
        if rows.metadata.num_rows == 0:
            yield pa.RecordBatch.from_pylist([], schema=rows.schema_arrow)
            return
        yield from rows.iter_batches(batch_size=_batch_rows(rows.metadata), use_threads=False)


def _batch_rows(metadata: pq.FileMetaData) -> int:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    widest = max(group.total_byte_size / max(1, group.num_rows) for group in groups)  # bytes a row, before compression
    return max(1, int(min(_ROWS, _CELLS / metadata.num_columns, _BYTES / max(1.0, widest))))


def _harmless(column: pa.Array) -> pa.Array:
    risky = pc.and_not(pc.match_substring_regex(column, _FORMULA), pc.match_substring_regex(column, _NUMBER))
    return pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)
