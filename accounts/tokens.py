"""Tokens of programs: made, recognised, ended. A token is 256 random bits, so its digest needs no salt and no slow hash."""

import hashlib
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.utils.timezone import now

from accounts.models import ApiToken, ScopedUser
from brokoli_site.common.errors import Conflict

PREFIX = "brk_"
MOST_NAMED = 50  # of one user
MOST_LOGINS = 50  # of one user; one more ends the oldest
USED_EVERY = timedelta(minutes=1)
_HINT = len(PREFIX) + 6
_PATIENCE_MS = 200
_log = logging.getLogger(__name__)


def issue(user: User, kind: ApiToken.Kind, name: str, *, lasts: timedelta, scopes: list[str] | None = None) -> tuple[ApiToken, str]:
    """A new token of this user, and its text, which is nowhere kept. Errors: `Conflict` when they have too many."""
    secret = PREFIX + secrets.token_hex(32)
    made = now()
    with transaction.atomic():
        # Whoever makes two at once waits here: the number of tokens is bounded, however they are asked for.
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        ApiToken.objects.expired(made).filter(user_id=user.pk).delete()
        _make_room(user, kind)
        token = ApiToken.objects.create(
            user_id=user.pk,
            kind=kind,
            name=name,
            digest=_digest(secret),
            hint=secret[:_HINT],
            scopes=scopes,
            created_at=made,
            expires_at=made + lasts,
        )
    return token, secret


def _make_room(user: User, kind: ApiToken.Kind) -> None:
    others = ApiToken.objects.filter(user_id=user.pk, kind=kind)
    if kind == ApiToken.Kind.LOGIN:
        too_old = others.order_by("-created_at", "-id").values_list("pk", flat=True)[MOST_LOGINS - 1 :]
        ApiToken.objects.filter(pk__in=list(too_old)).delete()
    elif others.count() >= MOST_NAMED:
        raise Conflict(f"A user has {MOST_NAMED} tokens at most; delete one that is no longer used.")


def admit(secret: str) -> tuple[User, ApiToken] | None:
    """The user whose token this is, narrowed to its scopes, and the token; None for any that lets nobody in. One query."""
    if not secret.startswith(PREFIX) or not secret.isascii():
        return None
    moment = now()
    token = ApiToken.objects.alive(moment).select_related("user").filter(digest=_digest(secret)).first()
    if token is None:
        return None
    _note_use(token, moment)
    user: Any = token.user
    return (user if token.scopes is None else ScopedUser.narrowed(user, token.scopes)), token


def prune(moment: datetime) -> int:
    """Forget those that have expired."""
    deleted, _ = ApiToken.objects.expired(moment).delete()
    return deleted


def _note_use(token: ApiToken, moment: datetime) -> None:
    """At most once a minute, and never at the price of the request: a database that is busy hears of it with the next one."""
    before = moment - USED_EVERY
    if token.last_used_at is not None and token.last_used_at > before:
        return
    unused = Q(last_used_at__isnull=True) | Q(last_used_at__lte=before)
    try:
        with _impatient():
            ApiToken.objects.filter(unused, pk=token.pk).update(last_used_at=moment)
    except DatabaseError:
        _log.info("the last use of a token was not noted: the database is busy")


@contextmanager
def _impatient() -> Iterator[None]:
    """A transaction that waits for a lock for a moment only."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA busy_timeout")
            usual = int(cursor.fetchone()[0])
            cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        try:
            with transaction.atomic():
                if connection.vendor == "postgresql":
                    cursor.execute(f"SET LOCAL lock_timeout = {_PATIENCE_MS}")
                yield
        finally:
            if connection.vendor == "sqlite":
                cursor.execute(f"PRAGMA busy_timeout = {usual}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
