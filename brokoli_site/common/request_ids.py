"""An id for each request: in its answer, in every log line that is written on its behalf, and in its problem, if it has one.

And one line a request in the log: who asked for what, and how it went. It names the route, never the address as it came: a query may hold a
token, and a path what somebody mistyped.
"""

import re
import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from brokoli_site.common.ids import new_id

HEADER = "X-Request-ID"
UNMATCHED = "(unmatched)"  # no route has this address
STATIC = "(static)"
# What proxies send: UUIDs, hexadecimal, the like. Anything else is not worth a place in a log.
_SANE = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.:+=-]{0,63}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Machines ask for these every few seconds.
_OF_MACHINES = frozenset({"/livez", "/readyz", "/health", "/metrics", STATIC})

logger = structlog.get_logger("brokoli.access")


def of(request: object) -> str:
    """The id of a request (Django's or DRF's); "" of one that no server has seen."""
    return str(getattr(request, "request_id", ""))


def route_of(request: HttpRequest) -> str:
    """The route that the request took, as it stands in the URL configuration: `/api/runs/<str:run_id>`. One of a bounded set."""
    match = getattr(request, "resolver_match", None)
    if match is not None:
        return f"/{match.route.lstrip('^/')}"
    return STATIC if request.path.startswith(settings.STATIC_URL) else getattr(request, "answered_as", UNMATCHED)


def method_of(request: HttpRequest) -> str:
    """The request's method; `OTHER` for one that nobody knows."""
    return str(request.method) if request.method in _METHODS else "OTHER"


class RequestIdMiddleware:
    """Stands first: what comes after logs under the id."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = _accepted(request.headers.get(HEADER, "")) or new_id().hex
        request.request_id = request_id  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.monotonic()
        response = self.get_response(request)
        response.headers[HEADER] = request_id
        _tell(request, response, time.monotonic() - started)
        if not response.streaming:  # else its pieces are made after this; under ASGI each request has a context of its own
            structlog.contextvars.clear_contextvars()
        return response


def _accepted(given: str) -> str:
    return given if _SANE.fullmatch(given) else ""


def _tell(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    route = route_of(request)
    say = logger.debug if route in _OF_MACHINES and response.status_code < 500 else logger.info
    say(
        "request",
        method=method_of(request),
        route=route,
        status=response.status_code,
        duration_ms=round(seconds * 1000),
        user=_user_of(request),
    )


def _user_of(request: HttpRequest) -> str | None:
    """The id of the user, `local` of the administrator of local mode; None of nobody, or where nobody has asked yet who it is."""
    user = getattr(request, "user", None)
    if user is None or (isinstance(user, LazyObject) and user._wrapped is empty):
        return None
    if not user.is_authenticated:
        return None
    return user.get_username() if user.pk is None else str(user.pk)
