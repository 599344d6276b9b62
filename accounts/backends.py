"""How Django checks a name and its password, wherever somebody gives them: the login of the API, Basic authentication, the pages, the admin."""

from typing import Any

from axes.backends import AxesBackend
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from accounts import lockout


class GuardedBackend(AxesBackend):  # type: ignore[misc]  # axes has no types
    """axes is asked first. Unknown names, wrong passwords and deactivated users cost the same time and answer the same."""

    def authenticate(self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any) -> User | None:
        if request is None:  # nobody's request: a command, or a test
            return self._checked(None, username, password)
        # DRF has a request of its own around Django's; the middleware that answers knows Django's.
        http: HttpRequest = getattr(request, "_request", request)
        if not username or password is None:
            return None
        super().authenticate(http, username=username, password=password)
        user = self._checked(http, username, password)
        if user is not None:
            lockout.succeeded(user.get_username(), lockout.address_of(http))
        return user

    def _checked(self, request: HttpRequest | None, username: str | None, password: str | None) -> User | None:
        if username is not None and "\0" in username:
            return None  # no database keeps such a name
        user = ModelBackend.authenticate(self, request, username=username, password=password)
        return user if isinstance(user, User) else None
