"""The audit log in Django's admin: to look at, to filter and to search."""

import datetime as dt
import json
from typing import Any, ClassVar, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from brokoli_site.common.ids import earliest
from runs.admin.history import HistoryAdmin, moment
from system.audit_listing import LOOKED_AT, SEARCHED, matching
from system.models import AuditEntry, AuditQuerySet

# What stands before the dots of actions; one that is missing here is found by its address, `?area__exact=`.
AREAS = (
    "audit",
    "auth",
    "backfill",
    "connection",
    "pipeline",
    "pool",
    "role",
    "run",
    "runs",
    "secrets",
    "token",
    "user",
    "variable",
    "webhook_token",
)
_MOST_FIELDS = 3
_MOST_FOUND = 500


class AreaFilter(admin.SimpleListFilter):
    """All actions of an area. A fixed list: asking the table for it would read all of it."""

    title = "action"
    parameter_name = "area"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(area, f"{area}.*") for area in AREAS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(area=self.value()) if self.value() else queryset


class AgeFilter(admin.SimpleListFilter):
    """How long ago it was."""

    title = "time"
    parameter_name = "age"
    _HOURS: ClassVar = {"hour": 1, "day": 24, "week": 7 * 24, "month": 30 * 24}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        labels = ("In the last hour", "In the last 24 hours", "In the last 7 days", "In the last 30 days")
        return list(zip(self._HOURS, labels, strict=True))

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        hours = self._HOURS.get(self.value() or "")
        return queryset.filter(pk__gte=earliest(timezone.now() - dt.timedelta(hours=hours))) if hours else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(HistoryAdmin):
    list_display = ("when", "actor_link", "via", "action", "object_link", "changed", "address")
    list_display_links = ("when",)
    list_filter = (AreaFilter, AgeFilter)
    search_fields = SEARCHED  # makes the box appear; `get_search_results` decides
    search_help_text = f"Part of the name or id of an object, or of an actor, among the {LOOKED_AT:,} newest entries that the filters leave."
    fields = ("when", "shown_actor", "shown_via", "address", "request_link", "action", "kind", "object_link", "shown_diff")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("audit.view")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("audit.view")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip().replace("\0", "")
        if not term:
            return queryset, False
        keys, _ = matching(cast("AuditQuerySet", queryset.order_by("-pk")), {}, term.casefold(), _MOST_FOUND)
        return queryset.filter(pk__in=keys), False

    @admin.display(description="Time (UTC)")
    def when(self, entry: AuditEntry) -> str:
        return moment(entry.at)

    @admin.display(description="Actor")
    def actor_link(self, entry: AuditEntry) -> SafeString | str:
        return _only(entry.actor, actor__exact=entry.actor) if entry.actor else "-"

    @admin.display(description="Actor")
    def shown_actor(self, entry: AuditEntry) -> SafeString:
        return format_html("{}{}", self.actor_link(entry), f" (user {entry.user_id})" if entry.user_id else "")

    @admin.display(description="Via")
    def shown_via(self, entry: AuditEntry) -> str:
        return f"{entry.via} {entry.token!r}" if entry.token else entry.via

    @admin.display(description="Object")
    def object_link(self, entry: AuditEntry) -> SafeString | str:
        text = entry.name if entry.name in ("", entry.object_id) else f"{entry.name} ({entry.object_id})"
        return _only(text or entry.object_id, object_id__exact=entry.object_id) if entry.object_id else entry.name or "-"

    @admin.display(description="Request")
    def request_link(self, entry: AuditEntry) -> SafeString | str:
        return _only(entry.request_id, request_id__exact=entry.request_id) if entry.request_id else "-"

    @admin.display(description="Changed")
    def changed(self, entry: AuditEntry) -> str:
        names = [change["field"] for change in entry.diff.get("changes", [])]
        more = len(names) + entry.diff.get("left_out", 0) - _MOST_FIELDS
        return ", ".join(name[:60] for name in names[:_MOST_FIELDS]) + (f" and {more} more" if more > 0 else "") or "-"

    @admin.display(description="Changes")
    def shown_diff(self, entry: AuditEntry) -> SafeString | str:
        changes = entry.diff.get("changes", [])
        if not changes:
            return "-"
        rows = format_html_join(
            "",
            "<tr><th>{}</th><td><pre>{}</pre></td><td><pre>{}</pre></td></tr>",
            ((change["field"], _text(change, "before"), _text(change, "after")) for change in changes),
        )
        left_out = entry.diff.get("left_out", 0)
        note = format_html("<p>{} more changes are not kept.</p>", left_out) if left_out else ""
        return format_html("<table><thead><tr><th>Field</th><th>Before</th><th>After</th></tr></thead><tbody>{}</tbody></table>{}", rows, note)


def _only(text: str, **filters: str) -> SafeString:
    """A link to the entries that have this, too."""
    return format_html('<a href="{}?{}">{}</a>', reverse("admin:system_auditentry_changelist"), urlencode(filters), text)


def _text(change: dict[str, Any], side: str) -> str:
    if side not in change:
        return ""
    value = change[side]
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
