"""The variables and connections that a node may use while it runs: looked up before it starts, opened when it asks. Pure: no database.

What is opened is remembered, so that it can be taken out of every text that leaves the node: see `Vault.redact`.
"""

import base64
import html
import json
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import quote, quote_plus

from django.conf import settings

from brokoli_site.common.errors import BrokoliError, NodeError
from pipelines import secret_stores
from pipelines.secret_stores import SecretUnavailable

VARIABLE_TYPES = ("string", "number", "boolean", "json", "secret")

_SHORTEST_REDACTED = 4  # a secret of three characters would take half of every sentence with it
_SHORTEST_WITHIN = 8  # of a text within an object, such as a header beside the token: `json`, `true` or `2024` are no secrets
_SHORTEST_LINE = 16  # of a secret of several lines, such as a private key
_SHOWN = "***"


class UnknownName(NodeError):
    """There is no variable or connection of that name."""

    code = "unknown_name"


class WrongConnection(NodeError):
    """The connection is of a type that the node cannot use."""

    code = "wrong_connection"


@dataclass(frozen=True, slots=True)
class StoredVariable:
    """A variable as its row has it. `value` is JSON; a secret's is sealed for `identity`.

    `is_open`: a secret's value is the secret itself, for a process that has no keys; or there is an `error` that says why it is not.
    """

    key: str
    type: str  # one of `VARIABLE_TYPES`
    value: str = field(repr=False)
    identity: str = ""
    is_open: bool = False
    error: str = ""

    @property
    def is_secret(self) -> bool:
        return self.type == "secret"

    def opened(self) -> "StoredVariable":
        """With its secret in the open, from the store outside where it names one."""
        if self.is_open or not self.is_secret:
            return self
        try:
            value = secret_stores.fetch(settings.KEYRING.open(self.value, self.identity))
        except BrokoliError as error:
            return replace(self, value="", is_open=True, error=f"The secret variable '{self.key}' cannot be had. {error.message}")
        return replace(self, value=value, is_open=True)


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """A connection as its row has it. `secrets` is sealed for `identity`: JSON `{"password": …, "extra": {…}}`; "" when it has none.

    `is_open`: `secrets` is that JSON itself, for a process that has no keys; or there is an `error` that says why it is not.
    """

    conn_id: str
    type: str
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    secrets: str = field(default="", repr=False)
    identity: str = ""
    is_open: bool = False
    error: str = ""

    def opened(self) -> "StoredConnection":
        """With its secrets in the open, from the stores outside where they name one."""
        if self.is_open or not self.secrets:
            return self
        try:
            found = secret_stores.fetch_all(json.loads(settings.KEYRING.open(self.secrets, self.identity)))
        except BrokoliError as error:
            return replace(self, secrets="", is_open=True, error=f"The secrets of the connection '{self.conn_id}' cannot be had. {error.message}")
        return replace(self, secrets=json.dumps(found), is_open=True)


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
    _pattern: list[re.Pattern[str]] = field(default_factory=list, init=False, repr=False, compare=False)  # of what is revealed; made when needed
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.variables or self.connections)

    def variable(self, key: str) -> Any:
        """The value of `${var.key}`: text, number, boolean, or what its JSON says. Errors: `UnknownName`; `NodeError` for a secret it cannot have."""
        stored = self._variable(key)
        return self._secret(stored) if stored.is_secret else json.loads(stored.value)

    def secret(self, key: str) -> str:
        """The value of `${secret.key}`. Errors: as `variable`; `UnknownName` for a variable that is no secret."""
        stored = self._variable(key)
        if not stored.is_secret:
            raise UnknownName(f"the variable '{key}' is no secret; write ${{var.{key}}}, or make its type 'secret'")
        return self._secret(stored)

    def connection(self, conn_id: str, accepted: Collection[str] = ()) -> ConnectionDetails:
        """The connection of that name. Errors: `UnknownName`; `WrongConnection` when its type is not `accepted`; `NodeError` for a secret."""
        stored = self.connections.get(conn_id)
        if stored is None:
            raise UnknownName(f"There is no connection '{conn_id}'. Create it (POST /api/connections), or correct the name.")
        if accepted and stored.type not in accepted:
            raise WrongConnection(f"The connection '{conn_id}' is of type '{stored.type}'; this node takes {', '.join(sorted(accepted))}.")
        opened = stored.opened()
        if opened.error:
            raise SecretUnavailable(opened.error)
        secrets = json.loads(opened.secrets) if opened.secrets else {}
        return self.details(stored, secrets)

    def details(self, stored: StoredConnection, secrets: Mapping[str, Any]) -> ConnectionDetails:
        """The connection with these secrets (`{"password": …, "extra": {…}}`), which are remembered for `redact`."""
        password, extra = str(secrets.get("password", "")), secrets.get("extra", {})
        self.reveal(password)
        for value in extra.values():
            self._reveal_option(value)
        return ConnectionDetails(
            conn_id=stored.conn_id,
            type=stored.type,
            host=stored.host,
            port=stored.port,
            schema=stored.schema,
            login=stored.login,
            password=password,
            extra={**stored.extra, **extra},
        )

    def reveal(self, value: str) -> None:
        """Remember a secret that was made known to the node (a token that a server gave, say), for `redact`."""
        if len(value) >= _SHORTEST_REDACTED:
            with self._lock:
                self._revealed.update(_spellings(value))
                self._pattern.clear()

    def redact(self, text: str) -> str:
        """`text` without any secret that was opened, in the spellings of URLs, JSON, SQL, HTML, Python, base64 and hexadecimal too.

        Texts come cut, from a server's answer or a script's long line: the beginning of a secret at the end of one goes as well.
        """
        with self._lock:
            if not self._revealed:
                return text
            if not self._pattern:
                self._pattern.append(re.compile("|".join(map(re.escape, sorted(self._revealed, key=len, reverse=True)))))
            (pattern,) = self._pattern
            spellings = list(self._revealed)
        return _without_end(pattern.sub(_SHOWN, text), spellings)

    def exported(self) -> dict[str, Any]:
        """All of it in the open, as JSON: for a process that has neither keys nor stores, over a channel that nobody else reads."""
        return {
            "variables": [asdict(stored.opened()) for stored in self.variables.values()],
            "connections": [asdict(stored.opened()) for stored in self.connections.values()],
        }

    @classmethod
    def imported(cls, exported: Mapping[str, Any]) -> "Vault":
        """What `exported` gave."""
        variables = (StoredVariable(**found) for found in exported["variables"])
        connections = (StoredConnection(**found) for found in exported["connections"])
        return cls({found.key: found for found in variables}, {found.conn_id: found for found in connections})

    def only(self, variables: Collection[str], connections: Collection[str]) -> "Vault":
        """A vault with these alone."""
        return Vault(
            {key: found for key, found in self.variables.items() if key in variables},
            {name: found for name, found in self.connections.items() if name in connections},
        )

    def _variable(self, key: str) -> StoredVariable:
        if key not in self.variables:
            raise UnknownName(f"there is no variable '{key}'; create it (POST /api/variables), or correct the name")
        return self.variables[key]

    def _secret(self, stored: StoredVariable) -> str:
        opened = stored.opened()
        if opened.error:
            raise SecretUnavailable(opened.error)
        self.reveal(opened.value)
        return opened.value

    def _reveal_option(self, value: Any) -> None:
        if isinstance(value, str):
            self.reveal(value)
        elif isinstance(value, dict | list):
            for text in _texts(value):
                if len(text) >= _SHORTEST_WITHIN:
                    self.reveal(text)
        elif not isinstance(value, bool):
            self.reveal(json.dumps(value))


def _without_end(text: str, spellings: Collection[str]) -> str:
    """`text` without the beginning of one of these at its end, or where it says how much of it was cut."""
    end = text.rfind("… (") if text.endswith((" more bytes)", " more characters)")) else len(text)
    for spelling in spellings:
        start = spelling[:_SHORTEST_WITHIN]
        at = text.find(start, max(0, end - len(spelling) + 1), end) if len(start) == _SHORTEST_WITHIN else -1
        while at >= 0:
            if spelling.startswith(text[at:end]):
                return f"{text[:at]}{_SHOWN}{text[end:]}"
            at = text.find(start, at + 1, end)
    return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _spellings(value: str) -> set[str]:
    found = set(_escaped(value))
    for line in value.splitlines() if "\n" in value else ():
        if len(line) >= _SHORTEST_LINE:
            found.update(_escaped(line))
    return {spelling for spelling in found if len(spelling) >= _SHORTEST_REDACTED}


def _escaped(value: str) -> Iterator[str]:
    """The value as it stands in texts of many kinds."""
    binary = value.encode("utf-8", "replace")
    yield from (value, value.strip(), repr(value)[1:-1], repr(binary)[2:-1], html.escape(value), html.escape(value, quote=False))
    for encoded in (quote(binary, safe=""), quote(binary), quote_plus(binary)):
        yield from (encoded, re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), encoded))
    for text in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        yield from (text, json.dumps(text, ensure_ascii=False)[1:-1])  # also as JSON within JSON
    yield from (value.replace("'", "''"), value.replace('"', '""'), value.replace("\\", "\\\\").replace("'", "\\'"))
    yield from (binary.hex(), binary.hex().upper())
    # In the base64 of `login:password` the password begins at any of three places; only the characters that it decides alone are known.
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + binary).decode()
            yield text[-(-8 * shift // 6) : 8 * (shift + len(binary)) // 6]
