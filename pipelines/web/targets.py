"""Where a node's requests go, and with which credentials. Credentials stay with their origin: scheme, host and port."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import SplitResult, unquote_plus, urlencode, urlsplit

from brokoli_site.common import outbound
from brokoli_site.common.errors import NodeError
from pipelines import references
from pipelines.connection_types import base_url
from pipelines.nodes.base import NodeContext
from pipelines.vault import ConnectionDetails, Vault
from pipelines.web import credentials
from pipelines.web import headers as header_rules

_PORTS = {"http": 80, "https": 443}
_SECRET_NAMES = ("key", "token", "secret", "password", "passwd", "auth", "signature", "sig", "credential", "session")


class HttpConfig(Protocol):
    """What the configs of the HTTP nodes have in common."""

    @property
    def conn_id(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def auth_user(self) -> str: ...
    @property
    def auth_password(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Target:
    """The address of the first request, and the headers of all. `guarded`: they hold what no other origin may see."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    guarded: bool = False

    def follow(self, link: str, what: str) -> str:
        """The address that an answer sent on to, if the requests may go there. Errors: `NodeError`."""
        if fault := outbound.check_url(link):
            raise NodeError(f"{what} leads to an address that cannot be asked: {fault}")
        if self.guarded and not same_origin(self.url, link):
            raise NodeError(f"{what} leads to {origin(link)}, but this node's credentials are for {origin(self.url)} alone and are not sent there.")
        return link


def target(context: NodeContext, config: HttpConfig, key: str, url: str) -> Target:
    """Of the config's key `key`, whose resolved value is `url`. Errors: `NodeError`; those of the vault."""
    vault = context.run.vault
    connection = vault.connection(config.conn_id, accepted=("http",)) if config.conn_id else None
    if connection is None and not url.strip():
        raise NodeError(f"Field '{key}' is missing: the address to ask, or a connection in `conn_id`.")
    address = _joined(connection, url, key) if connection else url
    if fault := outbound.check_url(address):
        raise NodeError(f"Field '{key}': {fault}" + ("" if connection or url.startswith("http") else " Or name a connection in `conn_id`."))
    headers = {**(credentials.headers_of(connection) if connection else {}), **config.headers}
    authorization = _authorization(connection, config)
    if authorization:
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"} | {"Authorization": authorization}
    for name, value in headers.items():
        if fault := header_rules.fault(name, value):
            raise NodeError(f"Field 'headers': {fault}")
    guarded = any(name.lower() not in outbound.HARMLESS_HEADERS for name in headers)
    sends_secrets = guarded or references.names_secret(context.node.config, vault)
    if sends_secrets and connection is None and (fault := param_fault(str(context.node.config.get(key, "")))):
        raise NodeError(f"Field '{key}': {fault}")
    _hide(vault, headers, address, config.auth_password)
    return Target(address, headers, guarded)


def _base(connection: ConnectionDetails) -> str:
    """What a connection of type `http` names, without a slash at its end. Errors: `NodeError`."""
    base = base_url(connection.host, connection.port, connection.schema)
    if fault := outbound.check_url(base):
        raise NodeError(f"The connection '{connection.conn_id}' names no usable host. {fault}")
    if any(mark in connection.host for mark in "?#\\"):
        raise NodeError(f"The host of the connection '{connection.conn_id}' must end with its path: no '?', '#' or backslash.")
    return base


def _joined(connection: ConnectionDetails, url: str, key: str) -> str:
    """A path is appended to the connection's address; a whole address must have its origin."""
    base = _base(connection)
    if not url.lower().startswith(("http://", "https://")):
        return base + "/" + url.lstrip("/") if url.strip("/") else base
    if not outbound.check_url(url) and not same_origin(base, url):
        raise NodeError(
            f"Field '{key}' names {origin(url)}, and the connection '{connection.conn_id}' is for {origin(base)}: "
            "its credentials go nowhere else. Give the path alone, or another connection."
        )
    return url


def _authorization(connection: ConnectionDetails | None, config: HttpConfig) -> str:
    """The connection's goes before the node's own."""
    if connection is not None and (connection.extra.get("token") or connection.login):
        return credentials.authorization_of(connection)
    return credentials.basic(config.auth_user, config.auth_password) if config.auth_user else ""


def param_fault(written: str) -> str:
    """Why an address, as the document has it, is not asked with credentials: who may only run a pipeline must not choose where they go."""
    if not references.param_in_host(written):
        return ""
    return "a param cannot be a part of the host while the node sends credentials. Put them into a connection, which has a host of its own."


def _hide(vault: Vault, headers: Mapping[str, str], url: str, password: str) -> None:
    """An error may quote what a server says, and a server may say what it was told."""
    vault.reveal(password)
    for name, value in headers.items():
        if name.lower() not in outbound.HARMLESS_HEADERS:
            vault.reveal(value)
            vault.reveal(value.rpartition(" ")[2])
    for name, value in _query(url):
        if any(mark in name.lower() for mark in _SECRET_NAMES):
            vault.reveal(value)


def hide_params(vault: Vault, params: Mapping[str, object]) -> None:
    """The same for params that a config gives."""
    for name, value in params.items():
        if isinstance(value, str) and any(mark in name.lower() for mark in _SECRET_NAMES):
            vault.reveal(value)


# --- addresses ----------------------------------------------------------------------------------------------------


def with_params(url: str, params: Mapping[str, object]) -> str:
    """`url` with these params in its query, in place of those of the same names. A list gives a param more than once, null none."""
    parts = urlsplit(url)
    kept = [item for item in parts.query.split("&") if item and unquote_plus(item.partition("=")[0]) not in params]
    lists = {name: value if isinstance(value, list | tuple) else [value] for name, value in params.items()}
    pairs = [(name, _text(one)) for name, values in lists.items() for one in values if one is not None]
    return parts._replace(query="&".join([*kept, *([urlencode(pairs)] if pairs else [])]), fragment="").geturl()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _query(url: str) -> list[tuple[str, str]]:
    items = [item.partition("=") for item in urlsplit(url).query.split("&") if item]
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in items]


def shown(url: str) -> str:
    """An address for people: without the values of its query, which may be secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    names = "&".join(f"{name}=…" for name, _ in _query(url))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" + (f"?{names}" if names else "")


def origin(url: str) -> str:
    """Scheme, host and port, for people."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def same_origin(one: str, other: str) -> bool:
    """Whether what is for `one` may go to `other`: the same scheme, host and port, or the same host over TLS."""
    first, second = urlsplit(one), urlsplit(other)
    if (first.hostname or "").rstrip(".") != (second.hostname or "").rstrip("."):
        return False
    if (first.scheme, _port(first)) == (second.scheme, _port(second)):
        return True
    return (first.scheme, _port(first), second.scheme, _port(second)) == ("http", 80, "https", 443)


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)
