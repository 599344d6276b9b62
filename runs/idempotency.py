"""Requests that must not be done twice: with the same `Idempotency-Key` a client gets the first answer again, for a day.

The key is stored with what the request made, in one transaction: a server killed in between leaves neither, and a request that
failed leaves nothing, so that it may be tried again.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from brokoli_site.common.errors import BadRequest, BrokoliError, Conflict
from runs.models import IdempotencyKey

KEPT = dt.timedelta(hours=24)
LONGEST_KEY = 255
_STEP = 500
_MADE = frozenset({201, 202})  # what was refused, and what only looked (a backfill's `dry_run`), may be asked again and leaves nothing


class KeyReused(BrokoliError):
    """This Idempotency-Key was used for another request; a new request needs a new key."""

    status, code = 422, "idempotency_key_reused"


class StillInProgress(Conflict):
    """The request with this Idempotency-Key is still in progress; ask again in a moment."""

    code = "idempotency_in_progress"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered. `body` is plain JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Request:
    """A request with a key. `scope` is whose it is; `fingerprint` tells it from another request."""

    scope: str
    key: str
    fingerprint: str


def request(*, key: str, method: str, path: str, body: Any, user_id: object = None, scope: str = "") -> Request:
    """`scope`: whose key it is where that is no user. Errors: `BadRequest` for a key that cannot be one."""
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise BadRequest(f"The Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters.")
    canonical = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"))
    whose = scope or ("local" if user_id is None else f"user:{user_id}")
    return Request(whose, key, hashlib.sha256(canonical.encode()).hexdigest())


def once(asked: Request, act: Callable[[], Answer]) -> tuple[Answer, bool]:
    """The answer of `act`, which is called unless this was answered within a day; whether it was.

    `act` runs inside the transaction that stores the key. Errors: `KeyReused`, `StillInProgress`, and those of `act`.
    """
    kept = _kept(asked)  # a plain read: who only asks again must not queue for the write lock
    if kept is not None:
        return kept, True
    with transaction.atomic():
        _take_turn(asked)
        kept = _kept(asked)
        if kept is not None:
            return kept, True
        answer = act()
        if answer.status in _MADE:
            _keep(asked, answer)
        return answer, False


def forget() -> int:
    """Delete the keys that are too old to answer, some at a time so that nobody waits long. Returns how many."""
    forgotten = 0
    old = IdempotencyKey.objects.filter(created_at__lte=timezone.now() - KEPT).order_by("created_at")
    while keys := list(old.values_list("id", flat=True)[:_STEP]):
        forgotten += IdempotencyKey.objects.filter(id__in=keys).delete()[0]
    return forgotten


def _kept(asked: Request) -> Answer | None:
    row = IdempotencyKey.objects.filter(scope=asked.scope, key=asked.key, created_at__gt=timezone.now() - KEPT).first()
    if row is None:
        return None
    if row.fingerprint != asked.fingerprint:
        raise KeyReused
    return Answer(row.status_code, row.headers, row.body)


def _keep(asked: Request, answer: Answer) -> None:
    IdempotencyKey.objects.filter(scope=asked.scope, key=asked.key).delete()  # one that is too old to answer
    IdempotencyKey.objects.create(
        scope=asked.scope,
        key=asked.key,
        fingerprint=asked.fingerprint,
        status_code=answer.status,
        headers=dict(answer.headers),
        body=answer.body,
        created_at=timezone.now(),
    )


def _take_turn(asked: Request) -> None:
    """One request a key at a time, until the transaction ends. SQLite has one writer anyway: there the others wait."""
    if connection.vendor != "postgresql":
        return
    digest = hashlib.sha256(f"idempotency\0{asked.scope}\0{asked.key}".encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], signed=True)])
        if not cursor.fetchone()[0]:
            raise StillInProgress
