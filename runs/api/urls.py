"""Routes of the API about runs. No trailing slashes."""

from django.urls import path

from runs.api import logs, views

urlpatterns = [
    path("pipelines/<str:pipeline_id>/runs", views.PipelineRunsView.as_view(), name="pipeline-runs"),
    path("runs", views.RunsView.as_view(), name="runs"),
    path("runs/<str:run_id>", views.RunView.as_view(), name="run"),
    path("runs/<str:run_id>/logs", logs.RunLogsView.as_view(), name="run-logs"),
    path("runs/<str:run_id>/logs/export", logs.RunLogsExportView.as_view(), name="run-logs-export"),
]
