"""Trigger, cancel and resume runs."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from brokoli_site.common.api import ApiView, read_body
from runs import triggers
from runs.api import documentation
from runs.api.idempotent import idempotent
from runs.api.lookup import check_run, find_pipeline, find_run
from runs.api.requests import CancelRequest, ResumeRequest, RunRequest
from runs.api.serializers import AcceptedRunSerializer, ResumedRunSerializer, RunDetailSerializer
from runs.models import Run
from runs.states import RunStatus, Trigger


def _location(run: Run) -> dict[str, str]:
    return {"Location": reverse("run", args=[run.id])}


class PipelineRunView(ApiView):
    """`POST /api/pipelines/{id}/run`"""

    required_permissions: ClassVar = {"POST": "pipelines.run"}

    @extend_schema(**documentation.RUN)
    @idempotent
    def post(self, request: Request, pipeline_id: str) -> Response:
        pipeline = find_pipeline(pipeline_id)
        body = read_body(request, RunRequest)
        run = triggers.run(
            pipeline,
            params=body.get("params", {}),
            priority=body["priority"],
            trigger=Trigger.API,
            ignore_dependencies=body["ignore_dependencies"],
            user=request.user,
        )
        return Response(AcceptedRunSerializer(run).data, status=202, headers=_location(run))


class RunCancelView(ApiView):
    """`POST /api/runs/{id}/cancel`"""

    required_permissions: ClassVar = {"POST": "runs.cancel"}

    @extend_schema(**documentation.CANCEL)
    def post(self, request: Request, run_id: str) -> Response:
        body = read_body(request, CancelRequest)
        run = triggers.cancel(check_run(run_id), force=body["force"])
        shown = find_run(str(run.id))
        return Response(RunDetailSerializer(shown).data, status=200 if run.status == RunStatus.CANCELLED else 202, headers=_location(run))


class RunResumeView(ApiView):
    """`POST /api/runs/{id}/resume`"""

    required_permissions: ClassVar = {"POST": "runs.resume"}

    @extend_schema(**documentation.RESUME)
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        body = read_body(request, ResumeRequest)
        run = triggers.resume(check_run(run_id), from_node=body["from_node"], version=body["version"], user=request.user)
        return Response(ResumedRunSerializer(run).data, status=202, headers=_location(run))
