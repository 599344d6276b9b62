"""Finds entries of the audit log, newest first. No question costs more with a longer log.

One filter is answered by its index. The others, and a search, are tried on the `LOOKED_AT` newest entries that this one finds: a page may so
hold fewer entries than were asked for, or none, and the next one goes on where it stopped looking.
"""

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from django.db.models import Q

from brokoli_site.common.ids import earliest
from system.models import AuditEntry, AuditQuerySet

LOOKED_AT = 10_000
# Which one an index answers: the one that is likely to leave the least.
_INDEXED = ("request_id", "object_id", "user_id", "actor", "action", "area", "kind")
SEARCHED = ("name", "object_id", "actor")
_MILLISECOND = dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What is asked for; "" and None: anything. `area` are all actions of that area; `since` and `until` are included, to the millisecond."""

    request_id: str = ""
    object_id: str = ""
    user_id: str = ""
    actor: str = ""
    action: str = ""
    area: str = ""
    kind: str = ""
    q: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that ask for something."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, and where the next page goes on: None when there is none."""

    items: list[AuditEntry]
    cursor: uuid.UUID | None


def page(wanted: AuditFilter, after: uuid.UUID | None, limit: int) -> Page:
    """The newest entries that are older than `after`. Two queries at most."""
    names = [name for name in _INDEXED if getattr(wanted, name)]
    rows = _between(wanted, after).filter(**{name: getattr(wanted, name) for name in names[:1]}).order_by("-id")
    rest = Q(**{name: getattr(wanted, name) for name in names[1:]})
    if wanted.q:
        rest &= Q(*((f"{column}__icontains", wanted.q) for column in SEARCHED), _connector=Q.OR)
    if not rest:
        return _page(list(rows[: limit + 1]), limit, None)
    keys = rows.values("id")
    unseen = keys.values_list("id", flat=True)[LOOKED_AT - 1 : LOOKED_AT].first()
    return _page(list(AuditEntry.objects.filter(rest, id__in=keys[:LOOKED_AT]).order_by("-id")[: limit + 1]), limit, unseen)


def _between(wanted: AuditFilter, after: uuid.UUID | None) -> AuditQuerySet:
    rows = AuditEntry.objects.all()
    if after is not None:
        rows = rows.filter(id__lt=after)
    if wanted.since is not None:
        rows = rows.filter(id__gte=earliest(wanted.since))
    if wanted.until is not None:
        rows = rows.filter(id__lt=earliest(wanted.until + _MILLISECOND))
    return rows


def _page(found: list[AuditEntry], limit: int, last_seen: uuid.UUID | None) -> Page:
    if len(found) > limit:
        return Page(found[:limit], found[limit - 1].id)
    return Page(found, last_seen)


def every(wanted: AuditFilter, size: int) -> Iterator[list[AuditEntry]]:
    """All that is found, some at a time."""
    after: uuid.UUID | None = None
    while True:
        found = page(wanted, after, size)
        yield found.items
        if found.cursor is None:
            return
        after = found.cursor
