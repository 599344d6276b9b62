"""Local mode: on a fresh machine, requests that provably come from this machine act as administrator, until the first user exists.

A request counts as local when the server listens on loopback, the peer is loopback, the `Host` is a local name, no proxy
forwarded it, and it was not sent by a page of another origin (a web page may make a browser post to localhost).
"""

import re
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from brokoli_site.common.exposure import is_loopback

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
# A header whose name begins so was written by a proxy, for somebody who may be anywhere.
_FORWARDED = ("HTTP_X_FORWARDED_", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_CLIENT_IP", "HTTP_TRUE_CLIENT_IP", "HTTP_CF_CONNECTING_IP", "HTTP_VIA")


class LocalAdministrator:
    """The person at this machine. Looks enough like a user for permissions and the admin; is no row in the database."""

    pk = id = None
    username = "local"
    is_active = is_staff = is_superuser = is_authenticated = True
    is_anonymous = False

    def __str__(self) -> str:
        return "local administrator"

    def get_username(self) -> str:
        return self.username

    get_short_name = get_full_name = get_username

    def has_usable_password(self) -> bool:
        return False

    def has_perm(self, perm: str, obj: object | None = None) -> bool:
        return True

    def has_perms(self, perms: object, obj: object | None = None) -> bool:
        return True

    def has_module_perms(self, app_label: str) -> bool:
        return True


def is_local_administrator(user: Any) -> bool:
    """Whether this is the person at this machine, no row of the database."""
    return isinstance(user, LocalAdministrator)


def host_name(host: str) -> str:
    """`localhost` of `localhost:8080`, `[::1]` of `[::1]:8080`."""
    return re.sub(r":\d*\Z", "", host.lower())


def is_local(meta: dict[str, Any]) -> bool:
    """Whether the request with these WSGI-style headers is from this machine and from no foreign page."""
    host = str(meta.get("HTTP_HOST", ""))
    if not is_loopback(settings.BIND) or not is_loopback(str(meta.get("REMOTE_ADDR", ""))):
        return False
    if host_name(host) not in _LOCAL_NAMES or any(name.startswith(_FORWARDED) for name in meta):
        return False
    if meta.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        return False
    origin = meta.get("HTTP_ORIGIN")
    return origin is None or str(origin).lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def local_administrator(meta: dict[str, Any]) -> LocalAdministrator | None:
    """The administrator that this request acts as, while local mode lasts."""
    if is_local(meta) and not get_user_model()._default_manager.exists():
        return LocalAdministrator()
    return None


class LocalModeAuthentication(BaseAuthentication):
    """DRF: answers for the API what the middleware found. Stands first, so that a fresh machine's `curl` needs nothing."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        user = getattr(request._request, "user", None)
        return (user, None) if isinstance(user, LocalAdministrator) else None

    def authenticate_header(self, request: Request) -> str:
        # DRF asks the first class what to send; without a scheme it would answer 403 to a request that has no credentials.
        if request.headers.get("Authorization", "")[:7].lower() == "bearer ":
            return 'Bearer realm="Brokoli", error="invalid_token"'
        return 'Basic realm="Brokoli", Bearer realm="Brokoli"'


class LocalModeMiddleware:
    """Django: answers for all; asks the database once a request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            user = local_administrator(request.META)
            if user is not None:
                request.user = user  # type: ignore[assignment]
        return self.get_response(request)
