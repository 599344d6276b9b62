"""Opens a database: the host is resolved and judged once, and the connection goes to exactly that address.

PostgreSQL is spoken to through ADBC, MySQL and MariaDB through PyMySQL, SQLite through Python's own driver, everything else through
SQLAlchemy. `docs/adr` says why.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from django.conf import settings

from brokoli_site.common.addresses import AddressRefused, UnknownHost, resolve
from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.databases import generic, mysql, postgres, sqlite
from pipelines.databases.places import Place
from pipelines.databases.reading import Database
from pipelines.nodes.base import FileAccess, Stop

CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open. `write`: the database will be changed; a source's never is."""

    stop: Stop
    files: FileAccess
    write: bool = False
    seconds: float = CONNECT_SECONDS


@contextmanager
def opened(place: Place, opening: Opening) -> Iterator[Database]:
    """The database while the block lasts. A stop of the node breaks off what blocks in it, on the server too.

    Errors: `NodeError`, `TransientNodeError` in words for people; the stop's reason.
    """
    opening.stop.check()
    place = _with_files(place, opening.files)
    if place.kind == "sqlite":
        path = opening.files.resolve_write(place.database) if opening.write else _one_file(place, opening.files)
        with sqlite.opened(place, path, opening.stop, write=opening.write) as database:
            yield database
        return
    seconds = min(opening.seconds, float(place.options.get("connect_timeout") or opening.seconds) or opening.seconds)
    deadline = time.monotonic() + seconds
    addresses = _addresses(place, seconds)
    if place.kind == "generic":
        with generic.opened(place, opening.stop, deadline) as other:
            yield other
    elif place.kind == "mysql":
        with mysql.opened(place, addresses, opening.stop, deadline) as maria:
            yield maria
    else:
        with postgres.opened(place, addresses, opening.stop, deadline) as pg:
            yield pg


def _addresses(place: Place, seconds: float) -> list[str]:
    """Where the host is. Errors: `NodeError` for addresses that may not be reached."""
    if not place.host:
        raise NodeError(f"{place.label[0].upper()}{place.label[1:]} names no host; databases that are files or services without one cannot be used.")
    try:
        return [address[0] for _, address in resolve(place.host, place.port or 0, settings.ALLOWED_NETWORKS, seconds)]
    except AddressRefused as error:
        raise NodeError(f"The host of {place.label} may not be reached: {error.message}") from error
    except UnknownHost as error:
        raise TransientNodeError(f"The host of {place.label} is not known: {error.message}") from error


def _one_file(place: Place, files: FileAccess) -> "sqlite.Path":
    found = files.resolve_read(place.database)
    if len(found) != 1:
        raise NodeError(f"The file of {place.label} must be one file; '{place.database}' names {len(found)}.")
    return found[0]


def _with_files(place: Place, files: FileAccess) -> Place:
    """Certificates and keys are files of the data folders too, like every file that people name. Errors: `NodeError`."""
    resolved = {name: str(files.resolve_read(path)[0]) for name, path in place.files().items()}
    return replace(place, options={**place.options, **resolved})
