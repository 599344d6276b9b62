"""How many runs were made on which day, and how they stand: exact at any moment, and no dearer with a longer history.

Runs of the last two days, and of days on which a run has not ended yet, are counted when somebody asks: the first 48 bits of a run's id are the
time that it was made, so a day is a range of ids, and `(status, -id)` holds its runs side by side. The counts of other days cannot change except by
a purge. They are kept, and a purge removes those of the days that it touches, in the transaction that deletes the runs; a worker keeps them anew.
So no run that starts or ends writes a count, and no two workers wait for one another over it.
"""

import datetime as dt
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Q
from django.utils import timezone

from runs.listing import first_id_at, made_at
from runs.models import DayCount, Run
from runs.states import ACTIVE, RunStatus

DAY = dt.timedelta(days=1)
KEPT_DAYS = 400
# A day is kept when it is over for a day: clocks are set back, and a run may be made before midnight and stored after it.
_SETTLED = dt.timedelta(days=1)
_AT_ONCE = 500
_LOCK = 0x6272_6461_7973  # of counting a day and of deleting runs, on PostgreSQL; SQLite has one writer
_STATUSES = tuple(status.value for status in RunStatus)
_ENDS = (RunStatus.SUCCESS.value, RunStatus.FAILED.value, RunStatus.CANCELLED.value)
_NONE = dict.fromkeys(_STATUSES, 0)

Counts = Mapping[str, int]  # by status, each of them


def by_day(days: Sequence[dt.date], pipeline_id: uuid.UUID | None = None, now: dt.datetime | None = None) -> list[Counts]:
    """The runs that were made on each of these days, in ascending order. Two queries."""
    found = _kept(days, pipeline_id, now or timezone.now())
    live = [day for day in days if day not in found]
    counts = between([midnight(day) for day in live], [midnight(day + DAY) for day in live], pipeline_id)
    found |= dict(zip(live, counts, strict=True))
    return [found[day] for day in days]


def between(starts: Sequence[dt.datetime], ends: Sequence[dt.datetime], pipeline_id: uuid.UUID | None = None) -> list[Counts]:
    """The runs made from each start on and before its end, counted now. One query, however many there are."""
    if not starts:
        return []
    key = Run._meta.pk
    ranges = [[key.get_db_prep_value(first_id_at(moment), connection) for moment in pair] for pair in zip(starts, ends, strict=True)]
    rows, statuses = ", ".join(["(%s, %s, %s)"] * len(ranges)), ", ".join(["(%s)"] * len(_STATUSES))
    of_pipeline = "" if pipeline_id is None else " AND runs_run.pipeline_id = %s"
    statement = (
        f"WITH span(place, first, last) AS (VALUES {rows}), state(status) AS (VALUES {statuses}) "  # noqa: S608 - only placeholders
        "SELECT span.place, state.status, (SELECT COUNT(*) FROM runs_run WHERE runs_run.status = state.status "
        f"AND runs_run.id >= span.first AND runs_run.id < span.last{of_pipeline}) FROM span CROSS JOIN state"
    )
    values: list[Any] = [value for place, pair in enumerate(ranges) for value in (place, *pair)]
    values += [*_STATUSES, *([] if pipeline_id is None else [key.get_db_prep_value(pipeline_id, connection)])]
    found: list[dict[str, int]] = [{} for _ in ranges]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        for place, status, count in cursor.fetchall():
            found[place][status] = count
    return list(found)


def today(now: dt.datetime | None = None) -> dt.date:
    """In UTC."""
    return (now or timezone.now()).astimezone(dt.UTC).date()


def midnight(day: dt.date) -> dt.datetime:
    """With which it begins, in UTC."""
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


# --- what is kept -------------------------------------------------------------------------------------------------


def keep(now: dt.datetime | None = None, *, seconds: float = float("inf")) -> int:
    """Keep the counts of days that are settled, the latest first, for so long. Returns of how many days. Safe in any number of workers."""
    now, until, kept = now or timezone.now(), time.monotonic() + seconds, 0
    # Of days that had settled by a clock that was set back since: they are going to have more runs.
    DayCount.objects.filter(Q(day__gte=_unsettled_from(now)) | Q(day__lt=today(now) - KEPT_DAYS * DAY)).delete()
    for day in _missing(now):
        if time.monotonic() >= until:
            break
        started = time.monotonic()
        kept += _keep_day(day)
        time.sleep(min(time.monotonic() - started, max(0.0, until - time.monotonic())))  # as long as others had to wait
    return kept


def let_go(run_ids: Collection[uuid.UUID]) -> None:
    """These runs are deleted: what was kept of their days is not true any more. Call inside that transaction, within `deleting`."""
    of_days = DayCount.objects.filter(day__in={made_at(run_id).date() for run_id in run_ids})
    # First the locks, all purges in one order.
    kept = list(of_days.select_for_update().order_by("id").values_list("id", flat=True)) if run_ids else []
    for start in range(0, len(kept), _AT_ONCE):
        DayCount.objects.filter(id__in=kept[start : start + _AT_ONCE]).delete()


@contextmanager
def deleting() -> Iterator[None]:
    """Around the deletion of runs, inside its transaction: no day is counted meanwhile. Deletions do not wait for one another."""
    _lock("pg_advisory_xact_lock_shared")
    yield


def _keep_day(day: dt.date) -> bool:
    """Count the day's runs by pipeline and keep that; False while one has not ended, or when a rival was first."""
    made_then = Run.objects.filter(id__gte=first_id_at(midnight(day)), id__lt=first_id_at(midnight(day + DAY))).order_by()
    if made_then.filter(status__in=sorted(ACTIVE)).exists():
        return False
    with transaction.atomic():
        _lock("pg_advisory_xact_lock")
        counted = list(made_then.values_list("pipeline_id", "status").annotate(Count("id")))  # one statement sees one moment
        if any(status in ACTIVE for _, status, _ in counted) or DayCount.objects.filter(day=day).exists():
            return False
        rows: dict[uuid.UUID | None, DayCount] = {None: DayCount(day=day)}
        for pipeline_id, status, count in counted:
            for row in (rows[None], rows.setdefault(pipeline_id, DayCount(pipeline_id=pipeline_id, day=day))):
                setattr(row, status, getattr(row, status) + count)
        DayCount.objects.bulk_create(rows.values(), batch_size=_AT_ONCE)
    return True


def _kept(days: Sequence[dt.date], pipeline_id: uuid.UUID | None, now: dt.datetime) -> dict[dt.date, Counts]:
    """Of those of the days that are kept. A pipeline without a row on a day that is kept had no run."""
    in_range = DayCount.objects.filter(day__gte=days[0], day__lt=min(_unsettled_from(now), days[-1] + DAY)).order_by()
    columns = ("day", "pipeline_id", *_ENDS)
    rows = in_range.filter(pipeline=None).values_list(*columns)
    if pipeline_id is not None:  # in one statement: a purge may remove both between two
        rows = rows.union(in_range.filter(pipeline=pipeline_id).values_list(*columns), all=True)
    found: dict[dt.date, Counts] = {}
    own: dict[dt.date, Counts] = {}
    for day, owner, *counts in rows:
        (found if owner is None else own)[day] = {**_NONE, **dict(zip(_ENDS, counts, strict=True))}
    return found if pipeline_id is None else {day: own.get(day, _NONE) for day in found}


def _missing(now: dt.datetime) -> Iterator[dt.date]:
    """Settled days since the first run that are not kept, the latest first."""
    first = Run.objects.order_by("id").values_list("id", flat=True).first()
    if first is None:
        return
    oldest = max(made_at(first).date(), today(now) - KEPT_DAYS * DAY)
    have = set(DayCount.objects.filter(pipeline=None, day__gte=oldest).values_list("day", flat=True))
    day = _unsettled_from(now) - DAY
    while day >= oldest:
        if day not in have:
            yield day
        day -= DAY


def _unsettled_from(now: dt.datetime) -> dt.date:
    """The first day that is counted whenever somebody asks."""
    return today(now - _SETTLED)


def _lock(function: str) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s)", [_LOCK])
