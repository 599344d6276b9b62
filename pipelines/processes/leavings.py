"""What a script left in its folder, read in the worker once all its processes are gone.

A script may have put anything there in the place of what `script.py` writes: a pipe that nobody ever writes to, a link, a file that
is larger than memory, or one that becomes so. None of it may hold up the worker or fill its memory.
"""

import os
import stat
import threading
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from pipelines.processes.protocol import OUTPUT, RESULT

_MOST_RESULT_BYTES = 4 * 1024**2
# Counts what is allocated while a file is read. It outlives what was read with it.
_POOL = pa.proxy_memory_pool(pa.default_memory_pool())
_reading = threading.Lock()  # so that what the pool counts is one file's


class Unusable(Exception):
    """Something else was written in the place of the output."""


class Failure(BaseModel, strict=True):
    """What the script raised. `line` is the script's; `trace` what Python would print."""

    kind: str
    message: str
    line: int | None
    trace: list[str]
    number: int | None = None  # of an error of the system


class Said(BaseModel, strict=True):
    """What became of the script: a failure, the number of the input that passes through, or neither, and there is an output."""

    error: Failure | None = None
    passes: int | None = None
    warnings: list[str] = []


def said(folder: Path) -> Said | None:
    """What the script's process says; None when it did not live to say it, or something else is written there."""
    try:
        with open(_regular(folder / RESULT), "rb") as file:
            text = file.read(_MOST_RESULT_BYTES + 1)
        return Said.model_validate_json(text) if len(text) <= _MOST_RESULT_BYTES else None
    except (OSError, ValidationError):
        return None


def table(folder: Path) -> pa.Table:
    """The output, mapped from its file: it takes no memory of the process. Errors: `Unusable`."""
    try:
        os.close(_regular(folder / OUTPUT))
        found = _mapped(folder / OUTPUT)
        found.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise Unusable from error
    return found


def _mapped(path: Path) -> pa.Table:
    """Errors: `Unusable` for buffers that are compressed, which a script may have made of any size."""
    with pa.memory_map(str(path)) as file, _reading:
        reader = pa.ipc.open_file(file, memory_pool=_POOL)
        batches = []
        for number in range(reader.num_record_batches):
            batches.append(reader.get_batch(number))
            if _POOL.bytes_allocated():
                batches.clear()
                raise Unusable
        return pa.Table.from_batches(batches, reader.schema)


def _regular(path: Path) -> int:
    """A descriptor of the file. Errors: `OSError`, for what is no regular file, too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError("no regular file")
