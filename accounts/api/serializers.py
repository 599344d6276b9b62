"""Bodies and answers of `/api/auth`, `/api/users` and `/api/roles`."""

from typing import Any

from django.contrib.auth.models import User
from rest_framework import serializers

from accounts import held, passwords
from accounts.models import ApiToken
from accounts.people import MOST_ROLES
from accounts.roles import RIGHTS
from brokoli_site.common.api import StrictBooleanField, StrictCharField, StrictIntegerField, StrictSerializer
from brokoli_site.common.local_mode import is_local_administrator
from brokoli_site.common.time import iso

MOST_DAYS, DEFAULT_DAYS = 3650, 90


def _username() -> StrictCharField:
    return StrictCharField(max_length=150, help_text="Letters, digits and @ . + - _")


def _password(**options: Any) -> StrictCharField:
    return StrictCharField(max_length=passwords.LONGEST, trim_whitespace=False, **options)


class LoginBody(StrictSerializer):
    username = StrictCharField(max_length=1024, trim_whitespace=False)
    password = _password()


class SetupBody(StrictSerializer):
    username = _username()
    password = _password()
    email = serializers.EmailField(required=False, allow_blank=True, default="", max_length=254)


class PasswordBody(StrictSerializer):
    current_password = _password()
    new_password = _password()


class TokenBody(StrictSerializer):
    name = StrictCharField(max_length=100, help_text="What it is for.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(RIGHTS),
        required=False,
        allow_null=True,
        default=None,
        min_length=1,
        max_length=len(RIGHTS),
        help_text="Rights that it is narrowed to. Left out: all that its user has, now and later.",
    )
    expires_in_days = StrictIntegerField(required=False, default=DEFAULT_DAYS, min_value=1, max_value=MOST_DAYS)


class UserBody(StrictSerializer):
    username = _username()
    password = _password(required=False, allow_null=True, default=None, help_text="Left out: the user cannot log in with one.")
    email = serializers.EmailField(required=False, allow_blank=True, default="", max_length=254)
    roles = serializers.ListField(child=StrictCharField(max_length=150), required=False, default=list, max_length=MOST_ROLES)


class UserChanges(StrictSerializer):
    password = _password(required=False, help_text="Ends the sessions and tokens of the user.")
    email = serializers.EmailField(required=False, allow_blank=True, max_length=254)
    active = StrictBooleanField(required=False, help_text="Whether the user may log in. `false` ends their sessions and tokens.")
    roles = serializers.ListField(
        child=StrictCharField(max_length=150), required=False, max_length=MOST_ROLES, help_text="In place of those they had."
    )


class AccountSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    username = serializers.CharField()
    email = serializers.CharField()
    active = serializers.BooleanField()
    superuser = serializers.BooleanField()
    role = serializers.CharField(allow_null=True, help_text="The greatest of admin, editor, operator and viewer that the user has.")
    roles = serializers.ListField(child=serializers.CharField())
    created_at = serializers.CharField(allow_null=True)
    last_login = serializers.CharField(allow_null=True)


class AccountPageSerializer(serializers.Serializer[Any]):
    """One page of users, by name."""

    items = AccountSerializer(many=True)
    total = serializers.IntegerField()
    page = serializers.IntegerField()
    per_page = serializers.IntegerField()
    pages = serializers.IntegerField()


class MeSerializer(AccountSerializer):
    id = serializers.CharField(allow_null=True)
    via = serializers.ChoiceField(["local", "token", "basic", "session"], help_text="How this request said who sends it.")


class LoginSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="For `Authorization: Bearer`. It is shown here only.")
    expires_at = serializers.CharField()
    user = AccountSerializer()


class TokenSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(ApiToken.Kind.choices)
    hint = serializers.CharField(help_text="How the token begins.")
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True)
    created_at = serializers.CharField()
    expires_at = serializers.CharField()
    last_used_at = serializers.CharField(allow_null=True)


class NewTokenSerializer(TokenSerializer):
    token = serializers.CharField(help_text="The token itself. It is shown here only.")


class PermissionsSerializer(serializers.Serializer[Any]):
    role = serializers.CharField(allow_null=True)
    permissions = serializers.ListField(child=serializers.CharField(), help_text="Rights of this request, sorted.")


class SetupSerializer(serializers.Serializer[Any]):
    needed = serializers.BooleanField(help_text="Whether there is no user yet.")


class RoleSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    custom = serializers.BooleanField(help_text="Whether it is none of the four that Brokoli keeps.")
    permissions = serializers.ListField(child=serializers.CharField())


def shown_user(user: Any) -> dict[str, Any]:
    if is_local_administrator(user):
        nobody: dict[str, Any] = {"id": None, "username": user.username, "email": "", "created_at": None, "last_login": None}
        return {**nobody, "active": True, "superuser": True, "role": "admin", "roles": ["admin"]}
    found: User = user
    return {
        "id": str(found.pk),
        "username": found.username,
        "email": found.email,
        "active": found.is_active,
        "superuser": found.is_superuser,
        "role": held.role_of(found),
        "roles": sorted(group.name for group in found.groups.all()),
        "created_at": iso(found.date_joined),
        "last_login": iso(found.last_login),
    }


def shown_token(token: ApiToken) -> dict[str, Any]:
    return {
        "id": str(token.pk),
        "name": token.name,
        "kind": token.kind,
        "hint": token.hint,
        "scopes": token.scopes,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
        "last_used_at": iso(token.last_used_at),
    }
