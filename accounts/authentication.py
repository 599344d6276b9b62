"""How requests of the API say who sends them: a token, or a name and its password."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from accounts import tokens
from accounts.models import ApiToken
from brokoli_site.common.errors import BrokoliError

_CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})


class ForeignPage(BrokoliError):
    """A page of another origin had the browser send this, with the password that it remembers. (BROKOLI_TRUSTED_ORIGINS names pages that may.)"""

    status, code = 403, "foreign_origin"


class BearerAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer brk_…`. No cookie is sent along by itself, so there is nothing that CSRF could use."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, rest = authentication.get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        admitted = tokens.admit(rest.strip().decode("latin-1"))
        if admitted is None:
            # The same sentence whether it never was, has expired or was deleted, or its user may no longer log in.
            raise exceptions.AuthenticationFailed("The token is not valid, or no longer: log in again, or make another.")
        return admitted

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Brokoli"'


class BasicAuthentication(authentication.BasicAuthentication):
    """A name and its password with each request; guessers are locked out of it as of the login.

    A browser that was once told them in a window of its own sends them along with whatever any page has it send, a form's empty POST too.
    """

    www_authenticate_realm = "Brokoli"

    def authenticate(self, request: Request) -> Any:
        """Errors: `ForeignPage`, before the password is looked at: pages elsewhere lock nobody out."""
        if authentication.get_authorization_header(request)[:6].lower() == b"basic " and is_of_foreign_page(request._request):
            raise ForeignPage
        return super().authenticate(request)

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> tuple[User, None]:
        if "\0" in userid:
            raise exceptions.AuthenticationFailed("Invalid username/password.")  # no database keeps such a name
        user, auth = super().authenticate_credentials(userid, password, request)
        return user, auth


def is_of_foreign_page(request: HttpRequest) -> bool:
    """Whether a browser sent this for a page of another origin, and it may change something. Programs send neither header."""
    if request.method in _CHANGES_NOTHING:
        return False
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        return request.META.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin")
    ours = f"{request.scheme}://{request.get_host()}"
    return str(origin).lower() not in {ours.lower(), *(trusted.lower() for trusted in settings.CSRF_TRUSTED_ORIGINS)}
