"""The admin site as a whole: its name, and who may use it."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest

admin.site.site_header = admin.site.site_title = "Brokoli"
admin.site.index_title = "Everything at a glance"
admin.site.site_url = "/api/docs"


class _HistoryOfUsers(admin.ModelAdmin):  # type: ignore[type-arg]  # the real class takes no parameters
    """Django's history of changes names the user who made each; the local administrator is none, so theirs are not in it."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry | None:  # type: ignore[override]
        return super().log_addition(request, obj, message) if request.user.pk else None

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry | None:  # type: ignore[override]
        return super().log_change(request, obj, message) if request.user.pk else None

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Sequence[LogEntry]:  # type: ignore[override]
        return super().log_deletions(request, queryset) if request.user.pk else []


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class BrokoliUserAdmin(_HistoryOfUsers, UserAdmin):  # type: ignore[type-arg]
    """Users; the first one ends local mode."""


@admin.register(Group)
class BrokoliGroupAdmin(_HistoryOfUsers, GroupAdmin):
    """Groups of users, which hold their rights."""
