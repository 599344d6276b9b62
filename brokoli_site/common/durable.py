"""Files that are seen whole or not at all, whatever dies meanwhile: written beside, made durable, renamed."""

import os
from collections.abc import Callable
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power cut. Errors: `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(draft: Path, final: Path, check: Callable[[], None] = lambda: None) -> None:
    """Make `draft` durable and give it the name `final` (on the same disk), replacing what had it.

    `check` is called right before the rename, after the slow part; what it raises leaves `final` as it was. Errors: `OSError`.
    """
    sync(draft)
    check()
    draft.rename(final)
    sync(final.parent)
