"""Guessers of passwords are locked out: django-axes, with counters that also hold against guesses made at the same moment.

axes counts a guess when it has failed; a hundred guesses at once would all be looked at before the first is counted. So a guess takes its
place in the counters before the password is looked at, each by one conditional UPDATE, and gives it back if it was right.

Three counters, each of 15 minutes:
- a name from an address: 5. Whoever guesses elsewhere does not lock the right person out.
- an address, whatever the names: 50.
- a name, from wherever: 100; it does not count for addresses from which that name has logged in within 30 days.

The rows are axes' own, so its commands (`manage.py axes_reset_username ada`, `axes_reset_ip …`) forgive.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, F, Q, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.timezone import now

from brokoli_site.common import audit
from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.problems import answer
from brokoli_site.common.proxies import network_of

OF_NAME_AND_ADDRESS, OF_ADDRESS, OF_NAME = 5, 50, 100
COOL_OFF = timedelta(minutes=15)
_KNOWN_FOR, _SEEN_EVERY = timedelta(days=30), timedelta(days=1)
_ANY_NAME, _ANY_ADDRESS = "", "::"


class LockedOut(BrokoliError):
    """Too many wrong passwords: try again later."""

    status, code = 429, "locked_out"


@dataclass(frozen=True, slots=True)
class Counter:
    name: str
    address: str
    most: int

    def row(self) -> Q:
        return Q(username=self.name, ip_address=self.address, user_agent="")


class Guard(AxesDatabaseHandler):  # type: ignore[misc]  # axes has no types
    """axes' handler: asked before a password is looked at."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        name, address = shown_name(str((credentials or {}).get("username") or "")), address_of(request)
        wait = reserve(name, address)
        request.brokoli_lockout = wait  # type: ignore[attr-defined]
        return wait is None

    def is_locked(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        return getattr(request, "brokoli_lockout", None) is not None

    def user_login_failed(self, sender: Any, credentials: dict[str, Any], request: Any = None, **_: Any) -> None:
        """It was counted before."""
        http = getattr(request, "_request", request)
        # What is refused without a look leaves no entry: a guesser must not fill the log.
        if http is None or self.is_locked(http):
            return
        name = shown_name(str(credentials.get("username") or ""))
        audit.note("auth.login_failed", "user", "", name)
        full = Counter(name, address_of(http), OF_NAME_AND_ADDRESS)
        if AccessAttempt.objects.filter(full.row(), failures_since_start__gte=full.most).exists():
            audit.note("auth.locked", "user", "", name)

    def user_logged_in(self, sender: Any, request: Any, user: Any, **_: Any) -> None:
        """The backend said so before, of logins that keep no session, too."""

    def user_logged_out(self, sender: Any, request: Any, user: Any, **_: Any) -> None:
        """Nothing to count."""


def reserve(name: str, address: str) -> timedelta | None:
    """Count a guess before it is looked at. Returns how long to wait, where there were too many; those are not counted."""
    moment = now()
    with transaction.atomic():
        for counter in _counters(name, address, moment):
            if not _count(counter, moment):
                wait = _wait(counter, moment)
                transaction.set_rollback(True)
                return wait
    return None


def succeeded(name: str, address: str) -> None:
    """The guess was right: what was wrong before is forgotten, of this name and this address; the others get their place back."""
    moment = now()
    with transaction.atomic():
        for counter in _counters(name, address, moment):
            whole = counter.name != _ANY_NAME and counter.address != _ANY_ADDRESS
            less = Value(0) if whole else F("failures_since_start") - 1
            AccessAttempt.objects.filter(counter.row(), failures_since_start__gt=0).update(failures_since_start=less)
        if not AccessLog.objects.filter(username=name, ip_address=address, attempt_time__gt=moment - _SEEN_EVERY).exists():
            AccessLog.objects.create(username=name, ip_address=address, user_agent="", http_accept="", path_info="")


def prune() -> int:
    """Forget counters that count no more, and addresses that are known no more. Returns how many rows."""
    moment = now()
    old: int
    unknown: int
    old, _ = AccessAttempt.objects.filter(attempt_time__lt=moment - COOL_OFF).delete()
    unknown, _ = AccessLog.objects.filter(attempt_time__lt=moment - _KNOWN_FOR).delete()
    return old + unknown


def shown_name(name: str) -> str:
    """The name, if a user has it; else a digest: people type their password where the name belongs, and it must not be kept."""
    if "\0" not in name and User.objects.filter(username=name).exists():
        return name
    return f"unknown {hashlib.sha256(name.encode(errors='replace')).hexdigest()[:12]}"


def address_of(request: HttpRequest) -> str:
    """Whose guess it is, as the column takes it: see `network_of`."""
    return str(network_of(request.META.get("REMOTE_ADDR")) or "0.0.0.0")  # noqa: S104 - a socket of the file system has no address


def locked_out(request: HttpRequest, *_: Any) -> HttpResponse:
    """axes' answer instead of the view's: a problem for programs, a page for people."""
    wait: timedelta = getattr(request, "brokoli_lockout", None) or COOL_OFF
    seconds = max(1, math.ceil(wait.total_seconds()))
    minutes = math.ceil(seconds / 60)
    sentence = f"Too many wrong passwords. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
    if request.path.startswith(("/admin", "/login")):
        response = render(request, "accounts/locked_out.html", {"sentence": sentence}, status=LockedOut.status)
    else:
        response = answer(request, LockedOut(sentence))
    response["Retry-After"] = str(seconds)
    return response


def _counters(name: str, address: str, moment: datetime) -> Iterator[Counter]:
    """Always in this order, so that nobody waits for somebody who waits for them."""
    yield Counter(_ANY_NAME, address, OF_ADDRESS)
    yield Counter(name, address, OF_NAME_AND_ADDRESS)
    if not AccessLog.objects.filter(username=name, ip_address=address, attempt_time__gt=moment - _KNOWN_FOR).exists():
        yield Counter(name, _ANY_ADDRESS, OF_NAME)


def _count(counter: Counter, moment: datetime) -> bool:
    """Whether there was a place. One UPDATE decides: of many at once, no more than `most` find one."""
    if _raise(counter, moment):
        return True
    new = AccessAttempt(
        username=counter.name,
        ip_address=counter.address,
        user_agent="",
        http_accept="",
        path_info="",
        get_data="",
        post_data="",
        failures_since_start=0,
    )
    AccessAttempt.objects.bulk_create([new], ignore_conflicts=True)
    return _raise(counter, moment)


def _raise(counter: Counter, moment: datetime) -> bool:
    old = Q(attempt_time__lt=moment - COOL_OFF)
    rows = AccessAttempt.objects.filter(counter.row(), old | Q(failures_since_start__lt=counter.most))
    return bool(rows.update(failures_since_start=Case(When(old, then=Value(1)), default=F("failures_since_start") + 1), attempt_time=moment))


def _wait(counter: Counter, moment: datetime) -> timedelta:
    last = AccessAttempt.objects.filter(counter.row()).values_list("attempt_time", flat=True).first()
    return COOL_OFF if last is None else max(timedelta(seconds=1), last + COOL_OFF - moment)
