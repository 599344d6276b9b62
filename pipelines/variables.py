"""Use cases on variables: find, make, change, remove. A secret one is sealed for its row, and no answer ever holds its value."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from django.conf import settings
from django.utils import timezone

from brokoli_site.common.differences import CHANGED, SET, told_of_secret
from brokoli_site.common.json import InvalidJSON, loads
from brokoli_site.common.problems import BodyError
from brokoli_site.common.secrets import SecretUnreadable
from pipelines import object_rules, secret_stores
from pipelines.models import Variable
from pipelines.named_rows import NamedRows
from pipelines.object_rules import User
from pipelines.problems import kind_of, shortened
from pipelines.vault import VARIABLE_TYPES

LONGEST_KEY = 100
LONGEST_VALUE = 64_000  # characters of its JSON
KEY = r"^[A-Za-z_][A-Za-z0-9_.-]*$"
_KEY = re.compile(KEY.strip("^$"))
_KEY_RULE = f"A key has 1 to {LONGEST_KEY} letters, digits, dots, hyphens and underscores, and begins with a letter or an underscore."


def _state(row: Variable, before: Variable | None) -> dict[str, Any]:
    """For the audit log."""
    return {"key": row.key, "type": row.type, "description": row.description, "value": _told(row, before)}


def _told(row: Variable, before: Variable | None) -> Any:
    if row.type != "secret":
        return json.loads(row.value)
    old = None
    try:
        if before is not None and before.type == "secret":
            old = settings.KEYRING.open(before.value, before.identity)
        return told_of_secret(settings.KEYRING.open(row.value, row.identity), old)
    except SecretUnreadable:
        return CHANGED if before is not None and before.value != row.value else SET


_ROWS = NamedRows(Variable, "variable", "key", "key", ("key", "description"), _state)
find, listing, refuse_renaming, delete = _ROWS.find, _ROWS.listing, _ROWS.refuse_renaming, _ROWS.delete


def create(key: str, fields: Mapping[str, Any], *, user: User | None = None) -> Variable:
    """A new variable. Errors: `BodyError` naming the field at fault; `MayNotName`; `Conflict` when the key is taken."""
    if len(key) > LONGEST_KEY or not _KEY.fullmatch(key):
        raise BodyError({"/key": [_KEY_RULE]})
    kind = _type(fields.get("type", "string"))
    if _given(fields, kind) is _NOTHING:
        raise BodyError({"/value": ["A variable needs a value."]})
    now = timezone.now()
    row = Variable(key=key, type=kind, description=fields.get("description") or "", created_at=now, updated_at=now)
    row.value = _stored(row, kind, _given(fields, kind))
    _refuse_outside(fields, kind, "", user)
    with _ROWS.inserting(row):
        row.save(force_insert=True)
    return row


def change(key: str, fields: Mapping[str, Any], *, whole: bool, seen: Collection[int] | None = None, user: User | None = None) -> Variable:
    """The variable with these fields. `whole`: its description goes when none is given. A value that is not given stays, with its type.

    Errors: `NotFound`; `BodyError`; `MayNotName`; `PreconditionFailed` when `seen` lacks the current version; `Conflict`.
    """

    def columns(row: Variable) -> dict[str, Any]:
        changed = _changed(row, fields, whole=whole)
        _refuse_outside(fields, changed["type"], _secret_of(row), user)
        return changed

    _, row = _ROWS.change(key, seen, columns)
    return row


def represented(row: Variable) -> dict[str, Any]:
    """The variable as the API shows it: of a secret, that it has a value, and where that is kept."""
    shown: dict[str, Any] = {"id": row.id, "key": row.key, "type": row.type}
    if row.type == "secret":
        shown |= {"has_value": True} | _reference_of(row)
    else:
        shown |= {"value": json.loads(row.value), "has_value": True, "value_ref": None, "problem": None}
    return shown | {"description": row.description, "version": row.version, "created_at": row.created_at, "updated_at": row.updated_at}


def _refuse_outside(fields: Mapping[str, Any], kind: str, stored: str, user: User | None) -> None:
    """Errors: `MayNotName`. `stored` is the secret that it has, or where that is kept."""
    value = _given(fields, kind)
    if kind == "secret" and value is not _NOTHING:
        place = "value" if fields.get("value") == value else "value_ref"
        object_rules.refuse_outside({place: value}, user, known={place: stored})


def _secret_of(row: Variable) -> str:
    """The secret, or where it is kept; "" for a variable that is none, and for one that cannot be read."""
    try:
        return settings.KEYRING.open(row.value, row.identity) if row.type == "secret" else ""
    except SecretUnreadable:
        return ""


def _reference_of(row: Variable) -> dict[str, Any]:
    try:
        value = settings.KEYRING.open(row.value, row.identity)
    except SecretUnreadable as error:
        return {"value_ref": None, "problem": error.message}
    return {"value_ref": value if secret_stores.is_reference(value) else None, "problem": None}


# --- what is read of a body ----------------------------------------------------------------------------------------

_NOTHING = object()


def _type(name: Any) -> str:
    if name not in VARIABLE_TYPES:
        raise BodyError({"/type": [f"There is no type '{shortened(str(name))}'; known are {', '.join(VARIABLE_TYPES)}."]})
    return str(name)


def _given(fields: Mapping[str, Any], kind: str) -> Any:
    """The value that is given; `_NOTHING`: none. An empty text is what a form sends for a secret that nobody typed in."""
    if "value" in fields and not (kind == "secret" and fields["value"] == ""):
        return fields["value"]
    reference = fields.get("value_ref") if kind == "secret" else None
    if reference and not secret_stores.is_reference(reference):
        raise BodyError({"/value_ref": ["must name a secret in a store, such as env://BROKOLI_CREDENTIAL_NAME or file://name."]})
    return reference or _NOTHING


def _changed(row: Variable, fields: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """The columns that change. Errors: `BodyError`."""
    kind = _type(fields.get("type", row.type))
    value = _given(fields, kind)
    columns: dict[str, Any] = {"type": kind}
    if "description" in fields or whole:
        columns["description"] = fields.get("description") or ""
    if value is not _NOTHING:
        columns["value"] = _stored(row, kind, value)
    elif kind != row.type:
        raise BodyError({"/value": ["Another type needs another value: give it with this change."]})
    elif whole and kind != "secret":
        raise BodyError({"/value": ["A variable needs a value."]})
    return columns


def _stored(row: Variable, kind: str, value: Any) -> str:
    """The value as its column has it. Errors: `BodyError` when it is not what the type says."""
    value, fault = _READ[kind](value)
    if fault:
        raise BodyError({"/value": [fault]})
    text = value if kind == "secret" else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text) > LONGEST_VALUE:
        raise BodyError({"/value": [f"A value has at most {LONGEST_VALUE:,} characters."]})
    return settings.KEYRING.seal(text, row.identity) if kind == "secret" else text


def _string(value: Any) -> tuple[Any, str]:
    return value, "" if isinstance(value, str) else f"must be a text, not {kind_of(value)}."


def _secret(value: Any) -> tuple[Any, str]:
    if not isinstance(value, str) or not value:
        return value, "must be a text: the secret, or where it is kept, such as env://BROKOLI_CREDENTIAL_NAME."
    return value, secret_stores.fault_in(value)


def _number(value: Any) -> tuple[Any, str]:
    found = _parsed(value) if isinstance(value, str) else value
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return found, "" if is_number else "must be a number, or the text of one."


def _boolean(value: Any) -> tuple[Any, str]:
    found = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    return found, "" if isinstance(found, bool) else "must be true or false."


def _json(value: Any) -> tuple[Any, str]:
    """A text of an object or a list is that; any other text is itself."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value, ""
    found = _parsed(value)
    return found, "The text is not JSON." if found is _NOTHING else ""


def _parsed(text: str) -> Any:
    try:
        return loads(text.encode("utf-8", "surrogatepass")) if text.strip() else _NOTHING
    except InvalidJSON:
        return _NOTHING


_READ = {"string": _string, "number": _number, "boolean": _boolean, "json": _json, "secret": _secret}
