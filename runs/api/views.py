"""Show and list runs."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from runs.api import documentation
from runs.api.lookup import find_pipeline, find_run, shown_runs
from runs.api.requests import RunListQuery
from runs.api.serializers import RunDetailSerializer, RunSerializer
from runs.listing import RunFilter, bounded_count, in_order, newest_ids
from runs.models import Run
from runs.querysets import RunQuerySet

NEWEST = 50


def _page(runs: RunQuerySet, start: int, count: int) -> list[dict[str, Any]]:
    rows = in_order(shown_runs(), newest_ids(runs, start, count))
    shown = RunSerializer()  # one for all: to make one costs more than to use it
    return [shown.to_representation(run) for run in rows]


def _list(query: dict[str, Any], runs: RunQuerySet) -> Response:
    """The newest as a bare array; with `page` or `per_page`, that page and the totals."""
    page, per_page = query.pop("page", None), query.pop("per_page", None)
    runs = RunFilter(**query).apply(runs)
    if page is None and per_page is None:
        return Response(_page(runs, 0, NEWEST))
    page, per_page = page or 1, per_page or NEWEST
    total = bounded_count(runs)
    start = (page - 1) * per_page
    items = _page(runs, start, per_page) if start < total else []
    return Response({"items": items, "total": total, "page": page, "per_page": per_page, "pages": -(-total // per_page)})


class PipelineRunsView(ApiView):
    """`GET /api/pipelines/{id}/runs`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": RunListQuery}

    @extend_schema(**documentation.PIPELINE_RUNS)
    def get(self, request: Request, pipeline_id: str) -> Response:
        pipeline = find_pipeline(pipeline_id, deleted=True)
        return _list(self.query, Run.objects.of_pipeline(pipeline.id))


class RunsView(ApiView):
    """`GET /api/runs`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": RunListQuery}

    @extend_schema(**documentation.RUNS)
    def get(self, request: Request) -> Response:
        return _list(self.query, Run.objects.all())


class RunView(ApiView):
    """`GET /api/runs/{id}`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(**documentation.RUN_DETAIL)
    def get(self, request: Request, run_id: str) -> Response:
        return Response(RunDetailSerializer(find_run(run_id)).data)
