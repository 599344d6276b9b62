"""Routes of the API about runs. No trailing slashes."""

from django.urls import path

from runs.api import actions, backfills, dependencies, dry_runs, events, logs, notifications, outputs, pools, sla, views, webhooks

urlpatterns = [
    path("pipelines/dry-run", dry_runs.DraftDryRunView.as_view(), name="draft-dry-run"),
    path("pipelines/<str:pipeline_id>/dry-run", dry_runs.PipelineDryRunView.as_view(), name="pipeline-dry-run"),
    path("pipelines/<str:pipeline_id>/run", actions.PipelineRunView.as_view(), name="pipeline-run"),
    path("pipelines/<str:pipeline_id>/webhook", webhooks.PipelineWebhookView.as_view(), name="pipeline-webhook"),
    path("pipelines/<str:pipeline_id>/runs", views.PipelineRunsView.as_view(), name="pipeline-runs"),
    path("pipelines/<str:pipeline_id>/backfill", backfills.PipelineBackfillView.as_view(), name="pipeline-backfill"),
    path("pipelines/<str:pipeline_id>/backfills", backfills.PipelineBackfillsView.as_view(), name="pipeline-backfills"),
    path("backfills/<str:backfill_id>", backfills.BackfillView.as_view(), name="backfill"),
    path("backfills/<str:backfill_id>/cancel", backfills.BackfillCancelView.as_view(), name="backfill-cancel"),
    path("pipelines/<str:pipeline_id>/deps", dependencies.PipelineDependenciesView.as_view(), name="pipeline-deps"),
    path("pipelines/<str:pipeline_id>/dependents", dependencies.PipelineDependentsView.as_view(), name="pipeline-dependents"),
    path("pools", pools.PoolsView.as_view(), name="pools"),
    path("pools/<path:name>", pools.PoolView.as_view(), name="pool"),
    path("pipelines/<str:pipeline_id>/sla-misses", sla.PipelineSlaMissesView.as_view(), name="pipeline-sla-misses"),
    path("ws", events.EventsView.as_view(), name="events"),
    path("runs", views.RunsView.as_view(), name="runs"),
    path("runs/<str:run_id>", views.RunView.as_view(), name="run"),
    path("runs/<str:run_id>/cancel", actions.RunCancelView.as_view(), name="run-cancel"),
    path("runs/<str:run_id>/resume", actions.RunResumeView.as_view(), name="run-resume"),
    path("runs/<str:run_id>/logs", logs.RunLogsView.as_view(), name="run-logs"),
    path("runs/<str:run_id>/logs/export", logs.RunLogsExportView.as_view(), name="run-logs-export"),
    path("runs/<str:run_id>/notifications", notifications.RunNotificationsView.as_view(), name="run-notifications"),
    path("runs/<str:run_id>/nodes/<str:node_id>/preview", outputs.NodePreviewView.as_view(), name="run-node-preview"),
    path("runs/<str:run_id>/nodes/<str:node_id>/output", outputs.NodeOutputView.as_view(), name="run-node-output"),
    path("runs/<str:run_id>/nodes/<str:node_id>/profile", outputs.NodeProfileView.as_view(), name="run-node-profile"),
]
