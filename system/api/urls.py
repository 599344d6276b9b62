"""Routes of the API about the whole. No trailing slashes."""

from django.urls import path

from system.api import audit, calendar, capabilities, dashboard, info, lineage, purge, scheduler, search, workers

urlpatterns = [
    path("audit", audit.AuditView.as_view(), name="audit"),
    path("audit/export", audit.AuditExportView.as_view(), name="audit-export"),
    path("capabilities", capabilities.CapabilitiesView.as_view(), name="capabilities"),
    path("dashboard", dashboard.DashboardView.as_view(), name="dashboard"),
    path("lineage", lineage.LineageView.as_view(), name="lineage"),
    path("lineage/columns", lineage.ColumnsView.as_view(), name="lineage-columns"),
    path("runs/calendar", calendar.CalendarView.as_view(), name="run-calendar"),
    path("scheduler/status", scheduler.SchedulerStatusView.as_view(), name="scheduler-status"),
    path("schedules/preview", scheduler.SchedulePreviewView.as_view(), name="schedule-preview"),
    path("search", search.SearchView.as_view(), name="search"),
    path("system/info", info.InfoView.as_view(), name="system-info"),
    path("system/purge", purge.PurgeView.as_view(), name="system-purge"),
    path("workers", workers.WorkersView.as_view(), name="workers"),
]
