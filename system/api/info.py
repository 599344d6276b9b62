"""`GET /api/system/info`: what this installation is and how busy."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.openapi import problems
from system import info

_EXAMPLE = {
    "version": "0.1.0",
    "db_size": 1_048_576,
    "db_size_mb": "1.00 MB",
    "pipelines": 12,
    "active_runs": 2,
    "max_concurrent_runs": 5,
    "workers": 1,
    "queued_runs": 0,
    "database": "sqlite",
    "scheduler_last_tick": "2024-01-15T06:00:00.000Z",
}


class InfoSerializer(serializers.Serializer[Any]):
    """The system."""

    version = serializers.CharField()
    db_size = serializers.IntegerField(help_text="Bytes that the database takes.")
    db_size_mb = serializers.CharField(help_text="The same for people.")
    pipelines = serializers.IntegerField()
    active_runs = serializers.IntegerField(help_text="Runs that execute.")
    max_concurrent_runs = serializers.IntegerField(
        help_text="Runs that the workers execute at the same time at most; without a worker, what one would take."
    )
    workers = serializers.IntegerField(help_text="Workers that live.")
    queued_runs = serializers.IntegerField(help_text="Runs that wait.")
    database = serializers.ChoiceField(choices=["sqlite", "postgresql"])
    scheduler_last_tick = serializers.DateTimeField(allow_null=True, help_text="When a scheduler last looked at the clock; null: never.")


class InfoView(ApiView):
    """`GET /api/system/info`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(
        operation_id="system_info",
        summary="System info",
        tags=["system"],
        responses={
            (200, "application/json"): OpenApiResponse(InfoSerializer, "The system.", [OpenApiExample("example", value=_EXAMPLE, response_only=True)])
        }
        | problems(),
    )
    def get(self, request: Request) -> Response:
        return Response(info.info())
