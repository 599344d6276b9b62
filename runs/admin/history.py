"""What the lists of a growing history share: they walk an index, count up to a limit, and sort by nothing but age."""

import datetime as dt
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from brokoli_site.common.ids import parse_id
from brokoli_site.common.time import human_duration, milliseconds
from pipelines.admin import ReadOnlyAdmin
from runs.admin.lists import RecentPaginator
from runs.models import LogEntry, NodeOutput, NodeRun, Run


def link(view: str, key: object, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{view}_change", args=[key]), text)


def badge(status: str) -> SafeString:
    return format_html('<span class="status status-{}">{}</span>', status, status)


def moment(time: dt.datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "-"


def took(row: Run | NodeRun) -> str:
    """`1m23s`; with `…` while it still goes on."""
    elapsed = milliseconds(row.started_at, row.finished_at or timezone.now())
    if elapsed is None:
        return "-"
    return human_duration(elapsed) if row.finished_at else f"{human_duration(elapsed)}…"


class NewestFirst(ChangeList):
    """Ordered by age and by nothing else, whatever the address says: no other order has an index."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return ["-pk"]


class HistoryAdmin(ReadOnlyAdmin):
    """Rows of a table that only grows."""

    list_per_page = 50
    sortable_by: ClassVar[tuple[str, ...]] = ()
    show_facets = admin.ShowFacets.NEVER  # they count the whole table

    class Media:
        css: ClassVar = {"all": ["runs/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NewestFirst

    def get_paginator(self, request: HttpRequest, queryset: QuerySet[Any], per_page: int, *arguments: Any, **named: Any) -> RecentPaginator:
        return RecentPaginator(queryset, per_page, *arguments, rows=self.get_queryset(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("runs.view")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("runs.view")


class PartAdmin(HistoryAdmin):
    """What belongs to a run; found by its run."""

    search_fields = ("run",)  # makes the box appear; `get_search_results` decides
    search_help_text = "The id of a run."

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        return (queryset.filter(run_id=parse_id(search_term.strip())) if search_term else queryset), False

    @admin.display(description="Run")
    def run_link(self, row: NodeRun | NodeOutput | LogEntry) -> SafeString:
        return link("runs_run", row.run_id, row.run_id)
