"""Arrow columns as plain values: those that JSON and CSV can carry without loss or surprise.

The rules, for every place that shows data: integers beyond 2^53 and decimals become text (a JSON number is a double to many
readers), NaN and infinities null, times ISO 8601, intervals as DuckDB writes them, binary base64, lists and structs stay what they are.
"""

import base64
import itertools
import json
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_INTERVAL = struct.Struct("<III")  # months, days, milliseconds
_EXACT = 2**53  # whole numbers up to here survive a reader that keeps all numbers as doubles


def values(column: pa.Array) -> list[Any]:
    """The column's values, safe for JSON."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return [None if v is None else str(v) for v in column.to_pylist()] if kind.extension_name == "arrow.uuid" else values(column.storage)
    if pa.types.is_dictionary(kind):
        return values(column.dictionary_decode())
    for fits, convert in _CONVERSIONS:
        if fits(kind):
            return convert(column)
    return list(column.to_pylist())


def text(column: pa.Array) -> pa.Array:
    """A column of times or decimals as text: `2024-01-15T06:00:00.5Z`, `12.50`."""
    written = column.cast(pa.string())
    if not pa.types.is_temporal(column.type):
        return written
    for pattern, replacement in (
        (r"^<value out of range: -.*", "-infinity"),
        (r"^<value out of range: .*", "infinity"),
        (r"(\.\d*?)0+(Z?)$", r"\1\2"),  # zeros at the end of the fraction,
        (r"\.(Z?)$", r"\1"),  # and the point, when nothing is left behind it
        (r"^(\S+) ", r"\1T"),
    ):
        written = pc.replace_substring_regex(written, pattern, replacement)
    return written


def cells(column: pa.Array) -> pa.Array:
    """The column as `pyarrow.csv` can write it: numbers, booleans and texts stay, all else becomes text."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name != "arrow.uuid":
        return cells(column.storage)
    if pa.types.is_primitive(kind) and not pa.types.is_temporal(kind):
        return column
    if is_text(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        return column
    if pa.types.is_temporal(kind):
        return text(column)
    plain = values(column)
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in plain], pa.string())


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _integers(column: pa.Array) -> list[Any]:
    extremes = pc.min_max(column)
    least, most = extremes["min"].as_py(), extremes["max"].as_py()
    if least is None or (least >= -_EXACT and most <= _EXACT):
        return list(column.to_pylist())
    return [v if v is None or -_EXACT <= v <= _EXACT else str(v) for v in column.to_pylist()]


def _nested(column: pa.Array) -> list[Any]:
    kind, valid = column.type, column.is_valid().to_pylist()
    if pa.types.is_struct(kind):
        children = [values(pc.struct_field(column, i)) for i in range(kind.num_fields)]
        names = [kind.field(i).name for i in range(kind.num_fields)]
        rows = zip(*children, strict=True) if children else (() for _ in valid)
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)]
    if pa.types.is_map(kind):
        # Offsets count in the whole arrays of keys and items, of which a slice of the column uses a part.
        ends, names, items = column.offsets.to_pylist(), column.keys.cast(pa.string()).to_pylist(), values(column.items)
        pieces = (slice(start, end) for start, end in itertools.pairwise(ends))
        return [dict(zip(names[piece], items[piece], strict=True)) if there else None for piece, there in zip(pieces, valid, strict=True)]
    flat = iter(values(pc.list_flatten(column)))  # without those of null lists
    return [
        list(itertools.islice(flat, length)) if there else None for length, there in zip(pc.list_value_length(column).to_pylist(), valid, strict=True)
    ]


def _floats(column: pa.Array) -> list[Any]:
    return list(pc.if_else(pc.is_finite(column), column, None).to_pylist())


def _base64(column: pa.Array) -> list[Any]:
    return [None if v is None else base64.b64encode(v).decode("ascii") for v in column.to_pylist()]


def _is_interval(kind: pa.DataType) -> bool:
    """Parquet's intervals have no type in Arrow. Of what DuckDB writes, nothing else is binary of that width."""
    return bool(pa.types.is_fixed_size_binary(kind)) and kind.byte_width == _INTERVAL.size


def _intervals(column: pa.Array) -> list[Any]:
    return [None if v is None else _interval(*_INTERVAL.unpack(v)) for v in column.to_pylist()]


def _interval(months: int, days: int, milliseconds: int) -> str:
    """`1 year 2 months 3 days 04:00:05.5`, as a preview shows it."""
    seconds, thousandths = divmod(milliseconds, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (f".{thousandths:03}".rstrip("0") if thousandths else "")
    amounts = ((months // 12, "year"), (months % 12, "month"), (days, "day"))
    parts = [f"{amount} {unit}{'' if amount == 1 else 's'}" for amount, unit in amounts if amount]
    return " ".join([*parts, clock] if milliseconds or not parts else parts)


def _written(column: pa.Array) -> list[Any]:
    return list(text(column).to_pylist())


_CONVERSIONS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], list[Any]]], ...] = (
    (pa.types.is_temporal, _written),
    (pa.types.is_decimal, _written),
    (pa.types.is_integer, _integers),
    (pa.types.is_floating, _floats),
    (pa.types.is_binary, _base64),
    (pa.types.is_large_binary, _base64),
    (_is_interval, _intervals),
    (pa.types.is_fixed_size_binary, _base64),
    (pa.types.is_nested, _nested),
)
