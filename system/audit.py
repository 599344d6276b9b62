"""Writes the entries of the audit log."""

from typing import Any

from brokoli_site.common.audit import Entry
from brokoli_site.common.ids import made_at, new_id
from system.models import AuditEntry


def write(entry: Entry) -> None:
    """Store an entry, in the transaction that there is."""
    origin = entry.origin
    columns: dict[str, Any] = {
        "actor": origin.actor,
        "user_id": origin.user_id,
        "via": origin.via,
        "token": origin.token,
        "address": origin.address,
        "request_id": origin.request_id,
        "action": entry.action,
        "area": entry.action.partition(".")[0],
        "kind": entry.kind,
        "object_id": entry.object_id,
        "name": entry.name,
    }
    key = new_id()
    # The time is that of the key, so that what is found by one is found by the other.
    AuditEntry.objects.create(id=key, at=made_at(key), diff=dict(entry.diff), **{name: _fitting(name, value) for name, value in columns.items()})


def _fitting(column: str, text: str) -> str:
    """What was typed into a login form may have any length, and a NUL."""
    field = AuditEntry._meta.get_field(column)
    longest: int | None = getattr(field, "max_length", None)
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"
