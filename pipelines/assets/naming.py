"""Names of files, addresses and databases, so that the same thing has one name however it is written. No name holds a secret. Pure."""

import posixpath
import re
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from brokoli_site.common.errors import NodeError
from pipelines import references
from pipelines.assets.values import Asset, Database, Databases
from pipelines.databases.generic import dialect_of
from pipelines.databases.places import Place, of_uri

SECRET = "***"  # noqa: S105 - stands for one
_PORTS = {"http": 80, "https": 443}
# What a reference looks like within an address that is taken apart: no character of it means anything there.
_REFERENCE, _MARK = re.compile(r"brokolireference(\d+)x"), "brokolireference{}x"
# Who writes an address where a path belongs, with user and password: no node reads it, and lineage is shown, and sent, before that comes out.
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://?|//)[^/]*@")


def file(path: str, conn_id: str = "") -> Asset:
    """A file or a pattern of files: in the data folders, or behind a connection."""
    written = _without_login(without_secrets(path))
    if conn_id:
        return Asset("file", conn_id, posixpath.normpath(written).lstrip("/"), known=_is_told(written))
    normal = "/" + posixpath.normpath(written).lstrip("/") if written.startswith("/") else posixpath.normpath(written)
    first = settings.DATA_DIRS[0] if settings.DATA_DIRS else None
    if first is not None and normal.startswith(f"{first}/"):
        normal = str(Path(normal).relative_to(first))  # relative paths start there
    return Asset("file", "", normal, known=_is_told(written))


def api(url: str, conn_id: str = "") -> Asset:
    """An address without user, password, query and fragment; with a connection, maybe only the path below its own."""
    whole = url.lower().startswith(("http://", "https://"))
    if conn_id and not whole:
        path = _without_login(without_secrets(re.split(r"[?#]", url, maxsplit=1)[0])).strip("/")
        return Asset("api", conn_id, path or "/", known=_is_told(path, may_be_empty=True))
    found = _address(url)
    return Asset("api", "", found or "", known=found is not None)


def _address(url: str) -> str | None:
    """None for what cannot be read as an address, or has a secret where its host would be."""
    marked, texts = _marked(url)
    try:
        parts = urlsplit(marked)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    host = f"[{host}]" if ":" in host else host.rstrip(".")
    if not host or SECRET in _unmarked(host, texts):
        return None
    suffix = f":{port}" if port and port != _PORTS.get(parts.scheme.lower()) else ""
    return _unmarked(f"{parts.scheme.lower()}://{host}{suffix}{parts.path.rstrip('/')}", texts)


def database(conn_id: str, uri: str, databases: Databases) -> tuple[str, Database] | None:
    """The place of a connection or a URI, and what its SQL is; None for a URI that does not tell."""
    if conn_id:
        if references_in(conn_id):
            return None
        return conn_id, databases.get(conn_id, Database())
    marked, texts = _marked(uri)
    try:
        place = of_uri(marked)
    except NodeError:
        return None
    found = _unmarked(place_name(place), texts)
    return None if not uri or SECRET in found else (found, Database(dialect_of(place), place.database))


def place_name(place: Place) -> str:
    """`postgres://db.example.org:5432/shop`, `sqlite:warehouse.db`: without login, password and options."""
    if place.kind == "sqlite":
        return f"sqlite:{file(place.database).name}"
    host = f"[{place.host}]" if ":" in place.host else place.host.lower()
    port = f":{place.port}" if place.port else ""
    return f"{place.driver.partition('+')[0] or place.kind}://{host}{port}/{place.database}"


def references_in(text: str) -> bool:
    return any(True for _ in references.find(text))


def without_secrets(text: str) -> str:
    """With `***` for each `${secret.…}`; other references stay as they are written."""
    return _unmarked(*_marked(text))


def _without_login(text: str) -> str:
    match = _LOGIN.match(text)
    return f"{match[1]}{SECRET}@{text[match.end() :]}" if match else text


def _marked(text: str) -> tuple[str, list[str]]:
    """The text with marks for its references, and what is shown of these."""
    found = list(references.find(text))
    parts, shown, done = [], [], 0
    for number, one in enumerate(found):
        parts += [text[done : one.start], _MARK.format(number)]
        shown.append(SECRET if one.kind == "secret" else one.text)
        done = one.end
    return "".join(parts) + text[done:], shown


def _unmarked(text: str, shown: list[str]) -> str:
    return _REFERENCE.sub(lambda match: shown[int(match[1])] if int(match[1]) < len(shown) else match[0], text)


def _is_told(text: str, *, may_be_empty: bool = False) -> bool:
    """Whether something is left of a name when its secrets are out of it."""
    return bool(text.replace(SECRET, "").strip("/ ")) or (may_be_empty and not text)
