"""Deletes what is too old of the audit log. Nothing else does; and each time it says so in the log itself."""

import datetime as dt
import time

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.ids import earliest
from brokoli_site.common.time import iso
from runs.ticker import Chore
from system.models import AuditEntry

EVERY_SECONDS, SECONDS = 3600.0, 3.0
BATCH = 500  # rows of a transaction, which takes a few hundredths of a second

logger = structlog.get_logger(__name__)


def chore() -> Chore | None:
    """Of one worker; None where entries are kept for ever."""
    return Chore("purge the audit log", EVERY_SECONDS, keep) if settings.AUDIT_DAYS else None


def keep() -> None:
    """Delete what is older than `BROKOLI_AUDIT_DAYS`."""
    purge(settings.AUDIT_DAYS, seconds=SECONDS)


def purge(days: int, *, seconds: float) -> int:
    """Delete the entries of more than so many days ago, for `seconds` at most. Returns how many went."""
    before = timezone.now() - dt.timedelta(days=days)
    end = time.monotonic() + seconds
    deleted = 0
    while time.monotonic() < end:
        started = time.monotonic()
        found = _delete_some(before)
        if not found:
            break
        deleted += found
        time.sleep(time.monotonic() - started)  # as long as other writers had to wait
    if deleted:
        logger.info("audit log purged", days=days, entries=deleted)
    return deleted


def _delete_some(before: dt.datetime) -> int:
    old = AuditEntry.objects.filter(id__lt=earliest(before)).order_by("id")
    if not old.exists():  # a plain read: nobody waits for the write lock when there is nothing to do
        return 0
    with transaction.atomic():
        keys = list(old.select_for_update(skip_locked=True).values_list("id", flat=True)[:BATCH])
        deleted = AuditEntry.objects.filter(id__in=keys).delete_expired() if keys else 0
        if deleted:
            audit.record("audit.purged", "audit", "", after={"entries": deleted, "older_than": iso(before)})
        return deleted
