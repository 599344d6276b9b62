"""Rows and data frames as Arrow tables, and back.

Errors: `BadOutput` with a sentence for whoever wrote the script.
"""

import contextlib
import datetime as dt
import decimal
import gc
import importlib.util
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_DIGITS = 38  # of a DECIMAL
_MICROSECONDS = 1_000_000
_FIRST_TIME, _LAST_TIME = -62_135_596_800 * _MICROSECONDS, 253_402_300_800 * _MICROSECONDS - 1  # those of `datetime`
_PLAIN = (str, int, float, bool, bytes, decimal.Decimal, dt.date, dt.datetime, dt.time, dt.timedelta, dict, list, tuple)
_SHOWN = 10
NOTHING = "_empty"  # the only column of an output that has neither columns nor rows
EXPECTED = 'It is {"columns": [names], "rows": [rows]}, a DataFrame or an Arrow table.'


class BadOutput(Exception):
    """`output_data` cannot be a data set."""


def with_intervals(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with those columns as intervals. Parquet has them as 12 bytes (months, days, milliseconds), and Arrow reads just these."""
    for name in names:
        values = [None if raw is None else _interval(raw) for raw in table[name].to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.month_day_nano_interval()))
    return table


def _interval(raw: bytes) -> pa.MonthDayNano:
    months, days, milliseconds = struct.unpack("<3I", raw)
    return pa.MonthDayNano([months, days, milliseconds * 1_000_000])


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The table's rows, each a dict by column name."""
    names = table.column_names
    with _collected_later():
        columns = [_values(table.column(index)) for index in range(table.num_columns)]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    if column.type.unit == "ns":
        # Python's times end at microseconds.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return _times(column) if column.type.tz in (None, "UTC") else list(column.to_pylist())


def _times(column: pa.ChunkedArray) -> list[Any]:
    """As `to_pylist`, which makes each time by itself: forty times slower than numpy, where there is one."""
    bounds = pc.min_max(column.cast(pa.timestamp("us")).cast(pa.int64())).as_py()
    if importlib.util.find_spec("numpy") is None or bounds["min"] is None or bounds["min"] < _FIRST_TIME or bounds["max"] > _LAST_TIME:
        return list(column.to_pylist())
    values: list[Any] = column.cast(pa.timestamp("us")).to_numpy().tolist()
    if column.type.tz is None:
        return values
    zone = next(value for value in column if value.is_valid).as_py().tzinfo
    return [None if value is None else value.replace(tzinfo=zone) for value in values]


@contextlib.contextmanager
def _collected_later() -> Iterator[None]:
    """Many objects are made of which none is garbage: a search for it every few hundred of them would take longer than all else."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collected:
            gc.enable()


def to_table(output: object, known: pa.Schema | None) -> tuple[pa.Table, list[str]]:
    """What a script gave, as a table that DuckDB can read, and warnings. `known` are the columns of its first input: their types are kept."""
    if isinstance(output, pa.Table):
        return _stored(output), []
    if isinstance(output, pa.RecordBatch):
        return _stored(pa.Table.from_batches([output])), []
    if isinstance(output, Mapping):
        return _of_mapping(output, known)
    if isinstance(output, list) and all(isinstance(row, Mapping) for row in output):
        names = list(dict.fromkeys(key for row in output for key in row))
        return _of_rows(names, output, known)
    if hasattr(output, "iloc") and hasattr(output, "columns"):
        return _of_frame(output, known)
    if hasattr(output, "__arrow_c_stream__"):
        with contextlib.suppress(pa.ArrowInvalid):  # it is no table: a single column, say
            return _stored(pa.table(output)), []
    single = " A single column is made a table by its to_frame()." if hasattr(output, "to_frame") else ""
    raise BadOutput(f"output_data is of type {type(output).__name__}. {EXPECTED}{single}")


def _of_mapping(output: Mapping[str, Any], known: pa.Schema | None) -> tuple[pa.Table, list[str]]:
    if "rows" not in output:
        raise BadOutput(f"output_data has no 'rows'. {EXPECTED}")
    rows, names = output["rows"], output.get("columns")
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        if not hasattr(rows, "__iter__") or isinstance(rows, str | bytes | Mapping):
            raise BadOutput(f"The rows of output_data are of type {type(rows).__name__}, not a list.")
        rows = list(rows)
    if not names and not rows:
        # A script that only waited, say. Parquet has no table without columns.
        return pa.table({NOTHING: pa.array([], pa.string())}), []
    if not names:
        names = list(dict.fromkeys(key for row in rows if isinstance(row, Mapping) for key in row))
    return _of_rows(list(names), rows, known)


def _of_rows(names: list[Any], rows: Sequence[Any], known: pa.Schema | None) -> tuple[pa.Table, list[str]]:
    if not all(isinstance(name, str) for name in names):
        raise BadOutput("The columns of output_data are not all texts.")
    _check_names(names)
    with _collected_later():
        columns, warnings = _columns(names, rows)
    kinds = {} if known is None else {field.name: field.type for field in known}
    arrays = [_array(name, values, kinds.get(name), warnings) for name, values in zip(names, columns, strict=True)]
    return _stored(pa.table(arrays, names=names)), warnings


def _columns(names: list[str], rows: Sequence[Any]) -> tuple[list[list[Any]], list[str]]:
    if all(isinstance(row, dict) for row in rows):
        wanted = set(names)
        extra = {key for row in rows if not row.keys() <= wanted for key in row.keys() - wanted}
        warnings = []
        if extra:
            shown = ", ".join(sorted(map(str, extra))[:_SHOWN])
            warnings.append(f"Rows have values that are not among the columns of output_data and are left out: {shown}.")
        return [[row.get(name) for row in rows] for name in names], warnings
    columns: list[list[Any]] = [[] for _ in names]
    for number, row in enumerate(rows, start=1):
        for column, value in zip(columns, _positional(names, row, number), strict=True):
            column.append(value)
    return columns, []


def _positional(names: list[str], row: object, number: int) -> Iterator[Any]:
    if isinstance(row, Mapping):
        return (row.get(name) for name in names)
    if isinstance(row, Sequence) and not isinstance(row, str | bytes):
        if len(row) != len(names):
            raise BadOutput(f"Row {number} of output_data has {len(row)} values for {len(names)} columns.")
        return iter(row)
    if len(names) == 1:
        return iter((row,))
    raise BadOutput(f"Row {number} of output_data is of type {type(row).__name__}; a row is a dict, or a list with a value for each column.")


def _array(name: str, given: list[Any], known: pa.DataType | None, warnings: list[str]) -> pa.Array:
    if known is not None and (kept := _as_known(given, known)) is not None:
        return kept
    try:
        return pa.array(given, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        pass
    values = [_plain(value) for value in given]
    if any(type(value).__module__ == "numpy" for value in given):
        return _array(name, values, known, warnings)
    kinds = sorted({type(value).__name__ for value in values if value is not None})
    if set(kinds) <= {"int", "bool", "Decimal"} and all(abs(value) < 10**_DIGITS for value in values if value is not None):
        try:
            whole = None if "Decimal" in kinds else pa.decimal128(_DIGITS, 0)
            return pa.array([None if value is None else decimal.Decimal(value) for value in values], whole)
        except (pa.ArrowException, ValueError):
            pass
    for number, value in enumerate(values, start=1):
        if value is not None and not isinstance(value, _PLAIN):
            raise BadOutput(f"Column '{name}', row {number}: a value of type {type(value).__name__} cannot be stored. Make it a text or a number.")
    warnings.append(f"Column '{name}' mixes values of types {', '.join(kinds)}; they are stored as text.")
    return pa.array([_as_text(value) for value in values], pa.string())


def _as_known(values: list[Any], known: pa.DataType) -> pa.Array | None:
    """The values in the type that the input's column has, if that loses nothing."""
    try:
        array = pa.array(values, known, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError, NotImplementedError):
        return None
    if pa.types.is_floating(known) and known.bit_width < 64:
        exact = all(a is None or a == b for a, b in zip(array.to_pylist(), values, strict=True))
        return array if exact else None
    if pa.types.is_date(known) and any(isinstance(value, dt.datetime) for value in values):
        return None  # their times of day would be lost
    if pa.types.is_integer(known) and any(isinstance(value, bool | float) for value in values):
        # `2.0` would fit; whether a column is whole must not depend on the day's values. But where pandas has a gap among
        # whole numbers, it makes all of them such.
        return array if any(isinstance(value, float) and math.isnan(value) for value in values) else None
    return array


def _plain(value: Any) -> Any:
    """Python's own value for one of numpy's; None for what pandas puts where there is none: NaN, NaT, NA."""
    if (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NaTType", "NAType"):
        return None
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def _of_frame(frame: Any, known: pa.Schema | None) -> tuple[pa.Table, list[str]]:
    """A pandas data frame. An index that has a name is data (`groupby` makes such); one that only counts is not."""
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise BadOutput("The DataFrame's columns have several levels. Give them one: df.columns = ['_'.join(map(str, name)) for name in df.columns].")
    index = [name for name in getattr(frame.index, "names", ()) if name is not None]
    if taken := [str(name) for name in index if name in frame.columns]:
        raise BadOutput(f"The DataFrame's index is called '{taken[0]}', as one of its columns is. Rename it, or leave it: df.reset_index(drop=True).")
    if index:
        frame = frame.reset_index()
    names = [str(name) for name in frame.columns]
    _check_names(names)
    kinds = {} if known is None else {field.name: field.type for field in known}
    warnings: list[str] = []
    arrays = []
    for position, name in enumerate(names):
        series = frame.iloc[:, position]
        if str(series.dtype).startswith("period"):
            series = series.astype("string")  # as people write it; Arrow has but a number for it
        if name in kinds and (kept := _series_as_known(series, kinds[name])) is not None:
            arrays.append(kept)
            continue
        try:
            arrays.append(pa.Array.from_pandas(series))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            arrays.append(_array(name, series.tolist(), None, warnings))
    return _stored(pa.table(arrays, names=names)), warnings


def _series_as_known(series: Any, known: pa.DataType) -> pa.Array | None:
    """What pandas keeps otherwise than the input had it: whole numbers with gaps become floats, decimals and dates objects."""
    if series.dtype.kind in "Of" and bool(series.isna().all()):
        return pa.nulls(len(series), known)  # no value, or no row at all, says nothing of the type
    gaps = pa.types.is_integer(known) and series.dtype.kind == "f" and bool(series.isna().any())
    exact = series.dtype == object and (
        pa.types.is_decimal(known) or (pa.types.is_date(known) and not any(isinstance(v, dt.datetime) for v in series))
    )
    if not (gaps or exact):
        return None
    try:
        return pa.Array.from_pandas(series, type=known)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise BadOutput('output_data has no columns. Name them in "columns", also when there are no rows.')
    seen: set[str] = set()
    for name in names:
        if not name:
            raise BadOutput("A column of output_data has an empty name.")
        if name.casefold() in seen:
            raise BadOutput(f"output_data has more than one column '{name}' (upper and lower case are one).")
        seen.add(name.casefold())


def _stored(table: pa.Table) -> pa.Table:
    """The same rows in types that DuckDB reads and Parquet keeps."""
    _check_names(table.column_names)
    arrays = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if isinstance(column.type, pa.BaseExtensionType) and column.type.extension_name != "arrow.uuid":
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)  # noqa: PLW2901
        wanted = _storable(column.type)
        try:
            arrays.append(column if wanted == column.type else column.cast(wanted))
        except (pa.ArrowException, NotImplementedError) as error:
            raise BadOutput(f"Column '{name}' is of type {column.type}, which cannot be stored as {wanted}.") from error
    return pa.table(arrays, names=table.column_names)


def _storable(kind: pa.DataType) -> pa.DataType:
    """The type itself, or the nearest that can be kept."""
    found = kind
    if pa.types.is_null(kind) or (pa.types.is_struct(kind) and kind.num_fields == 0):
        found = pa.string()
    elif pa.types.is_dictionary(kind):
        found = _storable(kind.value_type)
    elif pa.types.is_float16(kind):
        found = pa.float32()
    elif pa.types.is_decimal256(kind):
        found = pa.decimal128(_DIGITS, min(kind.scale, _DIGITS))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _storable(kind.value_type)
        found = kind if inner == kind.value_type else pa.list_(inner)
    elif pa.types.is_struct(kind):
        fields = [pa.field(field.name, _storable(field.type)) for field in kind]
        found = kind if all(a.type == b.type for a, b in zip(fields, kind, strict=True)) else pa.struct(fields)
    return found
