"""What a node produced: its first rows, the whole, and what was measured of it."""

import os
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.errors import NotFound
from brokoli_site.common.streaming import ChunkedResponse, attachment
from runs import downloads
from runs.api import documentation
from runs.api.lookup import find_output
from runs.api.requests import OutputQuery
from runs.artifacts import ArtifactMissing, ArtifactStore
from runs.models import NodeOutput, Run
from runs.profile import drift
from runs.states import RunStatus

_TYPES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


class NodePreviewView(ApiView):
    """`GET /api/runs/{id}/nodes/{node_id}/preview`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(**documentation.PREVIEW)
    def get(self, request: Request, run_id: str, node_id: str) -> Response:
        output = find_output(run_id, node_id, "schema", "preview")
        columns = output.preview["columns"]
        rows = [dict(zip(columns, row, strict=True)) for row in output.preview["rows"]]
        return Response({**output.preview, "schema": output.schema, "rows": rows})


class NodeOutputView(ApiView):
    """`GET /api/runs/{id}/nodes/{node_id}/output`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": OutputQuery}

    @extend_schema(**documentation.OUTPUT)
    def get(self, request: Request, run_id: str, node_id: str) -> HttpResponseBase:
        output = find_output(run_id, node_id, "run_id", "artifact")
        try:
            file = ArtifactStore(settings.ARTIFACTS).open(output.artifact)
        except ArtifactMissing as error:
            raise NotFound("The file of this output is gone; run the pipeline again to make it anew.") from error
        form = self.query["format"]
        headers = attachment(f"run-{output.run_id}-output-{output.id}.{form}")
        if form == "parquet":
            headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
            chunks = downloads.parquet(file)
        else:
            chunks = downloads.jsonl(file) if form == "jsonl" else downloads.csv(file, raw=self.query["raw"])
        return ChunkedResponse(chunks, source=file, content_type=_TYPES[form], headers=headers)


class NodeProfileView(ApiView):
    """`GET /api/runs/{id}/nodes/{node_id}/profile`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(**documentation.PROFILE)
    def get(self, request: Request, run_id: str, node_id: str) -> Response:
        output = find_output(run_id, node_id, "run_id", "node_id", "schema", "profile", "lineage")
        found = drift(output.profile, _profile_before(output))
        return Response({"profile": output.profile, "schema": output.schema, "drift": found, "lineage": output.lineage})


def _profile_before(output: NodeOutput) -> dict[str, Any] | None:
    """The same node's profile in the last successful run of the pipeline before this one; None where there is none to compare with."""
    pipeline_id = Run.objects.filter(id=output.run_id).values_list("pipeline_id", flat=True).get()
    earlier = (
        Run.objects.of_pipeline(pipeline_id).filter(status=RunStatus.SUCCESS, id__lt=output.run_id).recent().values_list("id", flat=True).first()
    )
    if earlier is None:
        return None
    return NodeOutput.objects.filter(run_id=earlier, node_id=output.node_id).values_list("profile", flat=True).first()
