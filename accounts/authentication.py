"""How requests of the API say who sends them: a token, or a name and its password."""

from typing import Any

from django.contrib.auth.models import User
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from accounts import tokens
from accounts.models import ApiToken


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
    """A name and its password with each request; guessers are locked out of it as of the login."""

    www_authenticate_realm = "Brokoli"

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> tuple[User, None]:
        if "\0" in userid:
            raise exceptions.AuthenticationFailed("Invalid username/password.")  # no database keeps such a name
        user, auth = super().authenticate_credentials(userid, password, request)
        return user, auth
