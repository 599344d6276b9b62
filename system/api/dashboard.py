"""`GET /api/dashboard`: everything on one page."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.openapi import problems
from pipelines.api.serializers import SummarySerializer
from runs.api.serializers import RUN_STATUSES, Moment, RunSerializer
from system import dashboard
from system.api.calendar import DaySerializer


class PipelineWithLastRunSerializer(SummarySerializer):
    """A pipeline with its newest run."""

    last_run_id = serializers.UUIDField(allow_null=True, help_text="Null, as the rest of it, for a pipeline that has not run.")
    last_run_status = serializers.ChoiceField(choices=RUN_STATUSES, allow_null=True)
    last_run_at = Moment(allow_null=True, help_text="When it started; while it waits, when it was made.")
    last_run_finished_at = Moment(allow_null=True)
    last_run_error = serializers.CharField(allow_blank=True, help_text="The beginning of why it failed.")


class RecentRunSerializer(RunSerializer):
    """A run as listings show it."""

    run_id = serializers.UUIDField(help_text="Its `id` again.")


class FailingSerializer(serializers.Serializer[Any]):
    """A pipeline that fails."""

    pipeline_id = serializers.UUIDField()
    name = serializers.CharField()
    fail_count = serializers.IntegerField(help_text=f"Runs of the last {dashboard.TREND_DAYS} days that failed.")


class DashboardSerializer(serializers.Serializer[Any]):
    """The dashboard."""

    pipelines = PipelineWithLastRunSerializer(
        many=True, help_text=f"Newest first, {dashboard.MOST_PIPELINES:,} at most. None for who may not see pipelines."
    )
    recent_runs = RecentRunSerializer(many=True, help_text=f"The newest {dashboard.RECENT_RUNS}.")
    trends = DaySerializer(many=True, help_text=f"The last {dashboard.TREND_DAYS} days (UTC), oldest first, also those without runs.")
    top_failing = FailingSerializer(many=True, help_text=f"The {dashboard.TOP_FAILING} pipelines with the most failed runs of those days.")
    pipelines_total = serializers.IntegerField(help_text="Pipelines that exist.")
    runs_running = serializers.IntegerField(help_text="Runs that execute now.")
    runs_pending = serializers.IntegerField(help_text="Runs that wait now.")
    running_run_ids = serializers.ListField(
        child=serializers.UUIDField(), help_text=f"Of the runs that execute now, the newest {dashboard.MOST_RUNNING} at most."
    )
    runs_today = serializers.IntegerField(help_text="Runs made today (UTC).")
    runs_yesterday = serializers.IntegerField()
    runs_24h_total = serializers.IntegerField(help_text="Runs made in the last 24 hours.")
    runs_24h_success = serializers.IntegerField()
    runs_24h_failed = serializers.IntegerField()
    runs_24h_cancelled = serializers.IntegerField()
    success_rate_24h = serializers.IntegerField(
        allow_null=True, help_text="Percent of those that succeeded or failed which succeeded; null where there are none."
    )


class DashboardView(ApiView):
    """`GET /api/dashboard`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(
        operation_id="dashboard",
        summary="Dashboard",
        description="Pipelines with their last run, the newest runs, a week of days, what fails most, and counts of now and of the last 24 hours.",
        tags=["system"],
        responses={(200, "application/json"): OpenApiResponse(DashboardSerializer, "The dashboard.")} | problems(),
    )
    def get(self, request: Request) -> Response:
        return Response(dashboard.dashboard(with_pipelines=request.user.has_perm("pipelines.view")))
