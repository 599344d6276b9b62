"""Passwords: which are good enough, and what ends when one is changed."""

from typing import Any

from django.contrib.auth import password_validation
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from accounts.endings import end_tokens
from brokoli_site.common.problems import BodyError

LONGEST = 1024


class EndsTokens:
    """A "validator" of Django's, because those are told of every changed password, however it was changed: in the API, the admin or by a command.

    Whoever changes a password wants others out. Sessions end by themselves: they know a digest of the password. Tokens end here.
    """

    def validate(self, password: str, user: Any = None) -> None:
        """Anything will do."""

    def get_help_text(self) -> str:
        return ""

    def password_changed(self, password: str, user: Any = None) -> None:
        end_tokens(user)


def check(password: str, user: User, pointer: str = "/password") -> None:
    """Errors: `BodyError` with each reason why the password is not good enough."""
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise BodyError({pointer: error.messages}) from error
