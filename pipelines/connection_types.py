"""What kinds of connections there are: the fields of each, which of them are secrets, and what can be said against values. Pure.

A connection has five fields of its own (`host, port, schema, login, password`), whose meaning is up to its type, and options in `extra`.
An option that its type does not know is kept as a secret: it might be one.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from brokoli_site.common import outbound
from brokoli_site.common.errors import NodeError
from pipelines.problems import kind_of, shortened
from pipelines.vault import ConnectionDetails

Kind = Literal["text", "integer", "boolean", "choice", "object", "multiline"]
Fault = tuple[str, str]  # (JSON Pointer into the connection, sentence)

OWN_FIELDS = ("host", "port", "schema", "login", "password")
MOST_OPTIONS = 50
LONGEST_OPTION = 100  # characters of a name
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
_PASSWORD_WITHIN = re.compile(r"(?:^|[?&;])\s*(?:password|passwd|pwd|secret|token|api_?key)\s*=", re.IGNORECASE)
_REGION = re.compile(r"[A-Za-z0-9-]{1,60}")
_JSON_TYPES: Mapping[Kind, str] = {"integer": "integer", "boolean": "boolean", "object": "object"}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a type. `guards`: it decides where the connection's secrets are sent, or how they are protected on their way."""

    name: str
    label: str
    description: str = ""
    kind: Kind = "text"
    required: bool = False
    secret: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    guards: bool = False

    @property
    def is_option(self) -> bool:
        """Whether it stands in `extra`."""
        return self.name not in OWN_FIELDS


@dataclass(frozen=True, slots=True)
class ConnectionType:
    """A kind of server or store. `check` looks at the fields together."""

    name: str
    label: str
    description: str
    fields: tuple[Field, ...]
    check: "Callable[[Values], Iterator[Fault]]"
    default_port: int | None = None

    @property
    def options(self) -> dict[str, Field]:
        return {one.name: one for one in self.fields if one.is_option}

    def is_secret(self, option: str) -> bool:
        """Whether an option of that name is one: unknown ones are."""
        known = self.options.get(option)
        return known is None or known.secret


@dataclass(frozen=True, slots=True)
class Values:
    """What a connection is to be. `extra` has the secret options too."""

    type: str
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


# --- checks of one type --------------------------------------------------------------------------------------------


def _server(values: Values) -> Iterator[Fault]:
    if values.host and not _is_host(values.host):
        yield "/host", "must be the name or the address of a server alone, such as db.example.org; the port and the rest have fields of their own."


def _file(values: Values) -> Iterator[Fault]:
    if "://" in values.host:
        yield "/host", "must be the path of a file in the data folders, such as warehouse.sqlite3."


def _web(values: Values) -> Iterator[Fault]:
    if values.schema not in ("", "http", "https"):
        yield "/schema", "must be http or https, or empty."
    elif values.host and (fault := outbound.check_url(base_url(values.host, values.port, values.schema)) or _beyond_path(values.host)):
        yield "/host", f"must be a host such as api.example.org, or a base URL such as https://api.example.org/v1. {fault}"


def _beyond_path(host: str) -> str:
    return "It ends before any ?, # or backslash." if re.search(r"[?#\\]", host) else ""


def _store(values: Values) -> Iterator[Fault]:
    if values.host:
        yield from _web(Values("s3", values.host, values.port))
    if values.schema and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", values.schema):
        yield "/schema", "must be the name of a bucket: letters, digits, dots and hyphens."
    region = values.extra.get("region")
    if isinstance(region, str) and region and not _REGION.fullmatch(region):
        yield "/extra/region", "must be letters, digits and hyphens, such as eu-central-1."


def region_of(connection: ConnectionDetails) -> str:
    """Of an `s3` connection. It is a part of the host at Amazon, so it leads nowhere else. Errors: `NodeError`."""
    region = str(connection.extra.get("region") or "us-east-1")
    if not _REGION.fullmatch(region):
        raise NodeError("The region of the connection is none: letters, digits and hyphens, such as eu-central-1.")
    return region


def _file_server(values: Values) -> Iterator[Fault]:
    yield from _server(values)
    host_key = values.extra.get("host_key")
    if (
        isinstance(host_key, str)
        and host_key != "any"
        and not re.fullmatch(r"(SHA256:[A-Za-z0-9+/]{43}=?|[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?)", host_key)
    ):
        yield "/extra/host_key", "must be a line such as `ssh-ed25519 AAAA…`, a fingerprint such as `SHA256:…`, or `any`."


def _url(values: Values) -> Iterator[Fault]:
    if "://" not in values.host:
        if not values.extra.get("drivername"):
            yield "/host", "must be a URL such as oracle+oracledb://db.example.org/sales; with a host alone, `extra.drivername` must name the driver."
        yield from _server(values)
        return
    try:
        parts = urlsplit(values.host)
        has_password = parts.password is not None
    except ValueError:
        yield "/host", "cannot be read as a URL."
        return
    if has_password or _PASSWORD_WITHIN.search(unquote(parts.query)):
        yield "/host", "must not hold a password: it is shown to whoever may see the connection. Give it as `password`."


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True


def base_url(host: str, port: int | None, schema: str) -> str:
    """The address under which an `http` connection asks, without a slash at its end: `host` may be that already. Without a scheme it is https."""
    host = host.strip()
    url = host if "://" in host else f"{schema or 'https'}://{host}"
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets without an address
        return url
    try:
        suffix = f":{port}" if port and parts.port is None else ""
    except ValueError:  # no number
        suffix = ""
    return f"{parts.scheme}://{parts.netloc}{suffix}{parts.path}".rstrip("/")


# --- the types -----------------------------------------------------------------------------------------------------


def _login(who: str = "User", proof: str = "Password", *, description: str = "") -> tuple[Field, ...]:
    reference = "Or where it is kept: env://BROKOLI_CREDENTIAL_NAME, file://name."
    return Field("login", who, description, guards=True), Field("password", proof, reference, secret=True)


def _address(default_port: int) -> tuple[Field, ...]:
    return (
        Field("host", "Host", "Name or address of the server.", required=True, guards=True),
        Field("port", "Port", kind="integer", default=default_port, guards=True),
    )


_TYPES = (
    ConnectionType(
        "postgres",
        "PostgreSQL",
        "PostgreSQL, and what speaks its protocol.",
        (
            *_address(5432),
            Field("schema", "Database", "The user's own without one."),
            *_login(),
            Field("sslmode", "TLS", "As libpq names it.", kind="choice", choices=_SSL_MODES, default="prefer", guards=True),
            Field("sslrootcert", "Certificate authority", "`system`, or a file of the server's.", guards=True),
            Field("application_name", "Application name", default="brokoli"),
            Field("connect_timeout", "Seconds to connect", kind="integer", default=10),
        ),
        _server,
        5432,
    ),
    ConnectionType(
        "mysql",
        "MySQL / MariaDB",
        "MySQL and MariaDB.",
        (
            *_address(3306),
            Field("schema", "Database"),
            *_login(),
            Field("sslmode", "TLS", kind="choice", choices=_SSL_MODES, default="prefer", guards=True),
            Field("sslrootcert", "Certificate authority", "`system`, or a file of the server's.", guards=True),
            Field("charset", "Character set", default="utf8mb4"),
            Field("connect_timeout", "Seconds to connect", kind="integer", default=10),
        ),
        _server,
        3306,
    ),
    ConnectionType(
        "sqlite",
        "SQLite",
        "A database file in the data folders.",
        (Field("host", "File", "Path in the data folders.", required=True),),
        _file,
    ),
    ConnectionType(
        "http",
        "HTTP API",
        "A web service. Nodes add their path to its base URL.",
        (
            Field("host", "Base URL", "Or a host name alone.", required=True, guards=True),
            Field("port", "Port", kind="integer", guards=True),
            Field("schema", "Scheme", kind="choice", choices=("", "http", "https"), default="", guards=True),
            *_login(description="For Basic authentication."),
            Field("token", "Bearer token", "Sent as `Authorization: Bearer …`.", secret=True),
            Field("headers", "Headers", "Sent with each request. Kept as a secret: keys are often among them.", kind="object", secret=True),
        ),
        _web,
    ),
    ConnectionType(
        "s3",
        "S3",
        "Amazon S3, and stores that speak its protocol.",
        (
            Field("host", "Endpoint", "Empty for Amazon's own; else a URL such as https://minio.example.org:9000.", guards=True),
            Field("port", "Port", kind="integer", guards=True),
            Field("schema", "Bucket"),
            *_login("Access key id", "Secret access key"),
            Field("region", "Region", default="us-east-1"),
            Field("session_token", "Session token", secret=True),
        ),
        _store,
    ),
    ConnectionType(
        "sftp",
        "SFTP",
        "Files over SSH.",
        (
            *_address(22),
            Field("schema", "Base path"),
            *_login(),
            Field("private_key", "Private key", "In OpenSSH's or PEM form.", kind="multiline", secret=True),
            Field("passphrase", "Passphrase of the private key", secret=True),
            Field("host_key", "Key of the server", "`ssh-ed25519 AAAA…`, `SHA256:…`, or `any` to trust whoever answers.", guards=True),
        ),
        _file_server,
        22,
    ),
    ConnectionType(
        "generic",
        "Another database",
        "Any database with a SQLAlchemy dialect whose driver is installed on the server.",
        (
            Field("host", "URL", "A SQLAlchemy URL without a password; or a host, with `drivername`.", required=True, guards=True),
            Field("port", "Port", kind="integer", guards=True),
            Field("schema", "Database"),
            *_login(),
            Field("drivername", "Driver", "Such as oracle+oracledb, where `host` is no URL.", guards=True),
        ),
        _url,
    ),
)
TYPES: Mapping[str, ConnectionType] = {found.name: found for found in _TYPES}
NAMES = tuple(TYPES)


def faults(values: Values) -> Iterator[Fault]:
    """Everything that can be said against a connection before it is tried. The type must be known."""
    found = TYPES[values.type]
    for one in found.fields:
        if one.required and not one.is_option and not getattr(values, one.name):
            yield f"/{one.name}", f"{one.label} is needed for a connection of type {found.name}."
        if one.is_option and values.extra.get(one.name) is not None:
            yield from _option(one, values.extra[one.name])
    for name in ("schema", "login", "host"):
        text: str = getattr(values, name)
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            yield f"/{name}", "must be on one line."
            return
    yield from found.check(values)


def _option(one: Field, value: Any) -> Iterator[Fault]:
    pointer = f"/extra/{one.name}"
    match one.kind:
        case "integer" if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**31:
            yield pointer, "must be a whole number."
        case "boolean" if not isinstance(value, bool):
            yield pointer, "must be true or false."
        case "object" if not isinstance(value, dict) or not all(isinstance(inner, str) for inner in value.values()):
            yield pointer, "must be an object of texts."
        case "choice" if value not in one.choices:
            yield pointer, f"must be one of {', '.join(one.choices)}, not {shortened(str(value)) if isinstance(value, str) else kind_of(value)}."
        case "text" | "multiline" if not isinstance(value, str):
            yield pointer, f"must be a text, not {kind_of(value)}."


def described(found: ConnectionType) -> dict[str, Any]:
    """The type as the API shows it, with the JSON Schema of a connection of it."""
    return {
        "type": found.name,
        "label": found.label,
        "description": found.description,
        "default_port": found.default_port,
        "fields": [
            {
                "name": one.name,
                "label": one.label,
                "description": one.description,
                "kind": one.kind,
                "required": one.required,
                "secret": one.secret,
                "default": one.default,
                "choices": list(one.choices),
                "in": "extra" if one.is_option else "connection",
            }
            for one in found.fields
        ],
        "schema": _json_schema(found),
    }


def _json_schema(found: ConnectionType) -> dict[str, Any]:
    own = {one.name: _property(one) for one in found.fields if not one.is_option}
    options = {name: _property(one) for name, one in found.options.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": found.label,
        "type": "object",
        "properties": {
            "conn_id": {"type": "string", "title": "Name"},
            "type": {"const": found.name},
            "description": {"type": "string"},
            **own,
            "extra": {"type": "object", "properties": options, "additionalProperties": True},
        },
        "required": ["conn_id", "type", *(one.name for one in found.fields if one.required)],
    }


def _property(one: Field) -> dict[str, Any]:
    shown: dict[str, Any] = {"title": one.label, "type": _JSON_TYPES.get(one.kind, "string")}
    if one.description:
        shown["description"] = one.description
    if one.default is not None:
        shown["default"] = one.default
    if one.choices:
        shown["enum"] = list(one.choices)
    if one.secret:
        shown["writeOnly"] = True
    if one.name == "port":
        shown |= {"minimum": 1, "maximum": 65535}
    return shown
