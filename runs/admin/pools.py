"""Pools in Django's admin: to look at and, with the right to edit pipelines, to make, change and remove."""

from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from brokoli_site.common.errors import NotFound
from pipelines.admin import ModelAdmin
from runs import pools
from runs.admin.history import PartAdmin
from runs.models import Pool, PoolTicket


@admin.register(Pool)
class PoolAdmin(ModelAdmin):
    list_display = ("name", "slots", "description")
    search_fields = ("name",)
    list_per_page = 50
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj is not None else ()  # another name would be another pool

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        pools.keep(obj.name, obj.slots, obj.description)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with suppress(NotFound):  # somebody else has just removed it
            pools.remove(obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for pool in queryset:
            self.delete_model(request, pool)

    # Django's own history of the admin names a user, and local mode's administrator is no row.

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_addition(request, obj, message) if request.user.pk else None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_change(request, obj, message) if request.user.pk else None

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        return super().log_deletions(request, queryset) if request.user.pk else None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("pipelines.view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("pipelines.view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("pipelines.edit")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("pipelines.edit")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("pipelines.edit")


@admin.register(PoolTicket)
class PoolTicketAdmin(PartAdmin):
    """Who holds a slot, and who waits for one, at this moment."""

    list_display = ("id", "pool", "run_link", "node_id", "holds", "since")
    fields = ("id", "pool", "run_link", "node_id", "holds", "since")
