"""Where a database is and how to log in, of a stored connection or of a URI. Pure.

What people may say is listed here: a driver's other options can read files, name other hosts, or load libraries.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from brokoli_site.common.errors import NodeError
from pipelines import references
from pipelines.vault import ConnectionDetails, Vault

Kind = Literal["postgres", "mysql", "sqlite", "generic"]

CONNECTION_TYPES = ("generic", "mysql", "postgres", "sqlite")
_SCHEMES: Mapping[str, Kind] = {
    **dict.fromkeys(("postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"), "postgres"),
    **dict.fromkeys(("mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"), "mysql"),
    **dict.fromkeys(("sqlite", "sqlite3"), "sqlite"),
}
_PORTS: Mapping[str, int] = {"postgres": 5432, "mysql": 3306, "oracle": 1521, "mssql": 1433}
_PEOPLE: Mapping[str, str] = {"postgres": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite", "generic": "database"}

_NUMBER, _NAME, _FILE = re.compile(r"\d{1,5}"), re.compile(r"[^\x00]{0,200}"), re.compile(r"[^\x00]{1,1000}")
_SSL_MODES = re.compile("disable|allow|prefer|require|verify-ca|verify-full")
# Options of libpq (https://www.postgresql.org/docs/current/libpq-connect.html) that lead nowhere but to the database.
_POSTGRES = {
    "sslmode": _SSL_MODES,
    "sslrootcert": _FILE,
    "sslcert": _FILE,
    "sslkey": _FILE,
    "application_name": _NAME,
    "connect_timeout": _NUMBER,
    "target_session_attrs": re.compile("any|read-write|read-only|primary|standby|prefer-standby"),
    "channel_binding": re.compile("disable|prefer|require"),
}
_MYSQL = {
    "sslmode": _SSL_MODES,
    "sslrootcert": _FILE,
    "sslcert": _FILE,
    "sslkey": _FILE,
    "application_name": _NAME,
    "connect_timeout": _NUMBER,
    "charset": re.compile("utf8mb4|utf8|latin1"),
}
_OPTIONS: Mapping[Kind, Mapping[str, re.Pattern[str]]] = {"postgres": _POSTGRES, "mysql": _MYSQL, "sqlite": {}, "generic": {}}
# What other systems' connections carry, and what has no meaning here: left out without a word.
_IGNORED = frozenset({"drivername", "mode", "cache", "uri", "timeout"})
_FILE_OPTIONS = frozenset({"sslrootcert", "sslcert", "sslkey"})


@dataclass(frozen=True, slots=True)
class Place:
    """One database. `label` is what sentences call it; they never hold anything else of this but `host` and `database`.

    `database` is the path of the file for `sqlite`; `driver` the dialect and driver of SQLAlchemy for `generic`.
    """

    kind: Kind
    label: str
    host: str = ""
    port: int | None = None
    database: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    driver: str = ""
    # What takes secrets out of the words of a driver or a server, before they are cut.
    redact: Callable[[str], str] = field(default=str, repr=False, compare=False)

    @property
    def system(self) -> str:
        """What people call the software: `PostgreSQL`, or SQLAlchemy's name of the dialect."""
        return self.driver.partition("+")[0] or _PEOPLE[self.kind]

    def files(self) -> dict[str, str]:
        """The options that name files: `sslrootcert`, …"""
        return {name: path for name, path in self.options.items() if name in _FILE_OPTIONS and path != "system"}


def place_of(conn_id: str, uri: str, vault: Vault, written: object = "") -> Place:
    """The database that a config names: its connection, else its URI, whose password is hidden from now on.

    `written` is the URI with its references: who may only run a pipeline must not choose where its secrets go.

    Errors: `UnknownName`, `WrongConnection`; `NodeError` for a URI or options that cannot be read.
    """
    if conn_id:
        return replace(of_connection(vault.connection(conn_id, CONNECTION_TYPES)), redact=vault.redact)
    place = of_uri(uri)
    if isinstance(written, str) and references.param_in_host(written) and references.names_secret(written, vault):
        raise NodeError("A param cannot be a part of the host of a URI beside a secret. Use a connection, which has a host of its own.")
    if place.password:
        vault.reveal(place.password)
        vault.reveal(uri)
    return replace(place, redact=vault.redact)


def of_connection(details: ConnectionDetails) -> Place:
    """Errors: `NodeError` naming the connection."""
    own = Vault()
    own.reveal(details.password)
    return replace(_of_details(details, f"the connection '{details.conn_id}'"), redact=own.redact)


def _of_details(details: ConnectionDetails, label: str) -> Place:
    if details.type == "generic":
        return _generic(details, label)
    kind: Kind = "postgres" if details.type == "postgres" else "mysql" if details.type == "mysql" else "sqlite"
    if kind == "sqlite":
        return _checked(Place(kind, label, database=details.host or details.schema))
    place = Place(kind, label, details.host, details.port or _PORTS[kind], details.schema, details.login, details.password, _texts(details.extra))
    return _checked(place)


def of_uri(uri: str) -> Place:
    """Errors: `NodeError`, without the URI, which may hold a password."""
    label = "the database of 'uri'"
    scheme = uri.partition(":")[0].lower()
    kind = _SCHEMES.get(scheme, "generic")
    if kind == "generic":
        return _of_url(_url(uri, label), label)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise NodeError(f"The URI of {label} cannot be read; write {scheme}://user:password@host:port/database.") from None
    if kind == "sqlite":
        # `sqlite:///in/a.db` is in/a.db, `sqlite:////data/a.db` is /data/a.db, as with SQLAlchemy.
        return _checked(Place(kind, label, database=unquote((parts.netloc + parts.path)[1:] if not parts.netloc else parts.netloc + parts.path)))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    login, password = unquote(parts.username or ""), unquote(parts.password or "")
    return _checked(Place(kind, label, unquote(parts.hostname or ""), port or _PORTS[kind], unquote(parts.path[1:]), login, password, options))


def _generic(details: ConnectionDetails, label: str) -> Place:
    """`host` is a whole URL, or the pieces are given with `drivername` in the extras."""
    if "://" in details.host or not details.extra.get("drivername"):
        place = of_uri(details.host) if _SCHEMES.get(details.host.partition(":")[0].lower()) else _of_url(_url(details.host, label), label)
        password = details.password or place.password
        options = {**place.options, **_texts(details.extra)}
        return _checked(replace(place, label=label, login=details.login or place.login, password=password, options=options))
    driver = str(details.extra["drivername"])
    kind = _SCHEMES.get(driver, "generic")
    port = details.port or _PORTS.get(driver.partition("+")[0])
    if kind == "sqlite":
        return _checked(Place(kind, label, database=details.schema or details.host))
    place = Place(kind, label, details.host, port, details.schema, details.login, details.password, _texts(details.extra))
    return _checked(place if kind != "generic" else replace(place, driver=driver))


def _url(text: str, label: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        raise NodeError(f"The URL of {label} cannot be read; write dialect+driver://user@host:port/database.") from None


def _of_url(url: URL, label: str) -> Place:
    port = url.port or _PORTS.get(url.get_backend_name())
    return _checked(
        Place("generic", label, url.host or "", port, url.database or "", url.username or "", url.password or "", _texts(url.query), url.drivername)
    )


def _texts(extra: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): str(value).lower() if isinstance(value, bool) else str(value) for name, value in extra.items() if value is not None and value != ""
    }


def _checked(place: Place) -> Place:
    """Errors: `NodeError` for a place that cannot be: an option that may not be set, no host."""
    allowed = _OPTIONS[place.kind]
    options = {name: value for name, value in place.options.items() if name not in _IGNORED}
    for name, value in options.items():
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise NodeError(f"The option '{name}' of {place.label} cannot be set. Options that can: {known}.")
        if not allowed[name].fullmatch(value):
            raise NodeError(f"The option '{name}' of {place.label} has a value that it cannot have.")
    if place.kind == "sqlite" and not place.database:
        raise NodeError(f"The file of {place.label} is not named; it is a path in the data folders.")
    if place.kind in ("postgres", "mysql") and (not place.host or place.host.startswith("/") or "," in place.host):
        raise NodeError(f"The host of {place.label} must be one host name or address.")
    if "\x00" in f"{place.host}{place.database}{place.login}{place.password}":
        raise NodeError(f"{place.label[0].upper()}{place.label[1:]} holds a character NUL, which no database takes.")
    return replace(place, options=options)
