"""`GET /api/scheduler/status` and `POST /api/schedules/preview`."""

import datetime as dt
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictCharField, StrictIntegerField, StrictSerializer, read_body
from brokoli_site.common.openapi import problems
from brokoli_site.common.time import iso
from pipelines import schedules
from runs.api.requests import InstantField
from system import scheduler

_JSON = "application/json"
_LONGEST_SCHEDULE, _LONGEST_ZONE = 200, 64
_YEARS = (1970, 2199)


class ScheduleEntrySerializer(serializers.Serializer[Any]):
    """A pipeline with a schedule."""

    pipeline_id = serializers.UUIDField()
    pipeline_name = serializers.CharField()
    schedule = serializers.CharField(help_text="Five cron fields, or one of `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.")
    timezone = serializers.CharField()
    next_run = serializers.DateTimeField(
        allow_null=True, help_text="Null: it is disabled, or its time never comes. In the past: nobody has looked at the clock since."
    )
    last_run = serializers.DateTimeField(allow_null=True, help_text="When its newest run started, whatever made it; or was accepted, while it waits.")
    enabled = serializers.BooleanField()


class PreviewRequest(StrictSerializer):
    schedule = StrictCharField(max_length=_LONGEST_SCHEDULE, help_text="Five cron fields, or `@daily` and the like.")
    timezone = StrictCharField(required=False, default="UTC", max_length=_LONGEST_ZONE, help_text="IANA time zone of the schedule.")
    count = StrictIntegerField(
        required=False,
        default=5,
        min_value=1,
        max_value=scheduler.MOST_PREVIEWED,
        help_text="How many times to give.",
    )
    after = InstantField(required=False, help_text="Times later than this moment (RFC 3339); now when left out.")

    def validate_schedule(self, value: str) -> str:
        if fault := schedules.schedule_fault(value):
            raise serializers.ValidationError(fault)
        return value

    def validate_timezone(self, value: str) -> str:
        if fault := schedules.zone_fault(value):
            raise serializers.ValidationError(fault)
        return value

    def validate_after(self, value: dt.datetime) -> dt.datetime:
        if not _YEARS[0] <= value.year <= _YEARS[1]:
            raise serializers.ValidationError(f"A moment of the years {_YEARS[0]} to {_YEARS[1]}.")
        return value


class SchedulePreviewSerializer(serializers.Serializer[Any]):
    """The times that a schedule stands for."""

    schedule = serializers.CharField()
    cron = serializers.CharField(help_text="The five cron fields that the schedule stands for.")
    timezone = serializers.CharField()
    description = serializers.CharField(help_text="The schedule in words.")
    next = serializers.ListField(child=serializers.DateTimeField(), help_text="In UTC, the soonest first.")
    local = serializers.ListField(child=serializers.CharField(), help_text="The same times as clocks there show them, with their offset from UTC.")
    notes = serializers.ListField(child=serializers.CharField(), help_text="Where a clock that is moved makes one of these times another.")


_ENTRY = {
    "pipeline_id": "019a9f2b-1c77-7e10-8a55-0d9b6f3e2a41",
    "pipeline_name": "Daily orders",
    "schedule": "30 6 * * MON-FRI",
    "timezone": "Europe/Berlin",
    "next_run": "2026-01-16T05:30:00.000Z",
    "last_run": "2026-01-15T05:30:00.412Z",
    "enabled": True,
}
_PREVIEW = {
    "schedule": "30 2 * * *",
    "cron": "30 2 * * *",
    "timezone": "America/New_York",
    "description": "At 02:30 every day",
    "next": ["2024-03-09T07:30:00.000Z", "2024-03-10T07:00:00.000Z"],
    "local": ["2024-03-09T02:30:00-05:00", "2024-03-10T03:00:00-04:00"],
    "notes": ["2024-03-10: the clock skips a time of the schedule; the run is made at 03:00, the first time after it."],
}


class SchedulerStatusView(ApiView):
    """`GET /api/scheduler/status`"""

    required_permissions: ClassVar = {"GET": "pipelines.view"}

    @extend_schema(
        operation_id="get_scheduler_status",
        summary="Schedules and their next runs",
        description="Every pipeline with a schedule, the next to run first. Those that are disabled have no next run and stand last.",
        tags=["system"],
        responses={
            (200, _JSON): OpenApiResponse(
                ScheduleEntrySerializer(many=True), "The schedules.", [OpenApiExample("schedules", value=[_ENTRY], response_only=True)]
            )
        }
        | problems(),
    )
    def get(self, request: Request) -> Response:
        return Response(scheduler.status())


class SchedulePreviewView(ApiView):
    """`POST /api/schedules/preview`"""

    required_permissions: ClassVar = {"POST": "pipelines.view"}

    @extend_schema(
        operation_id="preview_schedule",
        summary="What a schedule means",
        description="The next times of a schedule in a time zone, by the scheduler's own reckoning, and the schedule in words. Nothing is saved. "
        "Fewer times than were asked for: no more come within a hundred years.",
        tags=["system"],
        request={_JSON: PreviewRequest},
        examples=[
            OpenApiExample(
                "gap",
                value={"schedule": "30 2 * * *", "timezone": "America/New_York", "count": 2, "after": "2024-03-09T00:00:00Z"},
                request_only=True,
            )
        ],
        responses={
            (200, _JSON): OpenApiResponse(SchedulePreviewSerializer, "The times.", [OpenApiExample("gap", value=_PREVIEW, response_only=True)])
        }
        | problems(413, 415),
    )
    def post(self, request: Request) -> Response:
        asked = read_body(request, PreviewRequest)
        found = scheduler.preview(asked["schedule"], asked["timezone"], asked.get("after") or timezone.now(), asked["count"])
        return Response(
            {
                "schedule": found.schedule,
                "cron": schedules.cron_fields(found.schedule),
                "timezone": found.zone,
                "description": found.description,
                "next": [iso(tick) for tick in found.ticks],
                "local": found.local,
                "notes": list(found.notes),
            }
        )
