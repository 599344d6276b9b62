"""`POST /api/system/purge`: delete old runs."""

from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictIntegerField, StrictSerializer, read_body
from brokoli_site.common.openapi import problems
from runs import retention
from runs.artifacts import ArtifactStore

DEFAULT_DAYS = 30
MOST_SECONDS = 60.0  # of one request; asking again goes on
_JSON = "application/json"


class PurgeRequest(StrictSerializer):
    days = StrictIntegerField(
        required=False, default=DEFAULT_DAYS, min_value=1, max_value=36_500, help_text="Runs that ended more than this many days ago."
    )


class PurgeAnswerSerializer(serializers.Serializer[Any]):
    deleted = serializers.IntegerField(help_text="Runs that were deleted.")
    days = serializers.IntegerField()


class PurgeView(ApiView):
    """`POST /api/system/purge`"""

    required_permissions: ClassVar = {"POST": "settings.edit"}

    @extend_schema(
        operation_id="purge_runs",
        summary="Delete old runs",
        description="Deletes the runs that ended more than `days` days ago, with their logs, outputs and artifacts; never one that is being "
        "resumed. Other work goes on meanwhile. It takes a minute at most; while `deleted` is not 0, another call may find more.",
        tags=["system"],
        request={_JSON: PurgeRequest},
        examples=[OpenApiExample("month", value={"days": 30}, request_only=True)],
        responses={
            (200, _JSON): OpenApiResponse(
                PurgeAnswerSerializer, "How many were deleted.", [OpenApiExample("done", value={"deleted": 12, "days": 30}, response_only=True)]
            )
        }
        | problems(413, 415),
    )
    def post(self, request: Request) -> Response:
        days = read_body(request, PurgeRequest)["days"]
        purged = retention.purge(days, ArtifactStore(settings.ARTIFACTS), seconds=MOST_SECONDS)
        return Response({"deleted": purged.runs, "days": days})
