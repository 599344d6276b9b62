"""The outbox in Django's admin: to look at. Neither an address nor what its references stand for is shown."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from pipelines.admin import pretty
from pipelines.hooks import receiver
from runs.admin.history import PartAdmin, badge, link, moment
from runs.models import Notification


@admin.register(Notification)
class NotificationAdmin(PartAdmin):
    list_display = ("id", "created", "event", "kind", "shown_receiver", "shown_status", "attempts", "run_link", "error")
    fields = (
        *("id", "pipeline", "run_link", "event", "kind", "shown_receiver", "shown_status", "attempts", "error"),
        *("created", "next_attempt", "sent", "shown_payload"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        return super().get_queryset(request).select_related("pipeline").defer("payload")

    @admin.display(description="Run")
    def run_link(self, row: Notification) -> SafeString | str:  # type: ignore[override]  # an alert of a deadline may have none
        return link("runs_run", row.run_id, row.run_id) if row.run_id else "-"

    @admin.display(description="Created (UTC)")
    def created(self, row: Notification) -> str:
        return moment(row.created_at)

    @admin.display(description="Next attempt (UTC)")
    def next_attempt(self, row: Notification) -> str:
        return moment(row.next_attempt_at) if row.status == Notification.Status.PENDING else "-"

    @admin.display(description="Sent (UTC)")
    def sent(self, row: Notification) -> str:
        return moment(row.sent_at)

    @admin.display(description="Receiver")
    def shown_receiver(self, row: Notification) -> str:
        return receiver(row.hook)

    @admin.display(description="Status")
    def shown_status(self, row: Notification) -> SafeString:
        return badge(row.status)

    @admin.display(description="What is told")
    def shown_payload(self, row: Notification) -> SafeString:
        return format_html("<pre>{}</pre>", pretty(row.payload))
