"""Runs in Django's admin: to look at, to cancel and to resume. All else about them is for workers to write.

Quick whatever the history: lists walk an index, totals are counted up to a limit, nothing is sorted by a column without an
index, and no row is asked for by itself.
"""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.time import human_duration, milliseconds
from pipelines.admin import pretty
from runs import triggers
from runs.admin.history import HistoryAdmin, badge, link, moment, took
from runs.admin.lists import CreatedFilter, PipelineFilter, matching_runs
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.states import ACTIVE, RunStatus

LAST_LINES = 100
_MOST_ATTEMPTS = 1_000
_MOST_AT_ONCE = 100


@admin.register(Run)
class RunAdmin(HistoryAdmin):
    list_display = ("short_id", "pipeline_link", "shown_status", "trigger", "created", "duration")
    list_filter = ("status", "trigger", PipelineFilter, CreatedFilter)
    list_select_related = ("pipeline",)
    search_fields = ("id",)  # makes the box appear; `get_search_results` decides
    search_help_text = "The id of a run or its beginning, or the name or slug of a pipeline."
    actions = ("cancel_selected", "resume_selected")
    fieldsets: ClassVar = [
        (None, {"fields": [("pipeline_link", "version_link", "shown_status"), "shown_error", "shown_params"]}),
        ("Times", {"fields": [("created", "started", "finished"), ("queued", "duration")]}),
        (
            "How it came and went",
            {
                "classes": ["collapse"],
                "fields": [
                    ("trigger", "priority", "logical_date", "interval"),
                    ("backfill_link", "upstream_link"),
                    ("resumed_from_link", "resumed_by"),
                    ("cancel", "worker"),
                ],
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return super().get_queryset(request).select_related("pipeline", "version").defer("version__document")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Run], search_term: str) -> tuple[QuerySet[Run], bool]:
        return matching_runs(queryset, search_term), False

    # --- what is shown ------------------------------------------------------------------------------------------------

    @admin.display(description="Id")
    def short_id(self, run: Run) -> SafeString:
        # The beginning, which the search takes, and the end, which tells apart those made at the same moment.
        return format_html('<span title="{}">{}…{}</span>', run.id, str(run.id)[:13], str(run.id)[-4:])

    @admin.display(description="Pipeline")
    def pipeline_link(self, run: Run) -> SafeString:
        return link("pipelines_pipeline", run.pipeline_id, run.pipeline.name)

    @admin.display(description="Version")
    def version_link(self, run: Run) -> SafeString:
        return link("pipelines_pipelineversion", run.version_id, run.version.number)

    @admin.display(description="Status")
    def shown_status(self, run: Run) -> SafeString:
        return badge(run.status)

    @admin.display(description="Error")
    def shown_error(self, run: Run) -> SafeString | str:
        return format_html('<pre class="failure">{}</pre>', run.error) if run.error else "-"

    @admin.display(description="Params")
    def shown_params(self, run: Run) -> SafeString:
        return format_html("<pre>{}</pre>", pretty(run.params))

    @admin.display(description="Created (UTC)")
    def created(self, run: Run) -> str:
        return moment(run.created_at)

    @admin.display(description="Started (UTC)")
    def started(self, run: Run) -> str:
        return moment(run.started_at)

    @admin.display(description="Finished (UTC)")
    def finished(self, run: Run) -> str:
        return moment(run.finished_at)

    @admin.display(description="Duration")
    def duration(self, run: Run) -> str:
        return took(run)

    @admin.display(description="Waited")
    def queued(self, run: Run) -> str:
        waited = milliseconds(run.created_at, run.started_at)
        return "-" if waited is None else human_duration(waited)

    @admin.display(description="Interval (UTC)")
    def interval(self, run: Run) -> str:
        return f"{moment(run.interval_start)} to {moment(run.interval_end)}" if run.interval_start else "-"

    @admin.display(description="Backfill")
    def backfill_link(self, run: Run) -> SafeString | str:
        return link("runs_backfill", run.backfill_id, run.backfill_id) if run.backfill_id else "-"

    @admin.display(description="Made by the end of")
    def upstream_link(self, run: Run) -> SafeString | str:
        return link("runs_run", run.upstream_run_id, run.upstream_run_id) if run.upstream_run_id else "-"

    @admin.display(description="Resumed from")
    def resumed_from_link(self, run: Run) -> SafeString | str:
        return link("runs_run", run.resumed_from_id, run.resumed_from_id) if run.resumed_from_id else "-"

    @admin.display(description="Resumed by")
    def resumed_by(self, run: Run) -> SafeString | str:
        found = Run.objects.filter(resumed_from=run).order_by().values_list("id", flat=True)[:20]
        return format_html_join(", ", "{}", ((link("runs_run", key, key),) for key in sorted(found, reverse=True))) or "-"

    @admin.display(description="Cancel")
    def cancel(self, run: Run) -> str:
        return f"asked for at {moment(run.cancel_requested_at)} UTC{', by force' if run.cancel_force else ''}" if run.cancel_requested else "-"

    @admin.display(description="Worker")
    def worker(self, run: Run) -> str:
        claims = f"claim {run.epoch}, {run.deaths} workers lost" if run.epoch else "never claimed"
        return f"{run.owner or 'none'} ({claims})"

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        run = self.get_object(request, object_id)
        return super().change_view(request, object_id, form_url, (extra_context or {}) | (self._details(request, run) if run else {}))

    def _details(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        """What the page of a run shows below its fields: its nodes, its last lines, and the buttons that this user may press."""
        with_output = set(NodeOutput.objects.filter(run=run).values_list("node_id", flat=True))
        attempts = NodeRun.objects.filter(run=run).order_by("position", "attempt")[:_MOST_ATTEMPTS]
        lines = LogEntry.objects.filter(run=run).defer("data").order_by("-seq")[:LAST_LINES]
        return {
            "attempts": [{"row": row, "duration": took(row), "has_output": row.node_id in with_output} for row in attempts],
            "lines": list(lines)[::-1],
            "last_lines": LAST_LINES,
            "can_cancel": run.status in ACTIVE and self.has_cancel_permission(request),
            "can_force": run.status == RunStatus.RUNNING and self.has_cancel_permission(request),
            "can_resume": run.status == RunStatus.FAILED and self.has_resume_permission(request),
        }

    # --- what can be done ---------------------------------------------------------------------------------------------

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("runs.cancel")

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("runs.resume")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:run_id>/cancel/", view(self.cancel_view), name="runs_run_cancel"),
            path("<uuid:run_id>/resume/", view(self.resume_view), name="runs_run_resume"),
            *super().get_urls(),
        ]

    def cancel_view(self, request: HttpRequest, run_id: UUID) -> HttpResponse:
        """The button of a run's page."""
        return self._press(request, run_id, self.has_cancel_permission, lambda: cancelled(run_id, force="force" in request.POST))

    def resume_view(self, request: HttpRequest, run_id: UUID) -> HttpResponse:
        """The button of a run's page."""
        return self._press(request, run_id, self.has_resume_permission, lambda: resumed(run_id))

    def _press(self, request: HttpRequest, run_id: UUID, allowed: Callable[[HttpRequest], bool], act: Callable[[], SafeString | str]) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not allowed(request):
            raise PermissionDenied
        self._say(request, act)
        return HttpResponseRedirect(reverse("admin:runs_run_change", args=[run_id]))

    @admin.action(description="Cancel the selected runs", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._each(request, queryset, cancelled)

    @admin.action(description="Resume the selected runs", permissions=["resume"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._each(request, queryset, resumed)

    def _each(self, request: HttpRequest, queryset: QuerySet[Run], act: Callable[[UUID], SafeString | str]) -> None:
        chosen = list(queryset.order_by("-id").values_list("id", flat=True)[: _MOST_AT_ONCE + 1])
        if len(chosen) > _MOST_AT_ONCE:
            self.message_user(request, f"Choose {_MOST_AT_ONCE} runs at most.", messages.ERROR)
            return
        for run_id in chosen:
            self._say(request, lambda run_id=run_id: act(run_id))  # type: ignore[misc]

    def _say(self, request: HttpRequest, act: Callable[[], SafeString | str]) -> None:
        """Do it, and tell how it went."""
        try:
            self.message_user(request, act(), messages.SUCCESS)
        except BrokoliError as error:
            self.message_user(request, error.message, messages.ERROR)


def cancelled(run_id: UUID, *, force: bool = False) -> SafeString:
    """Cancel a run; what to say of it. Errors: as `triggers.cancel`."""
    run = triggers.cancel(run_id, force=force)
    shown = link("runs_run", run.id, run.id)
    return format_html("Run {} is cancelled." if run.status == RunStatus.CANCELLED else "Run {} will be cancelled.", shown)


def resumed(run_id: UUID) -> SafeString:
    """Resume a run; what to say of it. Errors: as `triggers.resume`."""
    run = triggers.resume(run_id)
    return format_html("Run {} goes on where run {} failed.", link("runs_run", run.id, run.id), link("runs_run", run_id, run_id))
