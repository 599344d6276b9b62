"""`GET /api/runs/calendar`: runs by day."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictSerializer
from brokoli_site.common.openapi import problems
from runs.api.lookup import find_pipeline
from system import calendar

DEFAULT_DAYS = 90
_EXAMPLE = {"date": "2024-01-15", "success": 12, "failed": 1, "cancelled": 0, "running": 1, "pending": 0, "total": 14}


class CalendarQuery(StrictSerializer):
    days = serializers.IntegerField(
        min_value=1, max_value=calendar.MOST_DAYS, required=False, default=DEFAULT_DAYS, help_text="Days of history, today included."
    )
    pipeline_id = serializers.CharField(max_length=100, required=False, help_text="Only runs of this pipeline: its id or its slug.")


class DaySerializer(serializers.Serializer[Any]):
    """The runs that were made on one day (UTC), by how they stand now."""

    date = serializers.DateField()
    success = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()
    running = serializers.IntegerField()
    pending = serializers.IntegerField(help_text="They wait for a worker.")
    total = serializers.IntegerField(help_text="The sum of the others.")


class CalendarView(ApiView):
    """`GET /api/runs/calendar`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": CalendarQuery}

    @extend_schema(
        operation_id="run_calendar",
        summary="Runs by day",
        description="An entry for each of the last days (UTC, by the time that a run was made) on which there were runs, oldest first. Runs of "
        "deleted pipelines count; those that were purged do not.",
        tags=["runs"],
        parameters=[CalendarQuery],
        responses={
            (200, "application/json"): OpenApiResponse(
                DaySerializer(many=True), "The days.", [OpenApiExample("example", value=_EXAMPLE, response_only=True)]
            )
        }
        | problems(404),
    )
    def get(self, request: Request) -> Response:
        wanted = self.query.get("pipeline_id")
        pipeline_id = None if wanted is None else find_pipeline(wanted, deleted=True).id
        return Response(calendar.calendar(self.query["days"], pipeline_id))
