"""What machines ask: `/livez`, `/readyz`, `/health`, `/metrics`. Answered before anything else is asked of the database.

A session, a user, even local mode are rows: who waits for those waits as long as the database does. So these stand before the middleware that
asks for them, and before the check of the host name, which a probe by address would not pass. They tell whoever asks no more than
whether it works; who wants to know more gives credentials, and is passed on once the database is known to answer.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare

from brokoli_site.common.json import dumps
from brokoli_site.common.local_mode import is_local
from system import health, metrics


class ProbesMiddleware:
    """Passes on what is no probe, and what is one with credentials."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        probe = _PROBES.get(request.path)
        if probe is None:
            return self.get_response(request)
        request.answered_as = request.path  # type: ignore[attr-defined]  # for the log and the metrics: a route that no resolver has found
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return probe(request) or self.get_response(request)


def _livez(request: HttpRequest) -> HttpResponse:
    """The process answers; nobody else is asked."""
    return _answer({"status": "ok"})


def _readyz(request: HttpRequest) -> HttpResponse:
    """Whether requests can be served, and if not, why. The reasons are sentences of ours that name nothing of this installation."""
    problems = [check.message for check in health.readiness().values() if check.status == "down"]
    return _answer({"status": "not ready" if problems else "ready", "problems": problems}, 503 if problems else 200)


def _health(request: HttpRequest) -> HttpResponse | None:
    """The one word that all parts together come to, for whoever asks; all of it from the view, for those who give credentials."""
    if _may_be_somebody(request) and health.answers():
        return None
    found = health.health()
    return _answer({"status": found.status}, found.status_code)


def _metrics(request: HttpRequest) -> HttpResponse | None:
    """All of it for whoever shows the token, also while the database is away; all others log in, which needs the database."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    token = settings.METRICS_TOKEN
    if token and scheme.lower() == "bearer" and constant_time_compare(given.strip(), token):
        return HttpResponse(metrics.exposition(), content_type=metrics.CONTENT_TYPE)
    return None if health.answers() else _answer({"status": "down"}, 503)


def _may_be_somebody(request: HttpRequest) -> bool:
    return "authorization" in request.headers or settings.SESSION_COOKIE_NAME in request.COOKIES or is_local(request.META)


def _answer(body: dict[str, object], status: int = 200) -> HttpResponse:
    return HttpResponse(dumps(body), status=status, content_type="application/json", headers={"Cache-Control": "no-store"})


_PROBES: dict[str, Callable[[HttpRequest], HttpResponse | None]] = {"/livez": _livez, "/readyz": _readyz, "/health": _health, "/metrics": _metrics}
