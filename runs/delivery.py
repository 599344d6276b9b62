"""Sends what the outbox holds: a few threads in each worker, the network outside of any transaction, at least once.

A notification is taken by a guarded UPDATE that moves `next_attempt_at` ahead: if the sender dies, that is when another takes it. A
receiver tells a repeat by `Idempotency-Key`, which is the same at each attempt.
"""

import datetime as dt
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from pipelines.hooks import receiver
from runs import log
from runs.messages import Verdict, send
from runs.models import Notification, Run
from runs.states import EntryKind

logger = structlog.get_logger(__name__)

SENDERS = 6
SENDERS_OF_A_RECEIVER = 2  # one that stalls holds no more
MOST_ATTEMPTS = 8
GIVE_UP_AFTER = dt.timedelta(hours=24)
LONGEST_WAIT_SECONDS = 3600.0
KEPT_WITHOUT_A_RUN = dt.timedelta(days=30)
_SECONDS_TO_SEND = {"email": 60}  # a mail server answers many times, each within the limit of one answer
_PAGE, _MOST_SEEN = 100, 2_000
_CHUNK = 500


def wait_before(attempts: int) -> float:
    """Seconds before the next attempt: 2, 8, 32 … up to an hour; jitter keeps them apart."""
    return min(2.0 * float(4 ** (attempts - 1)), LONGEST_WAIT_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311 - not for secrets


def due() -> int:
    """How many could be sent now; counted up to the number of senders."""
    return len(_due()[:SENDERS].values_list("id"))


def _due() -> QuerySet[Notification]:
    return Notification.objects.filter(status=Notification.Status.PENDING, next_attempt_at__lte=timezone.now()).order_by("next_attempt_at", "id")


def forget() -> int:
    """Delete what was told long ago and belongs to no run; what belongs to one goes with it. Returns how many."""
    settled = Notification.objects.filter(status__in=(Notification.Status.SENT, Notification.Status.FAILED), run__isnull=True)
    old = settled.filter(next_attempt_at__lt=timezone.now() - KEPT_WITHOUT_A_RUN).order_by()
    count = 0
    while ids := list(old.values_list("id", flat=True)[:_CHUNK]):
        count += Notification.objects.filter(id__in=ids).delete()[0]
    return count


@dataclass
class Postman:
    """The senders of one worker. `look` is its chore; it never waits for the network."""

    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards what follows
    _senders: set[threading.Thread] = field(default_factory=set)
    _receivers: Counter[str] = field(default_factory=Counter)
    _closed: bool = False

    @property
    def busy(self) -> bool:
        """Whether something is being sent, or could be."""
        with self._lock:
            if self._senders:
                return True
        return due() > 0

    def look(self) -> None:
        """Start as many senders as there is work for."""
        waiting = due()
        with self._lock:
            for _ in range(0 if self._closed else min(waiting, SENDERS - len(self._senders))):
                sender = threading.Thread(target=self._send_all, name="sender", daemon=True)
                self._senders.add(sender)
                sender.start()

    def close(self, seconds: float) -> None:
        """Take nothing more, and give what is under way so many seconds. What is cut off is sent again by another worker."""
        with self._lock:
            self._closed = True
            senders = list(self._senders)
        end = time.monotonic() + seconds
        for sender in senders:
            sender.join(max(0.0, end - time.monotonic()))

    def _send_all(self) -> None:
        """In a thread: one after the other, until nothing is left that may be sent."""
        try:
            while (found := self._take()) is not None:
                try:
                    deliver(found)
                finally:
                    self._free(receiver(found.hook))
        except (DatabaseError, InterfaceError) as error:
            logger.warning("database away", sending=True, error=str(error).split("\n")[0])
        except Exception:
            # The others must go on; what this one had taken is tried again when its time is over.
            logger.exception("sender failed")
        finally:
            with self._lock:
                self._senders.discard(threading.current_thread())
            connections.close_all()

    def _take(self) -> Notification | None:
        for start in range(0, _MOST_SEEN, _PAGE):
            page = list(_due()[start : start + _PAGE])
            for found in page:
                who = receiver(found.hook)
                if not self._reserve(who):
                    continue
                if claim(found):
                    return found
                self._free(who)
            if len(page) < _PAGE:
                break
        return None

    def _reserve(self, who: str) -> bool:
        with self._lock:
            if self._closed or self._receivers[who] >= SENDERS_OF_A_RECEIVER:
                return False
            self._receivers[who] += 1
            return True

    def _free(self, who: str) -> None:
        with self._lock:
            self._receivers[who] -= 1
            if not self._receivers[who]:
                del self._receivers[who]


def claim(found: Notification) -> bool:
    """Take a notification for an attempt. False when another sender was first."""
    until = timezone.now() + dt.timedelta(seconds=settings.LEASE_SECONDS + _SECONDS_TO_SEND.get(found.kind, 10))
    untouched = Notification.objects.filter(id=found.id, status=Notification.Status.PENDING, attempts=found.attempts)
    if untouched.filter(next_attempt_at=found.next_attempt_at).update(attempts=F("attempts") + 1, next_attempt_at=until) != 1:
        return False
    found.attempts += 1
    found.next_attempt_at = until
    return True


def deliver(found: Notification) -> None:
    """Make the attempt that was claimed, and write how it went."""
    try:
        verdict = send(found)
    except Exception as error:
        # Like any attempt that failed, or it would be made again for ever, by one sender after the other.
        logger.exception("sending crashed", notification=found.id)
        verdict = Verdict(again=True, reason=f"the server has a bug ({type(error).__name__}); its log says where.")
    settle(found, verdict)


def settle(found: Notification, verdict: Verdict) -> None:
    """Write how an attempt went: sent, to be tried again, or given up; the run's log tells the end of it.

    Guarded by the attempt: a sender that took longer than it may writes nothing.
    """
    now = timezone.now()
    changes: dict[str, object] = {"error": log.clean(verdict.reason)}
    gave_up = not verdict.sent and (not verdict.again or found.attempts >= MOST_ATTEMPTS or now - found.created_at >= GIVE_UP_AFTER)
    if verdict.sent:
        changes |= {"status": Notification.Status.SENT, "sent_at": now}
    elif gave_up:
        changes |= {"status": Notification.Status.FAILED}
    else:
        wait = max(wait_before(found.attempts), min(verdict.not_before_seconds, LONGEST_WAIT_SECONDS))
        changes |= {"next_attempt_at": now + dt.timedelta(seconds=wait)}
    with transaction.atomic():
        # The run first, as a purge does: else each would wait for what the other holds.
        if found.run_id and not Run.objects.select_for_update(no_key=True).filter(id=found.run_id).exists():
            return  # purged, and its notifications with it
        ours = Notification.objects.filter(id=found.id, status=Notification.Status.PENDING, attempts=found.attempts)
        if ours.update(**changes) and found.run_id and (verdict.sent or gave_up):
            who = f"{found.kind} {receiver(found.hook)}"
            told = (
                f"Told {who} of {found.event}" if verdict.sent else f"{who[0].upper()}{who[1:]} could not be told of {found.event}: {verdict.reason}"
            )
            log.append([log.entry(found.run_id, EntryKind.LOG, told, level="info" if verdict.sent else "warning")])
            log.notify()
