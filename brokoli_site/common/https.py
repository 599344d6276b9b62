"""Plain http on a server that is reached by https alone: browsers are shown the way, by Django; who sent something is told so here.

A redirect repairs the address that a person typed. Of a program it would hide that each of its requests shows its password or token to the whole way;
and what is not a GET, clients repeat as one.
"""

import re
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.problems import answer


class HttpsRequired(BrokoliError):
    """This server is reached by https alone. What was sent, credentials too, came over plain http: others may have read it."""

    status, code = 403, "https_required"


class HttpsMiddleware:
    """Stands before Django's `SecurityMiddleware`, and leaves it what nothing is lost of."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.exempt = [re.compile(pattern) for pattern in settings.SECURE_REDIRECT_EXEMPT]

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not settings.HTTPS or request.is_secure() or any(pattern.search(request.path.lstrip("/")) for pattern in self.exempt):
            return self.get_response(request)
        if request.method not in ("GET", "HEAD") or "authorization" in request.headers:
            return answer(request, HttpsRequired())
        return self.get_response(request)
