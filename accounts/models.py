"""The rows of this app."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import User, UserManager
from django.db import models

from brokoli_site.common.ids import new_id


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def alive(self, now: datetime) -> "ApiTokenQuerySet":
        """Those that let somebody in: not expired, and of a user who may log in."""
        return self.filter(expires_at__gt=now, user__is_active=True)

    def expired(self, now: datetime) -> "ApiTokenQuerySet":
        return self.filter(expires_at__lte=now)


class ApiToken(models.Model):
    """A program's way in as a user. The token itself is shown once, when it is made; what is kept is its digest."""

    class Kind(models.TextChoices):
        LOGIN = "login"  # of `POST /api/auth/login`: lasts for hours, may do all that the user may
        NAMED = "named"  # made by the user for a program

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=12, help_text="How the token begins, to tell it from others.")
    scopes = models.JSONField(null=True, blank=True, help_text="Rights that it is narrowed to. Null: all that its user has.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")

    objects: ClassVar[ApiTokenQuerySet] = ApiTokenQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "API token"
        default_permissions = ()  # its user's matter, and that of whoever manages users

    def __str__(self) -> str:
        return self.name


class ScopedUser(User):
    """A user who came with a narrowed token: has the rights of both only. The same row as the user."""

    scopes: frozenset[str]
    objects: ClassVar[UserManager["ScopedUser"]] = UserManager()  # type: ignore[assignment]

    class Meta:
        proxy = True
        default_permissions = ()

    @classmethod
    def narrowed(cls, user: Any, scopes: Iterable[str]) -> "ScopedUser":
        names = [field.attname for field in user._meta.concrete_fields]
        scoped = cls.from_db(user._state.db, names, [getattr(user, name) for name in names])
        scoped.scopes = frozenset(scopes)
        return scoped

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return perm in self.scopes and super().has_perm(perm, obj)

    def has_perms(self, perm_list: Iterable[str], obj: Any = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        return any(self.has_perm(scope) for scope in self.scopes if scope.partition(".")[0] == app_label)

    def get_user_permissions(self, obj: Any = None) -> set[str]:
        return super().get_user_permissions(obj) & self.scopes

    def get_group_permissions(self, obj: Any = None) -> set[str]:
        return super().get_group_permissions(obj) & self.scopes

    def get_all_permissions(self, obj: Any = None) -> set[str]:
        return super().get_all_permissions(obj) & self.scopes
