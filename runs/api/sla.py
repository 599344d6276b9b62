"""The days on which a pipeline missed its deadline."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.openapi import problems
from runs import sla
from runs.api.lookup import find_pipeline
from runs.api.serializers import Moment

NEWEST = 100


class SlaMissSerializer(serializers.Serializer[Any]):
    date = serializers.DateField(help_text="The day, in the deadline's zone.")
    deadline = Moment()
    state = serializers.CharField(
        help_text="What there was of a run by then: not_started, waiting, running, or failed (the newest one; a cancelled one too)."
    )
    noted_at = Moment(help_text="When a worker saw it, and alerts were queued.")


class PipelineSlaMissesView(ApiView):
    """`GET /api/pipelines/{id}/sla-misses`"""

    required_permissions: ClassVar = {"GET": "pipelines.view"}

    @extend_schema(
        operation_id="list_sla_misses",
        summary="Missed deadlines",
        description="The newest 100 days on which no run had succeeded by `sla_deadline`. `{pipeline_id}` is the id or the slug.",
        tags=["schedules"],
        responses={200: SlaMissSerializer(many=True), **problems(404)},
    )
    def get(self, request: Request, pipeline_id: str) -> Response:
        return Response(SlaMissSerializer(sla.misses(find_pipeline(pipeline_id), NEWEST), many=True).data)
