"""The outbox in Django's admin: to look at. Neither an address nor what its references stand for is shown."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pipelines.admin import pretty
from pipelines.hooks import receiver
from runs.admin.history import PartAdmin, badge, link
from runs.models import Notification


@admin.register(Notification)
class NotificationAdmin(PartAdmin):
    list_display = ("id", "created_at", "event", "kind", "shown_receiver", "shown_status", "attempts", "run_link", "error")
    fields = (
        *("id", "pipeline", "run_link", "event", "kind", "shown_receiver", "shown_status", "attempts", "error"),
        *("created_at", "next_attempt_at", "sent_at", "shown_payload"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        return super().get_queryset(request).select_related("pipeline").defer("payload")

    @admin.display(description="Run")
    def run_link(self, row: Notification) -> SafeString | str:  # type: ignore[override]  # an alert of a deadline may have none
        return link("runs_run", row.run_id, row.run_id) if row.run_id else "-"

    @admin.display(description="Receiver")
    def shown_receiver(self, row: Notification) -> str:
        return receiver(row.hook)

    @admin.display(description="Status")
    def shown_status(self, row: Notification) -> SafeString:
        return badge(row.status)

    @admin.display(description="What is told")
    def shown_payload(self, row: Notification) -> SafeString:
        return format_html("<pre>{}</pre>", pretty(row.payload))
