"""What a job does with its tables, done once in the fork server.

Arrow, numpy and pandas set up much of themselves when a thing is first done with them. A job would pay for that each time, for it is
a fork that is thrown away: 15 of the 60 milliseconds that a script of ten rows took. Nothing here may start a thread.
"""

import datetime as dt
import importlib.util

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.processes import tables


def rehearse() -> None:
    """Read a small table, make rows and a data frame of it, and write both, in memory."""
    made = pa.table(
        {
            "whole": [1, None],
            "number": [1.5, None],
            "text": ["a", None],
            "flag": [True, None],
            "day": [dt.date(2024, 1, 1), None],
            "time": pa.array([dt.datetime(2024, 1, 1), None], pa.timestamp("us")),  # noqa: DTZ001 - it has no zone
        }
    )
    file = pa.BufferOutputStream()
    pq.write_table(made, file)
    with pq.ParquetFile(pa.BufferReader(file.getvalue())) as opened:
        table = opened.read(use_threads=False)
    _write(tables.to_rows(table), table.schema)
    if importlib.util.find_spec("pandas") is not None:
        frame = table.to_pandas(use_threads=False)
        frame["more"] = frame["whole"] * frame["number"]
        _write(frame, table.schema)


def _write(output: object, known: pa.Schema) -> None:
    table, _ = tables.to_table(output, known)
    with pa.ipc.new_file(pa.BufferOutputStream(), table.schema) as writer:
        writer.write_table(table)
