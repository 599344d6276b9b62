"""Finds entries of the audit log, newest first. No question costs more with a longer log.

One filter is answered by its index. The others, and a search, are tried on the `LOOKED_AT` newest entries that this one finds: a page may so
hold fewer entries than were asked for, or none, and the next one goes on where it stopped looking.
"""

import datetime as dt
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from brokoli_site.common.ids import earliest
from system.models import AuditEntry, AuditQuerySet

LOOKED_AT = 10_000
_STEP = 1_000  # of these, read at once
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
    """The newest entries that are older than `after`."""
    names = [name for name in _INDEXED if getattr(wanted, name)]
    rows = _between(wanted, after).filter(**{name: getattr(wanted, name) for name in names[:1]}).order_by("-id")
    rest, term = {name: getattr(wanted, name) for name in names[1:]}, wanted.q.casefold()
    if not rest and not term:
        found = list(rows[: limit + 1])
        return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)
    keys, cursor = matching(rows, rest, term, limit)
    return Page(list(AuditEntry.objects.filter(id__in=keys).order_by("-id")) if keys else [], cursor)


def matching(rows: AuditQuerySet, rest: Mapping[str, str], term: str, most: int) -> tuple[list[uuid.UUID], uuid.UUID | None]:
    """The ids of `most` of these rows (newest first) that have all of `rest` and hold the case-folded `term`, and after which to go on.

    Tried here and not by the database, which may think it clever to read the whole table for it.
    """
    found: list[uuid.UUID] = []
    last: uuid.UUID | None = None
    for _ in range(0, LOOKED_AT, _STEP):
        some = list((rows if last is None else rows.filter(id__lt=last)).values(*{"id", *rest, *SEARCHED})[:_STEP])
        for row in some:
            if all(row[name] == value for name, value in rest.items()) and any(term in row[name].casefold() for name in SEARCHED):
                found.append(row["id"])
                if len(found) == most:
                    return found, row["id"]
        if len(some) < _STEP:
            return found, None
        last = some[-1]["id"]
    return found, last


def _between(wanted: AuditFilter, after: uuid.UUID | None) -> AuditQuerySet:
    rows = AuditEntry.objects.all()
    if after is not None:
        rows = rows.filter(id__lt=after)
    if wanted.since is not None:
        rows = rows.filter(id__gte=earliest(wanted.since))
    if wanted.until is not None:
        rows = rows.filter(id__lt=earliest(wanted.until + _MILLISECOND))
    return rows


def every(wanted: AuditFilter, size: int) -> Iterator[list[AuditEntry]]:
    """All that is found, some at a time."""
    after: uuid.UUID | None = None
    while True:
        found = page(wanted, after, size)
        yield found.items
        if found.cursor is None:
            return
        after = found.cursor
