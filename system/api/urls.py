"""Routes of the API about the whole. No trailing slashes."""

from django.urls import path

from system.api import capabilities, purge, scheduler, workers

urlpatterns = [
    path("capabilities", capabilities.CapabilitiesView.as_view(), name="capabilities"),
    path("scheduler/status", scheduler.SchedulerStatusView.as_view(), name="scheduler-status"),
    path("schedules/preview", scheduler.SchedulePreviewView.as_view(), name="schedule-preview"),
    path("system/purge", purge.PurgeView.as_view(), name="system-purge"),
    path("workers", workers.WorkersView.as_view(), name="workers"),
]
