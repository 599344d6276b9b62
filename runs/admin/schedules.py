"""Schedules and deadlines in Django's admin: what comes next, and what was missed. To look at; those who save a pipeline write them."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from brokoli_site.common.ids import parse_id
from runs.admin.history import HistoryAdmin, badge, link, moment
from runs.models import ScheduleState, SlaMiss


class _OfPipeline(HistoryAdmin):
    list_select_related = ("pipeline",)
    search_fields = ("pipeline",)  # makes the box appear; `get_search_results` decides
    search_help_text = "The id of a pipeline."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("pipeline")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        return (queryset.filter(pipeline_id=parse_id(search_term.strip())) if search_term.strip() else queryset), False

    @admin.display(description="Pipeline")
    def pipeline_link(self, row: ScheduleState | SlaMiss) -> SafeString:
        return link("pipelines_pipeline", row.pipeline_id, row.pipeline.name)


@admin.register(ScheduleState)
class ScheduleStateAdmin(_OfPipeline):
    list_display = ("pipeline_link", "schedule", "zone", "next_tick", "last_tick", "next_deadline")
    list_display_links = None
    fields = ("pipeline_link", "schedule", "zone", "next_tick", "last_tick", "next_deadline")

    @admin.display(description="Next tick (UTC)")
    def next_tick(self, row: ScheduleState) -> str:
        return moment(row.next_tick_at)

    @admin.display(description="Last tick (UTC)")
    def last_tick(self, row: ScheduleState) -> str:
        return moment(row.last_tick_at)

    @admin.display(description="Next deadline (UTC)")
    def next_deadline(self, row: ScheduleState) -> str:
        return moment(row.next_deadline_at)


@admin.register(SlaMiss)
class SlaMissAdmin(_OfPipeline):
    list_display = ("date", "pipeline_link", "shown_deadline", "shown_state", "noted")
    fields = ("pipeline_link", "date", "shown_deadline", "shown_state", "noted")

    @admin.display(description="Deadline (UTC)")
    def shown_deadline(self, row: SlaMiss) -> str:
        return moment(row.deadline)

    @admin.display(description="What there was of a run")
    def shown_state(self, row: SlaMiss) -> SafeString:
        return badge(row.state)

    @admin.display(description="Noted (UTC)")
    def noted(self, row: SlaMiss) -> str:
        return moment(row.noted_at)
