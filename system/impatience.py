"""A connection to the database that gives up soon: for those who ask whether it answers at all."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

_SECONDS = 1  # for a lock of SQLite, or a statement of PostgreSQL


@contextmanager
def impatient_connection() -> Iterator[BaseDatabaseWrapper]:
    """This thread's connection while the block lasts, for the ORM too. It is a new one, and closed afterwards."""
    patient = connections["default"]
    mine = patient.copy()
    options = mine.settings_dict["OPTIONS"]
    if mine.vendor == "sqlite":
        options["timeout"] = _SECONDS
    else:
        options["connect_timeout"] = 2  # libpq allows no less
        options["options"] = f"{options.get('options', '')} -c statement_timeout={_SECONDS * 1000}".strip()
    connections["default"] = mine
    try:
        yield mine
    finally:
        mine.close()
        connections["default"] = patient
