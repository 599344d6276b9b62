"""Which appends a file holds, kept with the file itself: one that is asked for again, because its worker died right after it, is known.

The marks are an extended attribute of the file, set on the draft before it is renamed into place: rows and mark become visible in
the same instant, or neither does. Not every file system has extended attributes; without them an append may be repeated after such a
death. Nor do marks survive a program that writes the file anew, or more than the last `_KEPT` appends.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

_NAME = "user.brokoli.appended"
_KEPT = 64  # of some 30 bytes: ext4 has room for 4,000 in all


def mark(run_id: str, node_id: str) -> str:
    """Names what one node of one run appends: that is to happen once, in however many attempts."""
    return hashlib.blake2b(f"{run_id}\0{node_id}".encode(), digest_size=10).hexdigest()


def find(file: Path, wanted: str) -> int | None:
    """How many rows were appended under that mark; None when they were not."""
    return next((rows for name, rows in _read(file) if name == wanted), None)


def copy(file: Path, draft: Path, added: str, rows: int) -> None:
    """Give `draft` the marks of `file` (which need not exist) and one more."""
    kept = [*_read(file), (added, rows)][-_KEPT:]
    with suppress(OSError, AttributeError):
        os.setxattr(draft, _NAME, ",".join(f"{name}:{count}" for name, count in kept).encode())


def _read(file: Path) -> list[tuple[str, int]]:
    try:
        text = os.getxattr(file, _NAME).decode()
        return [(name, int(count)) for name, _, count in (part.partition(":") for part in text.split(","))]
    except (OSError, AttributeError, ValueError):  # no such file, no marks, a file system or a system without them, marks of others
        return []
