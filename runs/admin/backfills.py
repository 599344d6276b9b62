"""Backfills: how far each is, its runs, and cancelling what has not started."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.ids import parse_id
from runs import backfills
from runs.admin.history import HistoryAdmin, badge, link, moment
from runs.models import Backfill

_MOST_AT_ONCE = 20


@admin.register(Backfill)
class BackfillAdmin(HistoryAdmin):
    list_display = ("id", "pipeline_link", "start", "end", "only", "run_count", "created", "cancelled")
    list_select_related = ("pipeline",)
    fields = ("id", "pipeline_link", "start", "end", "only", "max_active", "created", "cancelled", "shown_status", "shown_runs")
    search_fields = ("pipeline",)  # makes the box appear; `get_search_results` decides
    search_help_text = "The id of a backfill or of a pipeline."
    actions = ("cancel_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backfill]:
        return super().get_queryset(request).select_related("pipeline")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        key = parse_id(search_term.strip())
        return (queryset.filter(pk=key) | queryset.filter(pipeline_id=key) if key else queryset.none()), False

    @admin.display(description="Pipeline")
    def pipeline_link(self, row: Backfill) -> SafeString:
        return link("pipelines_pipeline", row.pipeline_id, row.pipeline.name)

    @admin.display(description="Created (UTC)")
    def created(self, row: Backfill) -> str:
        return moment(row.created_at)

    @admin.display(description="Cancelled (UTC)")
    def cancelled(self, row: Backfill) -> str:
        return moment(row.cancelled_at)

    @admin.display(description="Status")
    def shown_status(self, row: Backfill) -> SafeString:
        progress = backfills.progress([row])[row.id]
        return format_html("{} {} of {} ended, {} failed", badge(progress.status), progress.finished, progress.total, progress.counts["failed"])

    @admin.display(description="Runs")
    def shown_runs(self, row: Backfill) -> SafeString:
        return format_html('<a href="{}?backfill_id__exact={}">its runs</a>', reverse("admin:runs_run_changelist"), row.id)

    # --- what can be done ---------------------------------------------------------------------------------------------

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("runs.cancel")

    @admin.action(description="Cancel what has not started of the selected backfills", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Backfill]) -> None:
        for row in queryset.order_by("-id")[:_MOST_AT_ONCE]:
            try:
                backfills.cancel(row.id)
                self.message_user(request, f"What had not started of the backfill {row} is cancelled.", messages.SUCCESS)
            except BrokoliError as error:
                self.message_user(request, f"{row}: {error.message}", messages.ERROR)
