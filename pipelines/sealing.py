"""The rows that hold sealed secrets, all together: are they readable with the keys of this process, and are they sealed with the newest?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, ProgrammingError, transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import StrIndex, Substr

from brokoli_site.common import audit
from brokoli_site.common.secrets import KEY_STARTS, SecretUnreadable, key_of
from pipelines.models import Connection, Variable, WebhookToken

_AT_ONCE = 200  # rows of one transaction


@dataclass(frozen=True, slots=True)
class _Kind:
    """One table: the column that is sealed, and the one that names the row."""

    label: str
    rows: QuerySet[Any]
    column: str
    name: str


@dataclass
class Resealed:
    """What a rotation did. `missing` are the rows that none of the keys opens, as `connection 'warehouse' (key 1a2b3c4d)`."""

    resealed: int = 0
    current: int = 0
    missing: list[str] = field(default_factory=list)


def _kinds() -> tuple[_Kind, ...]:
    return (
        _Kind("connection", Connection.objects.exclude(secrets=""), "secrets", "conn_id"),
        _Kind("webhook token", WebhookToken.objects.all(), "sealed", "pipeline_id"),
        _Kind("variable", Variable.objects.filter(type="secret"), "value", "key"),
    )


def fault() -> str:
    """Why secrets that are stored cannot be read with the keys of this process, as a sentence; "" when they can.

    A sealed text names its key by a hash of it, so looking at the names is enough. One damaged row is no reason not to start: its node says so.
    """
    for kind in _kinds():
        used = Substr(kind.column, KEY_STARTS, StrIndex(Substr(kind.column, KEY_STARTS), Value(":")) - 1)
        keys = kind.rows.order_by().annotate(sealed_with=used).values_list("sealed_with", flat=True).distinct()[:100]
        if missing := sorted(set(keys) - set(settings.KEYRING.ids)):
            named = ", ".join(f"'{key}'" for key in missing)
            return (
                f"The stored secrets cannot all be read: some {kind.label}s were sealed with the key {named}, which BROKOLI_ENCRYPTION_KEYS lacks. "
                "Add that key (without the setting, they are in BROKOLI_HOME/keys); `manage.py rotate_secrets --dry-run` names the rows."
            )
    return ""


def fault_at_boot() -> str:
    """As `fault`, for what serves although the database is away: "" then, and health tells of it once it can be asked."""
    try:
        return fault()
    except (OperationalError, InterfaceError, ProgrammingError):  # the last: there are no tables yet
        return ""


def reseal(*, dry_run: bool = False, tell: Callable[[Resealed], None] = lambda _: None) -> Resealed:
    """Seal every secret that an older key sealed with the newest, a few rows at a time. Safe while rows are changed and read."""
    done = Resealed()
    for kind in _kinds():
        last: Any = None
        while batch := list((kind.rows if last is None else kind.rows.filter(id__gt=last)).order_by("id")[:_AT_ONCE]):
            last = batch[-1].id
            before = done.resealed
            with transaction.atomic():
                for row in batch:
                    _reseal(kind, row, done, dry_run=dry_run)
                if done.resealed > before and not dry_run:
                    told = {"rows": f"{kind.label}s", "resealed": done.resealed - before, "sealed_with": settings.KEYRING.ids[0]}
                    audit.record("secrets.rotated", "secrets", "", f"{kind.label}s", after=told)
            tell(done)
    return done


def _reseal(kind: _Kind, row: Any, done: Resealed, *, dry_run: bool) -> None:
    sealed = getattr(row, kind.column)
    if settings.KEYRING.is_current(sealed):
        done.current += 1
        return
    try:
        value = settings.KEYRING.open(sealed, row.identity)
    except SecretUnreadable:
        done.missing.append(f"{kind.label} '{getattr(row, kind.name)}' (key {key_of(sealed) or 'unknown'})")
        return
    # Only what is still as it was read: a secret that was changed meanwhile was sealed by whoever changed it.
    same = type(row).objects.filter(id=row.id, **{kind.column: sealed})
    if dry_run or same.update(**{kind.column: settings.KEYRING.seal(value, row.identity)}):
        done.resealed += 1
