"""Use cases on connections: find, make, change, remove. Their secrets are sealed for their row, and no answer ever holds one.

A secret is only handed to the server that it was given for: who leads a connection elsewhere has to say its secrets again.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.differences import CHANGED, SET, told_of_secret
from brokoli_site.common.json import InvalidJSON, loads
from brokoli_site.common.problems import BodyError, escaped
from brokoli_site.common.secrets import SecretUnreadable
from pipelines import connection_types, object_rules, secret_stores
from pipelines.assets import rows as asset_rows
from pipelines.connection_tests import outcome
from pipelines.connection_types import LONGEST_OPTION, MOST_OPTIONS, TYPES, ConnectionType, Values
from pipelines.models import Connection
from pipelines.named_rows import NamedRows
from pipelines.object_rules import User
from pipelines.problems import kind_of, shortened
from pipelines.stored import stored_connection
from pipelines.vault import ConnectionDetails, StoredConnection, Vault

LONGEST_SECRET = 20_000
LONGEST_EXTRA = 64_000  # characters of all options together, as JSON
LONGEST_NAME = 100
RESERVED = frozenset({"test"})  # a part of an address of the API
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
_NAME = re.compile(NAME.strip("^$"))
_NAME_RULE = (
    f"A name has 1 to {LONGEST_NAME} letters, digits, dots, hyphens and underscores, and begins with a letter, digit or underscore; 'test' is taken."
)
_PASSWORD = "password"  # noqa: S105 - the name of the field
_COLUMNS = ("type", "description", "host", "port", "schema", "login")
_DEFAULTS: Mapping[str, Any] = {"description": "", "host": "", "port": None, "schema": "", "login": ""}


class SecretsNeeded(BodyError):
    """The connection would lead elsewhere; its secrets must be given again."""

    status, code = 422, "secrets_needed"


@dataclass(frozen=True)
class Secrets:
    """What is sealed: `options` are the secret ones of `extra`. A text may name a secret in another store."""

    password: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self.names) or 'none'})"

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that are set."""
        return (*([_PASSWORD] if self.password else []), *sorted(self.options))

    def as_json(self) -> dict[str, Any]:
        return {"password": self.password, "extra": dict(self.options)}


@dataclass(frozen=True)
class Draft:
    """A connection as it is to be. `public` are the columns of its row but the secrets."""

    public: Mapping[str, Any]
    secrets: Secrets

    def opened(self, vault: Vault) -> ConnectionDetails:
        """What a node would get, its secrets hidden by `vault` from now on. Errors: `SecretUnavailable`."""
        columns = {name: self.public[name] for name in ("type", "host", "port", "schema", "login", "extra")}
        return vault.details(StoredConnection("draft", **columns), secret_stores.fetch_all(self.secrets.as_json()))


def _state(row: Connection, before: Connection | None) -> dict[str, Any]:
    """For the audit log."""
    known = {"conn_id": row.conn_id, **{name: getattr(row, name) for name in _COLUMNS}, "extra": row.extra}
    try:
        secrets, old = opened(row), opened(before) if before else Secrets()
    except SecretUnreadable:
        changed = before is not None and before.secrets != row.secrets
        return known | {"secrets": CHANGED if changed else SET}
    options = {name: told_of_secret(value, old.options.get(name)) for name, value in sorted(secrets.options.items())}
    return known | {_PASSWORD: told_of_secret(secrets.password, old.password), "secret_extra": options}


_ROWS = NamedRows(Connection, "connection", "conn_id", "name", ("conn_id", "description", "host"), _state)
find, listing, refuse_renaming, delete = _ROWS.find, _ROWS.listing, _ROWS.refuse_renaming, _ROWS.delete


def create(conn_id: str, fields: Mapping[str, Any], *, user: User | None = None) -> Connection:
    """A new connection. Errors: `BodyError` naming every field at fault; `MayNotName`; `Conflict` when the name is taken."""
    if len(conn_id) > LONGEST_NAME or not _NAME.fullmatch(conn_id) or conn_id in RESERVED:
        raise BodyError({"/conn_id": [_NAME_RULE]})
    wanted = draft(fields, user=user)
    now = timezone.now()
    row = Connection(conn_id=conn_id, **wanted.public, created_at=now, updated_at=now)
    row.secrets = _sealed(row, wanted.secrets)
    with _ROWS.inserting(row):
        row.save(force_insert=True)
        asset_rows.doubt(conn_id)
    return row


def change(conn_id: str, fields: Mapping[str, Any], *, whole: bool, seen: Collection[int] | None = None, user: User | None = None) -> Connection:
    """The connection with these fields. `whole`: what is not given goes back to its default; but secrets that are not given stay.

    Errors: `NotFound`; `BodyError`; `SecretsNeeded`; `MayNotName`; `PreconditionFailed` when `seen` lacks the current version; `Conflict`.
    """

    def columns(row: Connection) -> dict[str, Any]:
        wanted = revised(row, fields, whole=whole, user=user)
        names_secrets = _names_secrets(fields, TYPES[wanted.public["type"]])
        return {**wanted.public, **({"secrets": _sealed(row, wanted.secrets)} if names_secrets else {})}

    before, after = _ROWS.change(conn_id, seen, columns)
    if any(getattr(before, name) != getattr(after, name) for name in ("type", "host", "schema", "extra")):
        asset_rows.doubt(conn_id)
    return after


def without_secrets(fields: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The fields of a change, with these secrets taken away by it. Errors: `BodyError` for an `extra` that cannot be read."""
    cleared = {name: None for name in names if name != _PASSWORD}
    found = {**fields, "extra": {**_options(fields.get("extra")), **cleared}}
    return {**found, "password": None} if _PASSWORD in names else found


def tested(row: Connection) -> dict[str, Any]:
    """What becomes of a try of it: see `connection_tests.outcome`."""
    vault = Vault(connections={row.conn_id: stored_connection(row)})
    found = outcome(row.type, lambda: vault.connection(row.conn_id), vault)
    audit.note("connection.tested", "connection", row.conn_id, row.conn_id, after={"ok": found["ok"], "message": found["message"]})
    return found


def draft_tested(wanted: Draft) -> dict[str, Any]:
    """The same for one that is not stored."""
    vault = Vault()
    found = outcome(wanted.public["type"], lambda: wanted.opened(vault), vault)
    where = {name: wanted.public[name] for name in ("type", "host", "port", "schema", "login")}
    audit.note("connection.tested", "connection", "", "(draft)", after={**where, "ok": found["ok"], "message": found["message"]})
    return found


def draft(fields: Mapping[str, Any], *, user: User | None = None) -> Draft:
    """A connection of these fields alone. Errors: `BodyError`; `MayNotName`."""
    kind = _type(fields.get("type", ""))
    options = _options(fields.get("extra"))
    given = {name: value for name, value in options.items() if value is not None}
    public = {"type": kind.name} | {name: _value(fields.get(name), default) for name, default in _DEFAULTS.items()}
    wanted = _checked(kind, public, given, Secrets(_password(fields) or ""))
    _refuse_outside(fields, wanted, Secrets(), user)
    return wanted


def revised(row: Connection, fields: Mapping[str, Any], *, whole: bool, user: User | None = None) -> Draft:
    """The row with these fields.

    Errors: `BodyError`, `SecretsNeeded`, `MayNotName`; `SecretUnreadable` when secrets that stay have to be looked at.
    """
    kind = _type(fields.get("type", row.type))
    stays = dict(_DEFAULTS) if whole else {name: getattr(row, name) for name in _DEFAULTS}
    public = {"type": kind.name} | {name: _value(fields[name], stays[name]) if name in fields else stays[name] for name in _DEFAULTS}
    options = _options(fields.get("extra"))
    clears_options = "extra" in fields and fields["extra"] is None
    kept = {} if whole or clears_options or kind.name != row.type else {name: value for name, value in row.extra.items() if name not in options}
    given = {name: value for name, value in options.items() if value is not None and not (value == "" and kind.is_secret(name))}
    stored = _known_secrets(row, fields, kind)
    # An empty text is what a form sends for a secret that nobody typed in: it stays. Null takes it away.
    mentioned = {name for name, value in options.items() if value != "" or not kind.is_secret(name)}
    left = {} if clears_options else {name: value for name, value in stored.options.items() if name not in mentioned}
    password = _password(fields)
    draft_of_it = _checked(kind, public, {**kept, **given}, Secrets(stored.password if password is None else password, left))
    survivors = [*([_PASSWORD] if stored.password and password is None else []), *sorted(left)]
    moved = _moved(row, draft_of_it)
    if survivors and moved:
        raise _secrets_needed(survivors, moved)
    # Who says again where a secret is kept, for another server, has not said the secret.
    _refuse_outside(fields, draft_of_it, Secrets() if moved else stored, user)
    return draft_of_it


def _refuse_outside(fields: Mapping[str, Any], wanted: Draft, stored: Secrets, user: User | None) -> None:
    """Errors: `MayNotName`."""
    place = "password_ref" if fields.get("password_ref") == wanted.secrets.password else _PASSWORD
    given, known = ({place: secrets.password, "extra": dict(secrets.options)} for secrets in (wanted.secrets, stored))
    object_rules.refuse_outside(given, user, known=known)


def _known_secrets(row: Connection, fields: Mapping[str, Any], kind: ConnectionType) -> Secrets:
    """The row's secrets. Some that cannot be read are in the way of no change that leaves them alone, or gives another password.

    Errors: `SecretUnreadable`.
    """
    try:
        return opened(row)
    except SecretUnreadable:
        if _password(fields) is None and _names_secrets(fields, kind):
            raise
        return Secrets("unreadable")


def opened(row: Connection) -> Secrets:
    """The secrets of the row. Errors: `SecretUnreadable`."""
    if not row.secrets:
        return Secrets()
    found = json.loads(settings.KEYRING.open(row.secrets, row.identity))
    return Secrets(found.get("password", ""), found.get("extra", {}))


def represented(row: Connection) -> dict[str, Any]:
    """The connection as the API shows it: of secrets, that they are set, and where they are kept."""
    problem = None
    try:
        secrets = opened(row)
    except SecretUnreadable as error:
        secrets, problem = Secrets("?"), error.message
    return {
        "id": row.id,
        "conn_id": row.conn_id,
        **{name: getattr(row, name) for name in _COLUMNS},
        "has_password": bool(secrets.password),
        "password_ref": secrets.password if secret_stores.is_reference(secrets.password) else None,
        "extra": row.extra,
        "secret_extra": sorted(secrets.options),
        "problem": problem,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


# --- what is read of a body ----------------------------------------------------------------------------------------


def _type(name: Any) -> ConnectionType:
    if name not in TYPES:
        raise BodyError({"/type": [f"There is no type '{shortened(str(name))}'; known are {', '.join(TYPES)}."]})
    return TYPES[name]


def _value(given: Any, default: Any) -> Any:
    return default if given is None else given


def _password(fields: Mapping[str, Any]) -> str | None:
    """The password that is to be stored; None: the one that is. Errors: `BodyError` for a reference that is none."""
    if "password" in fields and fields["password"] != "":
        return fields["password"] or ""
    reference = fields.get("password_ref")
    if reference and not secret_stores.is_reference(reference):
        raise BodyError({"/password_ref": ["must name a secret in a store, such as env://BROKOLI_CREDENTIAL_NAME or file://name."]})
    return reference or None


def _options(given: Any) -> dict[str, Any]:
    """`extra`, which is an object or its text. Errors: `BodyError`."""
    if isinstance(given, str) and given.strip():
        try:
            given = loads(given.encode("utf-8", "surrogatepass"))
        except InvalidJSON as error:
            raise BodyError({"/extra": ["The text is not JSON."]}) from error
    if given is None or given == "":
        return {}
    if not isinstance(given, dict):
        raise BodyError({"/extra": [f"must be an object, or the text of one, not {kind_of(given)}."]})
    if len(given) > MOST_OPTIONS or any(not 1 <= len(name) <= LONGEST_OPTION for name in given) or len(json.dumps(given)) > LONGEST_EXTRA:
        raise BodyError(
            {"/extra": [f"has at most {MOST_OPTIONS} options with names of 1 to {LONGEST_OPTION} characters, and {LONGEST_EXTRA:,} in all."]}
        )
    return given


def _checked(kind: ConnectionType, public: dict[str, Any], options: Mapping[str, Any], secrets: Secrets) -> Draft:
    """With the options shared out by what the type says of them. `secrets` has those that stay. Errors: `BodyError`."""
    secret = {**secrets.options, **{name: value for name, value in options.items() if kind.is_secret(name)}}
    extra = {name: value for name, value in options.items() if not kind.is_secret(name)}
    values = Values(**{name: public[name] for name in ("type", "host", "port", "schema", "login")}, extra={**extra, **secret})
    errors: dict[str, list[str]] = {}
    for pointer, sentence in connection_types.faults(values):
        errors.setdefault(pointer, []).append(sentence)
    for name, value in ((_PASSWORD, secrets.password), *secret.items()):
        if fault := _secret_fault(value):
            errors.setdefault(f"/{name}" if name == _PASSWORD else f"/extra/{escaped(name)}", []).append(fault)
    if errors:
        raise BodyError(errors)
    return Draft({**public, "extra": extra}, Secrets(secrets.password, secret))


def _secret_fault(value: Any) -> str:
    if len(value if isinstance(value, str) else json.dumps(value)) > LONGEST_SECRET:
        return f"A secret has at most {LONGEST_SECRET:,} characters."
    return secret_stores.fault_in(value) if isinstance(value, str) else ""


def _names_secrets(fields: Mapping[str, Any], kind: ConnectionType) -> bool:
    """Whether anything is said of secrets; else the sealed text stays as it is, whoever seals it anew at this moment."""
    if _password(fields) is not None or ("extra" in fields and fields["extra"] is None):
        return True
    return any(kind.is_secret(name) for name in _options(fields.get("extra")))


def _moved(row: Connection, wanted: Draft) -> list[str]:
    """The fields by which the connection would lead elsewhere, or protect its secrets less on their way."""
    if wanted.public["type"] != row.type:
        return ["type"]
    kind = TYPES[row.type]
    moved = []
    for one in kind.fields:
        if not one.guards:
            continue
        before, after = (
            (row.extra.get(one.name), wanted.public["extra"].get(one.name)) if one.is_option else (getattr(row, one.name), wanted.public[one.name])
        )
        if (before or one.default or None) != (after or one.default or None):
            moved.append(one.name)
    return moved


def _secrets_needed(survivors: list[str], moved: list[str]) -> SecretsNeeded:
    which = " and ".join(filter(None, [", ".join(survivors[:-1]), survivors[-1]]))
    sentence = (
        f"Another {', '.join(moved)} may be another server, which is not handed the stored secrets. "
        f"Give {which} again with this change, or null to remove it."
    )
    return SecretsNeeded({f"/{name}" if name == _PASSWORD else f"/extra/{escaped(name)}": [sentence] for name in survivors})


def _sealed(row: Connection, secrets: Secrets) -> str:
    return settings.KEYRING.seal(json.dumps(secrets.as_json()), row.identity) if secrets.names else ""
