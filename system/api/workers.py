"""`GET /api/workers`: who executes runs."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.openapi import problems
from brokoli_site.common.time import iso
from system import workers
from system.workers import Seen

_EXAMPLE = {
    "id": "etl-1-4711-5f0c2a9e",
    "hostname": "etl-1",
    "pid": 4711,
    "concurrency": 4,
    "running": 1,
    "runs": ["019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"],
    "draining": False,
    "alive": True,
    "started_at": "2024-01-15T06:00:00.000Z",
    "seen_at": "2024-01-15T06:12:03.000Z",
}


class WorkerSerializer(serializers.Serializer[Any]):
    """A worker process."""

    id = serializers.CharField()
    hostname = serializers.CharField()
    pid = serializers.IntegerField(help_text="Its process on that host.")
    concurrency = serializers.IntegerField(help_text="Runs that it executes at the same time.")
    running = serializers.IntegerField(help_text="Runs that it executes now.")
    runs = serializers.ListField(child=serializers.UUIDField(), help_text="Their ids.")
    draining = serializers.BooleanField(help_text="It was told to stop and takes no more runs.")
    alive = serializers.BooleanField(help_text="False: it has been silent for its lease. Its runs go to another, and then it is gone from here.")
    started_at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField(help_text="Its last heartbeat.")


def shown(seen: Seen) -> dict[str, Any]:
    worker = seen.worker
    return {
        "id": worker.id,
        "hostname": worker.hostname,
        "pid": worker.pid,
        "concurrency": worker.concurrency,
        "running": len(seen.run_ids),
        "runs": list(seen.run_ids),
        "draining": worker.draining,
        "alive": seen.alive,
        "started_at": iso(worker.started_at),
        "seen_at": iso(worker.seen_at),
    }


class WorkersView(ApiView):
    """`GET /api/workers`"""

    required_permissions: ClassVar = {"GET": "runs.view"}

    @extend_schema(
        operation_id="list_workers",
        summary="List workers",
        description=f"The processes that execute runs, newest first, {workers.MOST} at most. One that died is listed, not `alive`, until another has "
        "taken over its runs; where no other lives, until one starts.",
        tags=["system"],
        responses={
            (200, "application/json"): OpenApiResponse(
                WorkerSerializer(many=True), "The workers.", [OpenApiExample("example", value=_EXAMPLE, response_only=True)]
            )
        }
        | problems(),
    )
    def get(self, request: Request) -> Response:
        return Response([shown(seen) for seen in workers.with_runs()])
