"""An output as a download: the Parquet file itself, or its rows as CSV or JSON lines, a batch of them at a time."""

from collections.abc import Generator
from typing import BinaryIO

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from brokoli_site.common import spreadsheets
from runs import plain

_CHUNK = 256 * 1024  # bytes
# How much is converted at once: the least of these, so that neither many rows, nor many columns, nor long texts decide how
# much memory it takes. What a text takes is known only when it is decoded (a file stores equal ones once), hence the small
# steps, and the sample that makes them smaller where the first rows are large.
_ROWS, _CELLS, _BYTES = 10_000, 500_000, 4 * 1024 * 1024
_STEP_ROWS, _SAMPLE_ROWS = 250, 10

_NUMBER = f"^{spreadsheets.NUMBER}$"


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
        most_rows = max(1, min(_ROWS, _CELLS // rows.metadata.num_columns))
        gathered: list[pa.RecordBatch] = []
        row_count = byte_count = 0
        sample = next(rows.iter_batches(batch_size=_SAMPLE_ROWS, row_groups=[0], use_threads=False))
        step_rows = max(1, min(_STEP_ROWS, most_rows, _BYTES * sample.num_rows // max(1, sample.nbytes)))
        for step in rows.iter_batches(batch_size=step_rows, use_threads=False):
            gathered.append(step)
            row_count, byte_count = row_count + step.num_rows, byte_count + step.nbytes
            if row_count >= most_rows or byte_count >= _BYTES:
                yield from _pieces(gathered)
                gathered, row_count, byte_count = [], 0, 0
        if gathered:
            yield from _pieces(gathered)


def _pieces(gathered: list[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
    """The batches as one, or as several where a few rows are large."""
    whole = pa.concat_batches(gathered)
    count = max(1, whole.num_rows * _BYTES // max(_BYTES, whole.nbytes))
    for start in range(0, whole.num_rows, count):
        yield whole.slice(start, count)


def _harmless(column: pa.Array) -> pa.Array:
    risky = pc.and_not(pc.match_substring_regex(column, spreadsheets.FORMULA), pc.match_substring_regex(column, _NUMBER))
    return pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)
