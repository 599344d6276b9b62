"""Tells an OpenLineage collector of runs, and costs the runs nothing: the log is the outbox, and a cursor says how far it was told.

One worker at a time tells, whoever holds the cursor's row; in a thread of its own, outside of any transaction, in the order of the log, at least
once. A collector that is away is tried again after longer and longer pauses. One that stays away is not waited for for ever: when it falls
behind by a day, or by `MOST_BEHIND` entries, what is older is passed over, and the log and the row say so.
"""

import datetime as dt
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from brokoli_site.common.addresses import Allowed, plain_name
from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.outbound import Client, Limits
from runs.events.source import open_source
from runs.models import LogEntry
from runs.ticker import Chore
from system.models import OpenLineageCursor
from system.openlineage_events import KINDS, Writer

logger = structlog.get_logger(__name__)

MOST_BEHIND = 200_000  # entries of the log
MOST_AGE = dt.timedelta(days=1)
_FIRST_LOOK = dt.timedelta(minutes=1)  # what happened while the first worker started is told, too
_BATCH, _WINDOW = 50, 5_000  # events that are made at once, and entries that are looked through for them
_SECONDS = 10.0  # of one request
_ROUND_SECONDS = 20.0  # after which the cursor is given back
_HELD = dt.timedelta(seconds=60)
_NOTE_SECONDS = 15.0  # a slow collector must not take longer for what is told at once than the cursor is held
_LONGEST_PAUSE = dt.timedelta(minutes=5)
_PATIENCE = 5.0  # for transactions that may still bring older entries
_MOST_READ = 64 * 1024
# Answers that say something about one event; all others say something about the collector.
_REFUSALS = frozenset({400, 413, 415, 422})
_PATH = "/api/v1/lineage"


class _Failed(Exception):
    """The collector cannot be told now."""


@dataclass
class Courier:
    """What tells, of one worker. `look` is its chore; it never waits for the network."""

    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards the thread
    _thread: threading.Thread | None = None
    _holder: str = field(default_factory=lambda: uuid.uuid4().hex)

    def look(self) -> None:
        """Start to tell, if there is anything to tell and nobody else does."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            if not _is_behind():
                return
            # A daemon: a worker that ends does not wait for a collector. What it had not noted is told again.
            self._thread = threading.Thread(target=self._tell, name="openlineage", daemon=True)
            self._thread.start()

    def _tell(self) -> None:
        try:
            self.tell_all()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("database away", telling="openlineage", error=str(error).split("\n")[0])
        except Exception:
            # It is tried again at the next look; runs must not notice.
            logger.exception("openlineage failed")
        finally:
            connections.close_all()

    def tell_all(self) -> None:
        """Take the cursor, and tell what there is, for a while."""
        frontier = _settled()
        if frontier is None:
            return
        cursor = self._take(frontier)
        if cursor is None:
            return
        problem = "An event cannot be made: that is a fault of ours, and the worker's log says where."
        try:
            self._tell_up_to(cursor, frontier)
            problem = ""
        except _Failed as failed:
            problem = str(failed)
        finally:
            # After a fault of ours, too: else the same events would be sent again each second.
            if problem and self._note(cursor, cursor.seq):
                self._put_off(cursor, problem)
            self._ours().update(holder="", held_until=None)

    def _tell_up_to(self, cursor: OpenLineageCursor, frontier: int) -> None:
        end = time.monotonic() + _ROUND_SECONDS
        cursor.seq = self._passed_over(cursor, frontier)
        with _client() as client:
            while cursor.seq < frontier and time.monotonic() < end:
                upto = min(frontier, cursor.seq + _WINDOW)
                entries = list(LogEntry.objects.filter(seq__gt=cursor.seq, seq__lte=upto, kind__in=KINDS).order_by("seq")[:_BATCH])
                if len(entries) == _BATCH:
                    upto = entries[-1].seq
                if not (self._send(client, entries, cursor) and self._note(cursor, upto)):
                    return  # it took so long that another holds the cursor
                cursor.failures = 0

    def _send(self, client: Client, entries: list[LogEntry], cursor: OpenLineageCursor) -> bool:
        """False when another holds the cursor. `cursor.seq` is that of the last entry that was dealt with, also after an error. Errors: `_Failed`."""
        writer, noted = Writer(entries), time.monotonic()
        for entry in entries:
            event = writer.event(entry)
            refusal = None if event is None else _post(client, event)
            cursor.seq = entry.seq
            if refusal:
                cursor.refused += 1
                cursor.problem = refusal
                logger.warning("openlineage event refused", run_id=str(entry.run_id), seq=entry.seq, reason=refusal)
            elif event is not None:
                cursor.sent += 1
            if time.monotonic() >= noted + _NOTE_SECONDS:
                if not self._note(cursor, entry.seq):
                    return False
                noted = time.monotonic()
        return True

    def _note(self, cursor: OpenLineageCursor, seq: int) -> bool:
        """Keep how far it is. False when another holds the cursor."""
        cursor.seq = max(cursor.seq, seq)
        changes = {"seq": cursor.seq, "sent": cursor.sent, "refused": cursor.refused, "problem": cursor.problem[:1000], "failures": 0}
        return bool(self._ours().update(held_until=timezone.now() + _HELD, retry_at=None, **changes))

    def _put_off(self, cursor: OpenLineageCursor, reason: str) -> None:
        failures = cursor.failures + 1
        pause = min(_LONGEST_PAUSE, dt.timedelta(seconds=2.0 ** min(failures, 10)))
        if failures == 1:
            logger.warning("openlineage collector away", reason=reason)
        self._ours().update(failures=failures, retry_at=timezone.now() + pause, problem=reason[:1000])

    def _passed_over(self, cursor: OpenLineageCursor, frontier: int) -> int:
        """Where to go on: further ahead, if the collector was away for too long."""
        start = max(cursor.seq, frontier - MOST_BEHIND)
        next_one = LogEntry.objects.filter(seq__gt=start).order_by("seq").values_list("timestamp", flat=True).first()
        if next_one is not None and next_one < timezone.now() - MOST_AGE:
            start = max(start, _first_since(timezone.now() - MOST_AGE, frontier) - 1)
        if count := start - cursor.seq:
            logger.warning("openlineage passed over", entries=count, reason="the collector was away for too long")
            self._ours().update(seq=start, skipped=F("skipped") + count)
        return start

    def _take(self, frontier: int) -> OpenLineageCursor | None:
        if not OpenLineageCursor.objects.exists():
            first = _first_since(timezone.now() - _FIRST_LOOK, frontier) - 1
            OpenLineageCursor.objects.bulk_create([OpenLineageCursor(id=1, seq=first)], ignore_conflicts=True)
        if not _free().update(holder=self._holder, held_until=timezone.now() + _HELD):
            return None
        return self._ours().first()

    def _ours(self) -> QuerySet[OpenLineageCursor]:
        return OpenLineageCursor.objects.filter(holder=self._holder)


def chore() -> Chore | None:
    """Of one worker; None where there is no collector."""
    return Chore("tell OpenLineage", 1.0, Courier().look, on_end=True) if settings.OPENLINEAGE_URL else None


@dataclass(frozen=True, slots=True)
class State:
    """How far it is. `failures`: tries in a row that failed, the last with `problem`; `entries_behind`: of the log, of whatever kind."""

    sent: int = 0
    refused: int = 0
    skipped: int = 0
    entries_behind: int = 0
    failures: int = 0
    problem: str = ""


def state() -> State:
    """Two queries."""
    row = OpenLineageCursor.objects.first()
    if row is None:
        return State()
    newest = LogEntry.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
    return State(row.sent, row.refused, row.skipped, max(0, newest - row.seq), row.failures, row.problem)


def address() -> str:
    """Where events go: the collector's address alone, or with the path of its API."""
    url: str = settings.OPENLINEAGE_URL
    return url if url.endswith(_PATH) else f"{url}{_PATH}"


def _is_behind() -> bool:
    newest = LogEntry.objects.order_by("-seq").values_list("seq", flat=True).first()
    if newest is None:
        return False
    return _free().filter(seq__lt=newest).exists() or not OpenLineageCursor.objects.exists()


def _free() -> QuerySet[OpenLineageCursor]:
    """The cursor, if nobody holds it and its time has come. Times further ahead than any pause are of a clock that was set back."""
    now = timezone.now()
    unheld = Q(holder="") | Q(held_until__lt=now) | Q(held_until__gt=now + 2 * _HELD)
    due = Q(retry_at__isnull=True) | Q(retry_at__lte=now) | Q(retry_at__gt=now + 2 * _LONGEST_PAUSE)
    return OpenLineageCursor.objects.filter(unheld, due)


def _settled() -> int | None:
    """The `seq` up to which nothing is to come any more; None while some transaction keeps that open for too long."""
    source, end = open_source(), time.monotonic() + _PATIENCE
    while (found := source.open()) is None:
        if time.monotonic() >= end:
            return None
        time.sleep(0.02)
    return found


def _first_since(moment: dt.datetime, newest: int) -> int:
    """The `seq` of about the first entry since then: the order of `seq` is that of time, but for entries of the same moment."""
    low, high = 1, newest + 1
    while low < high:
        middle = (low + high) // 2
        found = LogEntry.objects.filter(seq__gte=middle).order_by("seq").values_list("timestamp", flat=True).first()
        if found is None or found >= moment:
            high = middle
        else:
            low = middle + 1
    return low


# --- the collector --------------------------------------------------------------------------------------------------


@contextmanager
def _client() -> Iterator[Client]:
    """The address is the operator's own word, so its host may be anywhere. Where else it would send us is not: redirects are refused."""
    allowed: Allowed = settings.ALLOWED_NETWORKS
    host = plain_name(urlsplit(settings.OPENLINEAGE_URL).hostname or "")
    limits = Limits(seconds=_SECONDS, redirects=0, allowed=Allowed(allowed.networks, allowed.hosts | {host}))
    with Client(limits) as client:
        yield client


def _post(client: Client, event: bytes) -> str:
    """Why the collector does not want this event; "" when it took it. Errors: `_Failed`."""
    headers = {"Content-Type": "application/json"}
    if settings.OPENLINEAGE_API_KEY:
        headers["Authorization"] = f"Bearer {settings.OPENLINEAGE_API_KEY}"
    try:
        with client.opened("POST", address(), headers=headers, body=event) as answer:
            answer.read(_MOST_READ)  # to the end, so that the connection is kept
            status = answer.status
    except BrokoliError as error:
        raise _Failed(error.message) from error
    if 200 <= status < 300:
        return ""
    if status in _REFUSALS:
        return f"It answered {status}."
    if 300 <= status < 400:
        raise _Failed(f"It answered {status}, a redirect, and these are not followed: name the new address in OPENLINEAGE_URL.")
    raise _Failed(f"It answered {status}.")
