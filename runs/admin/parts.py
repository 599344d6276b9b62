"""What belongs to a run, and the workers."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pipelines.admin import pretty
from runs.admin.history import HistoryAdmin, PartAdmin, badge, took
from runs.models import LogEntry, NodeOutput, NodeRun, Worker


@admin.register(NodeRun)
class NodeRunAdmin(PartAdmin):
    list_display = ("id", "run_link", "node_id", "type", "attempt", "shown_status", "row_count", "duration")
    fields = ("id", "run_link", "node_id", "name", "type", "attempt", "shown_status", "error", "row_count", "ready_at", "started_at", "finished_at")

    @admin.display(description="Status")
    def shown_status(self, row: NodeRun) -> SafeString:
        return badge(row.status)

    @admin.display(description="Duration")
    def duration(self, row: NodeRun) -> str:
        return took(row)


@admin.register(NodeOutput)
class NodeOutputAdmin(PartAdmin):
    list_display = ("id", "run_link", "node_id", "row_count", "byte_count", "created_at")
    fields = ("id", "run_link", "node_id", "artifact", "row_count", "byte_count", "created_at", "shown_schema", "shown_preview")

    def get_queryset(self, request: HttpRequest) -> QuerySet[NodeOutput]:
        return super().get_queryset(request).defer("schema", "preview", "profile")

    @admin.display(description="Schema")
    def shown_schema(self, row: NodeOutput) -> SafeString:
        return format_html("<pre>{}</pre>", pretty(row.schema))

    @admin.display(description="Preview")
    def shown_preview(self, row: NodeOutput) -> SafeString:
        return format_html("<pre>{}</pre>", pretty(row.preview))


@admin.register(LogEntry)
class LogEntryAdmin(PartAdmin):
    list_display = ("seq", "timestamp", "run_link", "node_id", "level", "kind", "message")
    fields = ("seq", "timestamp", "run_link", "node_id", "attempt", "level", "kind", "message", "data")


@admin.register(Worker)
class WorkerAdmin(HistoryAdmin):
    list_display = ("id", "hostname", "pid", "concurrency", "draining", "started_at", "seen_at")
