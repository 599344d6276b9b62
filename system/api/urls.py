"""Routes of the API about the whole. No trailing slashes."""

from django.urls import path

from system.api import capabilities, lineage, purge, scheduler, workers

urlpatterns = [
    path("capabilities", capabilities.CapabilitiesView.as_view(), name="capabilities"),
    path("lineage", lineage.LineageView.as_view(), name="lineage"),
    path("lineage/columns", lineage.ColumnsView.as_view(), name="lineage-columns"),
    path("scheduler/status", scheduler.SchedulerStatusView.as_view(), name="scheduler-status"),
    path("schedules/preview", scheduler.SchedulePreviewView.as_view(), name="schedule-preview"),
    path("system/purge", purge.PurgeView.as_view(), name="system-purge"),
    path("workers", workers.WorkersView.as_view(), name="workers"),
]
