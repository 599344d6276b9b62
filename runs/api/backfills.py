"""Start, show and cancel backfills."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from brokoli_site.common.api import ApiView, read_body
from runs import backfills
from runs.api import documentation
from runs.api.idempotent import idempotent
from runs.api.lookup import check_backfill, find_pipeline
from runs.api.requests import BackfillCancelRequest, BackfillRequest
from runs.api.serializers import BackfillDetailSerializer, BackfillPlanSerializer, BackfillSerializer
from runs.backfill_plans import MOST_SLOTS
from runs.backfills import Plan
from runs.models import Backfill


def shown(rows: list[Backfill]) -> list[dict[str, Any]]:
    """Each as `BackfillSerializer` documents it. One query."""
    progress = backfills.progress(rows)
    return [dict(BackfillSerializer({"row": row, "progress": progress[row.id]}).data) for row in rows]


def shown_whole(row: Backfill) -> dict[str, Any]:
    """With its runs, oldest date first. Two queries."""
    runs = backfills.current_runs([row.id]).only("id", "logical_date", "interval_start", "status").order_by("id")[: 2 * MOST_SLOTS]
    in_order = sorted(runs, key=lambda run: (run.interval_start.isoformat() if run.interval_start else "", str(run.logical_date), run.id))
    return dict(BackfillDetailSerializer({"row": row, "progress": backfills.progress([row])[row.id], "runs": in_order[:MOST_SLOTS]}).data)


class PipelineBackfillView(ApiView):
    """`POST /api/pipelines/{id}/backfill`"""

    required_permissions: ClassVar = {"POST": "runs.backfill"}

    @extend_schema(**documentation.BACKFILL)
    @idempotent
    def post(self, request: Request, pipeline_id: str) -> Response:
        pipeline = find_pipeline(pipeline_id)
        body = read_body(request, BackfillRequest)
        is_rehearsal, over_dates = body.pop("dry_run"), "start_date" in body
        plan = (
            backfills.over_dates(pipeline, body.pop("start_date"), body.pop("end_date"), **body)
            if over_dates
            else backfills.over_intervals(pipeline, **body)
        )
        if is_rehearsal:
            return Response(_plan(backfills.rehearse(plan), None, []))
        decided, backfill, run_ids = backfills.start(plan, user=request.user)
        headers = {"Location": reverse("backfill", args=[backfill.id]), "X-Backfill-Id": str(backfill.id)}
        return Response(run_ids if over_dates else _plan(decided, backfill, run_ids), status=202, headers=headers)


def _plan(plan: Plan, backfill: Backfill | None, run_ids: list[Any]) -> dict[str, Any]:
    skipped = len(plan.slots) - len(plan.due)
    facts = {
        "intervals": len(plan.slots),
        "first_interval_start": plan.slots[0].interval_start,
        "last_interval_end": plan.slots[-1].interval_end,
        "concurrency": plan.concurrency,
        "runs": run_ids,
        "note": f"{skipped} of {len(plan.slots)} are left out, because of the runs that they have; 'force' runs them all." if skipped else "",
        "backfill_id": backfill.id if backfill else None,
        "plan": plan.slots,
    }
    return dict(BackfillPlanSerializer(facts).data)


class PipelineBackfillsView(ApiView):
    """`GET /api/pipelines/{id}/backfills`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(**documentation.BACKFILLS)
    def get(self, request: Request, pipeline_id: str) -> Response:
        return Response(shown(backfills.newest(find_pipeline(pipeline_id, deleted=True))))


class BackfillView(ApiView):
    """`GET /api/backfills/{id}`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(**documentation.BACKFILL_DETAIL)
    def get(self, request: Request, backfill_id: str) -> Response:
        return Response(shown_whole(check_backfill(backfill_id)))


class BackfillCancelView(ApiView):
    """`POST /api/backfills/{id}/cancel`"""

    required_permissions: ClassVar = {"POST": "runs.cancel"}

    @extend_schema(**documentation.BACKFILL_CANCEL)
    def post(self, request: Request, backfill_id: str) -> Response:
        body = read_body(request, BackfillCancelRequest)
        cancelled = backfills.cancel(check_backfill(backfill_id).id, running=body["running"])
        return Response(shown_whole(cancelled), headers={"Location": reverse("backfill", args=[cancelled.id])})
