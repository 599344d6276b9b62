"""Pages of runs, newest first: each costs the same however long the history is."""

import datetime as dt
import uuid
from dataclasses import dataclass

from runs.models import Run
from runs.querysets import RunQuerySet

COUNTED = 100_000  # rows that a total counts at most, so that its cost has an end
# The first 48 bits of an id are the time that it was made, so a range of times is a range of ids and walks the listings' indexes.
# Ids and `created_at` are taken one after the other; a minute between them is more than they ever differ.
_SLACK_MS = 60_000
_LAST_MS = 2**48 - 1


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What a listing is narrowed to. `since` and `until` are times of creation, both included."""

    status: str = ""
    trigger: str = ""
    backfill_id: uuid.UUID | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    def apply(self, runs: RunQuerySet) -> RunQuerySet:
        if self.status:
            runs = runs.filter(status=self.status)
        if self.trigger:
            runs = runs.filter(trigger=self.trigger)
        if self.backfill_id:
            runs = runs.filter(backfill_id=self.backfill_id)
        if self.since:
            runs = runs.filter(created_at__gte=self.since, id__gte=_id_at(self.since, -_SLACK_MS))
        if self.until:
            runs = runs.filter(created_at__lte=self.until, id__lte=_id_at(self.until, _SLACK_MS))
        return runs


def newest_ids(runs: RunQuerySet, start: int, count: int) -> list[uuid.UUID]:
    """The ids on one page, read from an index alone: rows before `start` are stepped over without being loaded."""
    return list(runs.recent().values_list("id", flat=True)[start : start + count])


def bounded_count(runs: RunQuerySet) -> int:
    """How many there are, counted up to `COUNTED`."""
    return runs.order_by()[:COUNTED].count()


def in_order(runs: RunQuerySet, ids: list[uuid.UUID]) -> list[Run]:
    """The rows with these ids, in their order."""
    found = {run.id: run for run in runs.filter(id__in=ids).order_by()}
    return [found[key] for key in ids if key in found]


def first_id_at(moment: dt.datetime) -> uuid.UUID:
    """No id that is made at this moment, or later, is less; none that was made before is as great."""
    return _id_at(moment, 0)


def made_at(run_id: uuid.UUID) -> dt.datetime:
    """When the id was made."""
    return dt.datetime.fromtimestamp((run_id.int >> 80) / 1000, dt.UTC)


def _id_at(moment: dt.datetime, offset_ms: int) -> uuid.UUID:
    """The least id made `offset_ms` after `moment`; the greatest of that millisecond when the offset is forward."""
    milliseconds = round(moment.timestamp() * 1000) + offset_ms
    clipped = min(max(milliseconds, 0), _LAST_MS)
    return uuid.UUID(int=(clipped << 80) | ((1 << 80) - 1 if offset_ms > 0 else 0))
