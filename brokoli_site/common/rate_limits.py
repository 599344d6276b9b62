"""How often somebody may ask: each user, each address of strangers, and, far less often, who guesses passwords and tokens.

Windows are minutes of the clock. Answers say what is left of one in the headers of the IETF's draft "RateLimit header fields for HTTP"
(draft-ietf-httpapi-ratelimit-headers-10), and in the older `X-RateLimit-*`; who asked too often gets a 429 with `Retry-After`.

Whose a request is has to be known before it is let in, but that a password or a token is right is known only after it was checked. So a
credential that proved right stands for its user from then on, for a while; until then, and when it is wrong, it is a stranger's. Thus nobody
uses up what belongs to a user, and nobody who tries out credentials gets further than a stranger. A stranger has an address; of IPv6 the
network of 64 bits, which one household has.

Counters are in this process's memory, or in Redis for all (`BROKOLI_REDIS_URL`). Their number is bounded: those not used for longest go first.
"""

import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.core.cache import BaseCache, caches
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.local_mode import LocalAdministrator
from brokoli_site.common.problems import answer
from brokoli_site.common.proxies import network_of

WINDOW_SECONDS = 60
# Where an ASGI scope says that we ask ourselves: whether the client of an open WebSocket may still be there.
NOT_COUNTED = "brokoli.not_counted"
_PROVEN_SECONDS = 600
_REDIS_PAUSE_SECONDS = 5.0
_LOGINS = frozenset({"/login", "/admin/login/", "/api/auth/login"})
_WEBHOOK = re.compile(r"/api/pipelines/[^/]*/webhook")
_log = logging.getLogger(__name__)
_clock = time.time  # the same for all processes, unlike a monotonic one


class TooManyRequests(BrokoliError):
    """Too many requests; wait a moment."""

    status, code = 429, "too_many_requests"


@dataclass(frozen=True, slots=True)
class Count:
    """How many requests of a window are used, of how many, and how long it lasts."""

    policy: str  # the name that the headers give it
    limit: int
    used: int
    seconds: int

    @property
    def over(self) -> bool:
        return self.used > self.limit

    def headers(self) -> dict[str, str]:
        left = max(0, self.limit - self.used)
        found = {
            "RateLimit-Policy": f'"{self.policy}";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.policy}";r={left};t={self.seconds}',
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(self.seconds),
        }
        return found | ({"Retry-After": str(self.seconds)} if self.over else {})


def _redis_errors() -> tuple[type[Exception], ...]:
    """Of a Redis that is away. Its package is not imported for this: it brings OpenTelemetry along, and most servers need neither."""
    module = sys.modules.get("redis.exceptions")
    return (OSError,) if module is None else (module.RedisError, OSError)


class Counters:
    """The counters of all, by key. A Redis that is away is left alone for a moment, and each process counts for itself."""

    def __init__(self) -> None:
        self._away_until = 0.0

    # One object for all threads, each of which lives for one request: Django would make one for each.

    @cached_property
    def _shared(self) -> BaseCache:
        return caches.create_connection("shared_counters")

    @cached_property
    def _own(self) -> BaseCache:
        return caches.create_connection("counters")

    def ask(self, operation: Callable[[Any], Any]) -> Any:
        """What `operation` makes of the cache that is there."""
        if settings.REDIS_URL and time.monotonic() >= self._away_until:
            try:
                return operation(self._shared)
            except _redis_errors() as error:
                self._away_until = time.monotonic() + _REDIS_PAUSE_SECONDS
                _log.warning("rate limits: Redis is away, this process counts alone: %s", type(error).__name__)
        return operation(self._own)

    def add(self, key: str, seconds: int) -> int:
        """Count one more. Returns how many there are."""

        def count(cache: Any) -> int:
            for _ in range(3):  # between the two, another may make it, or it may end
                try:
                    return int(cache.incr(key))
                except ValueError:
                    if cache.add(key, 1, seconds):
                        return 1
            return 1

        return int(self.ask(count))


counters = Counters()


def take(policy: str, limit: int, whose: str) -> Count:
    """Count a request in its window."""
    window, gone = divmod(_clock(), WINDOW_SECONDS)
    return Count(policy, limit, counters.add(f"{whose}:{window:.0f}", WINDOW_SECONDS * 2), max(1, round(WINDOW_SECONDS - gone)))


def seen(policy: str, limit: int, whose: str) -> Count:
    """The same without counting: what the next one would find."""
    window, gone = divmod(_clock(), WINDOW_SECONDS)
    used = counters.ask(lambda cache: cache.get(f"{whose}:{window:.0f}", 0))
    return Count(policy, limit, int(used) + 1, max(1, round(WINDOW_SECONDS - gone)))


def _digest(text: str) -> str:
    return salted_hmac("brokoli.rate_limits", text, algorithm="sha256").hexdigest()


def _address_of(request: HttpRequest) -> str:
    return str(network_of(request.META.get("REMOTE_ADDR")) or "local")


def _guesses_of(request: Any) -> str:
    """Whose guesses these are. Of a webhook, those at this one: who sends for many (a code host) must not lock out others by one of them."""
    address = _address_of(request)
    return f"guess:{address}:{_digest(request.path_info)}" if _WEBHOOK.fullmatch(request.path_info) else f"guess:{address}"


def count_failed_login(request: Any = None, **_: Any) -> None:
    """Django's signal: somebody's name and password did not fit, whichever way they came."""
    if request is not None and settings.RATE_LIMIT_GUESSES:
        take("guesses", settings.RATE_LIMIT_GUESSES, _guesses_of(request))


user_login_failed.connect(count_failed_login, dispatch_uid="brokoli.rate_limits")


class RateLimitsMiddleware:
    """Stands where it is known whose session it is. The administrator of local mode may ask as often as the machine can."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        who: Any = request.user
        if isinstance(who, LocalAdministrator) or getattr(request, "scope", {}).get(NOT_COUNTED):
            return self.get_response(request)
        credential = "" if who.is_authenticated else request.META.get("HTTP_AUTHORIZATION", "")
        proof = f"proven:{_digest(credential)}" if credential else ""
        user = who.pk if not proof else counters.ask(lambda cache: cache.get(proof))
        guesses = user is None and _is_guess(request, credential)
        count = self._count(request, user, guesses=guesses)
        if count is not None and count.over:
            return _refused(request, count)
        response = self.get_response(request)
        if proof:
            _learn(request, response, proof, known=user is not None)
        if guesses and response.status_code == 404 and settings.RATE_LIMIT_GUESSES:  # a login that failed has told so by itself
            take("guesses", settings.RATE_LIMIT_GUESSES, _guesses_of(request))
        if count is not None:
            for name, value in count.headers().items():
                response.headers.setdefault(name, value)
        return response

    def _count(self, request: HttpRequest, user: Any, *, guesses: bool) -> Count | None:
        """The narrowest limit that holds for this request; None where there is none."""
        if guesses and settings.RATE_LIMIT_GUESSES:
            count = seen("guesses", settings.RATE_LIMIT_GUESSES, _guesses_of(request))
            if count.over:
                return count
        if user is not None:
            return take("user", settings.RATE_LIMIT, f"user:{user}") if settings.RATE_LIMIT else None
        if not settings.RATE_LIMIT_STRANGERS:
            return None
        return take("address", settings.RATE_LIMIT_STRANGERS, f"address:{_address_of(request)}")


def _is_guess(request: HttpRequest, credential: str) -> bool:
    """Whether this is where a password or a webhook's token may be tried. Tokens of users are too long to be guessed."""
    if credential[:6].lower() == "basic ":
        return True
    return request.method == "POST" and (request.path_info in _LOGINS or _WEBHOOK.fullmatch(request.path_info) is not None)


def _learn(request: HttpRequest, response: HttpResponseBase, proof: str, *, known: bool) -> None:
    """Whose this credential is, or that it is nobody's any more."""
    user = request.user  # whom the view has found
    if not known and user.is_authenticated and user.pk is not None:
        counters.ask(lambda cache: cache.set(proof, user.pk, _PROVEN_SECONDS))
    elif known and response.status_code == 401:
        counters.ask(lambda cache: cache.delete(proof))


def _refused(request: HttpRequest, count: Count) -> HttpResponseBase:
    what = "attempts with a wrong password or token" if count.policy == "guesses" else "requests"
    response = answer(request, TooManyRequests(f"More than {count.limit} {what} within a minute; the next are answered in {count.seconds} s."))
    for name, value in count.headers().items():
        response.headers[name] = value
    return response
