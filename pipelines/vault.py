"""The variables and connections that a node may use while it runs: looked up before it starts, opened when it asks. Pure: no database.

What is opened is remembered, so that it can be taken out of every text that leaves the node: see `Vault.redact`.
"""

import base64
import json
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from django.conf import settings

from brokoli_site.common.errors import NodeError
from pipelines import secret_stores

VARIABLE_TYPES = ("string", "number", "boolean", "json", "secret")

_SHORTEST_REDACTED = 4  # a secret of three characters would take half of every sentence with it
_SHOWN = "***"


class UnknownName(NodeError):
    """There is no variable or connection of that name."""

    code = "unknown_name"


class WrongConnection(NodeError):
    """The connection is of a type that the node cannot use."""

    code = "wrong_connection"


@dataclass(frozen=True, slots=True)
class StoredVariable:
    """A variable as its row has it. `value` is JSON; a secret's is sealed for `identity`."""

    key: str
    type: str  # one of `VARIABLE_TYPES`
    value: str
    identity: str = ""

    @property
    def is_secret(self) -> bool:
        return self.type == "secret"


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """A connection as its row has it. `secrets` is sealed for `identity`: JSON `{"password": …, "extra": {…}}`; "" when it has none."""

    conn_id: str
    type: str
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    secrets: str = ""
    identity: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionDetails:
    """A connection with its secrets. `schema` is the database, the bucket, the base path: what its type says."""

    conn_id: str
    type: str
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)  # options, secret ones too


@dataclass(frozen=True)
class Vault:
    """What one attempt of one node may use. Safe to use from any thread."""

    variables: Mapping[str, StoredVariable] = field(default_factory=dict)
    connections: Mapping[str, StoredConnection] = field(default_factory=dict)
    _revealed: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.variables or self.connections)

    def variable(self, key: str) -> Any:
        """The value of `${var.key}`: text, number, boolean, or what its JSON says. Errors: `UnknownName`; `NodeError` for a secret it cannot have."""
        stored = self._variable(key)
        return self._opened(stored.value, stored.identity) if stored.is_secret else json.loads(stored.value)

    def secret(self, key: str) -> str:
        """The value of `${secret.key}`. Errors: as `variable`; `UnknownName` for a variable that is no secret."""
        stored = self._variable(key)
        if not stored.is_secret:
            raise UnknownName(f"the variable '{key}' is no secret; write ${{var.{key}}}, or make its type 'secret'")
        return self._opened(stored.value, stored.identity)

    def connection(self, conn_id: str, accepted: Collection[str] = ()) -> ConnectionDetails:
        """The connection of that name. Errors: `UnknownName`; `WrongConnection` when its type is not `accepted`; `NodeError` for a secret."""
        stored = self.connections.get(conn_id)
        if stored is None:
            raise UnknownName(f"There is no connection '{conn_id}'. Create it (POST /api/connections), or correct the name.")
        if accepted and stored.type not in accepted:
            raise WrongConnection(f"The connection '{conn_id}' is of type '{stored.type}'; this node takes {', '.join(sorted(accepted))}.")
        sealed = json.loads(settings.KEYRING.open(stored.secrets, stored.identity)) if stored.secrets else {}
        extra = {key: self._fetched(value) for key, value in sealed.get("extra", {}).items()}
        return ConnectionDetails(
            conn_id=stored.conn_id,
            type=stored.type,
            host=stored.host,
            port=stored.port,
            schema=stored.schema,
            login=stored.login,
            password=self._fetched(sealed.get("password", "")),
            extra={**stored.extra, **extra},
        )

    def reveal(self, value: str) -> None:
        """Remember a secret that was made known to the node (a token that a server gave, say), for `redact`."""
        if len(value) >= _SHORTEST_REDACTED:
            with self._lock:
                self._revealed.update(_spellings(value))

    def redact(self, text: str) -> str:
        """`text` without any secret that was opened, in the spellings of URLs, JSON, Python and Basic authentication too."""
        with self._lock:
            revealed = sorted(self._revealed, key=len, reverse=True)
        for spelling in revealed:
            text = text.replace(spelling, _SHOWN)
        return text

    def _variable(self, key: str) -> StoredVariable:
        if key not in self.variables:
            raise UnknownName(f"there is no variable '{key}'; create it (POST /api/variables), or correct the name")
        return self.variables[key]

    def _opened(self, sealed: str, identity: str) -> str:
        return str(self._fetched(settings.KEYRING.open(sealed, identity)))

    def _fetched(self, value: Any) -> Any:
        """A secret's value, from the store outside where it names one."""
        found = secret_stores.fetch(value) if isinstance(value, str) else value
        self.reveal(found if isinstance(found, str) else json.dumps(found))
        return found


def _spellings(value: str) -> set[str]:
    found = {value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    # Of the password of `login:password`, which is aligned to any of three places within base64.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + value.encode("utf-8", "replace")).decode()
        found.add(encoded[[0, 2, 3][shift] : len(encoded) - 4].rstrip("="))
    return {spelling for spelling in found if len(spelling) >= _SHORTEST_REDACTED}
