"""Dry runs of saved and unsaved pipelines."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, read_body
from brokoli_site.common.errors import BadRequest
from brokoli_site.common.json import PipelineJSONParser
from pipelines.models import PipelineVersion
from runs.api import documentation
from runs.api.lookup import find_pipeline
from runs.api.requests import DryRunRequest
from runs.dry_run import Draft, dry_run

_PARSERS: list[type[BaseParser]] = [PipelineJSONParser]


class PipelineDryRunView(ApiView):
    """`POST /api/pipelines/{id}/dry-run`"""

    required_permissions: ClassVar = {"POST": "pipelines.run"}

    @extend_schema(**documentation.DRY_RUN)
    def post(self, request: Request, pipeline_id: str) -> Response:
        pipeline = find_pipeline(pipeline_id)
        body = read_body(request, DryRunRequest)
        document = PipelineVersion.objects.get(pipeline=pipeline, number=pipeline.version).document
        return Response(dry_run(Draft(document, body.get("params", {}), str(pipeline.id)), user=request.user))


class DraftDryRunView(ApiView):
    """`POST /api/pipelines/dry-run`. A draft reads files, as a run does, and is written by whoever sends it: both rights are asked for."""

    parser_classes = _PARSERS
    required_permissions: ClassVar = {"POST": "pipelines.run"}

    @extend_schema(**documentation.DRAFT_DRY_RUN)
    def post(self, request: Request) -> Response:
        if not any(request.user.has_perm(right) for right in ("pipelines.create", "pipelines.edit")):
            self.permission_denied(request)
        if not isinstance(request.data, dict):
            raise BadRequest("The body must be a JSON object: a pipeline.")
        return Response(dry_run(Draft.unsaved(request.data), user=request.user))
