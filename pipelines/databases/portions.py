"""Rows in portions that fit into memory, however large some of them are."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

MOST_BYTES = 64 * 1024**2  # of a portion, one row more or less
LARGEST_VALUE = 256 * 1024**2  # bytes of one value, or of one row as it arrives


def texts_of(schema: pa.Schema) -> list[int]:
    """The columns whose values may be large."""
    return [number for number, kind in enumerate(schema.types) if pa.types.is_string(kind) or pa.types.is_binary(kind)]


def portion(rows: Iterable[Sequence[Any]], most: int, texts: Sequence[int]) -> list[Sequence[Any]]:
    """The next rows: so many at most, and fewer where their texts and bytes, in the columns `texts`, are large."""
    if not texts:
        return list(islice(rows, most))
    found, size = [], 0
    for row in islice(rows, most):
        found.append(row)
        for column in texts:
            value = row[column]
            if isinstance(value, str | bytes):
                size += len(value)
        if size >= MOST_BYTES:
            break
    return found
