"""Room that deleted rows leave in SQLite's file: given back to the file system in small steps, while others work.

SQLite reuses free pages and never shrinks its file by itself. One that was made with `auto_vacuum = INCREMENTAL` can be shrunk piece by piece, which
has to be decided while it is empty. PostgreSQL's autovacuum makes the room of deleted rows usable again; its files shrink by `VACUUM FULL` only.
"""

import contextlib
import time
from typing import Any

import structlog
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections

logger = structlog.get_logger(__name__)

_INCREMENTAL = 2
# What the next runs are going to need stays: a share of the file, and a little in any case.
_KEPT_SHARE, _KEPT_PAGES = 20, 256
# SQLite has one write lock; so long may a step hold it.
_STEP_SECONDS = 0.04
_FIRST_STEP, _LARGEST_STEP = 64, 4096  # pages


def make_shrinkable(*, using: str = DEFAULT_DB_ALIAS, **_: Any) -> None:
    """Of a database that is empty, as `migrate` begins with it: let it give back room later."""
    database = connections[using]
    if database.vendor != "sqlite" or database.in_atomic_block:
        return
    with database.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM sqlite_master")
        if cursor.fetchone()[0] == 0:
            # Somebody else may be making it at this moment, in the same way.
            with contextlib.suppress(OperationalError):
                cursor.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
                cursor.execute("VACUUM")  # what the journal's mode has written already would fix the old one


def give_back(seconds: float = float("inf")) -> int:
    """Shrink the file by what is free and not needed soon, for so long. Returns the bytes that it is smaller by.

    0 where there is nothing to do, of a file that cannot be shrunk (see `rebuild`), and inside a transaction. When somebody else writes for longer
    than anybody waits, the rest is for another time.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block or _pragma("auto_vacuum") != _INCREMENTAL:
        return 0
    until, step, pages = time.monotonic() + seconds, _FIRST_STEP, 0
    while time.monotonic() < until:
        spare = _pragma("freelist_count") - max(_KEPT_PAGES, _pragma("page_count") // _KEPT_SHARE)
        if spare <= 0:
            break
        size = min(step, spare)
        try:
            took = _shrink(size)
        except OperationalError as error:
            logger.info("no more room given back for now", reason=str(error))
            break
        pages += size
        step = max(1, min(_LARGEST_STEP, int(size * _STEP_SECONDS / max(took, 0.001))))
        time.sleep(min(took, max(0.0, until - time.monotonic())))  # as long as others had to wait
    if not pages:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")  # moves the new, smaller size from the journal to the file
    given = pages * _pragma("page_size")
    logger.info("room given back", bytes=given)
    return given


def rebuild() -> bool:
    """Write the whole file anew, without free pages, and so that it can be shrunk from then on. Others wait; it takes as much room again.

    False where there is no such file.
    """
    if connection.vendor != "sqlite":
        return False
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return True


def _shrink(pages: int) -> float:
    """Cut so many pages off the end, in one transaction of its own. Returns the seconds that it held the lock, or waited for it.

    Errors: `OperationalError` when somebody else holds it for long.
    """
    started = time.monotonic()
    connection.ensure_connection()
    # Each page is a row without columns, which `execute` does not ask for: it would cut off one page.
    with connection.wrap_database_errors:
        connection.connection.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
    return time.monotonic() - started


def _pragma(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        return int(cursor.fetchone()[0])
