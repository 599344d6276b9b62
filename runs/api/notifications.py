"""Who was told of a run, and what became of it."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.openapi import problems
from brokoli_site.common.time import iso
from pipelines.hooks import EVENTS, KINDS, receiver
from runs.api.lookup import check_run
from runs.api.serializers import Moment
from runs.models import Notification

MOST_SHOWN = 1_000  # a run has some twenty; only one whose nodes fail by the hundred has more
_EXAMPLE = {
    "id": 17,
    "event": "on_failure",
    "kind": "webhook",
    "receiver": "hooks.example.org",
    "status": "sent",
    "attempts": 2,
    "error": "",
    "created_at": "2024-01-15T06:01:23.000Z",
    "sent_at": "2024-01-15T06:01:26.000Z",
    "next_attempt_at": None,
}


class NotificationSerializer(serializers.Serializer[Any]):
    """A message to one receiver. The rest of an address is never shown: it may be a secret."""

    id = serializers.IntegerField()
    event = serializers.ChoiceField(choices=EVENTS)
    kind = serializers.ChoiceField(choices=KINDS)
    receiver = serializers.SerializerMethodField(help_text="The host of a URL, or mail addresses; references as they stand in the document.")
    status = serializers.ChoiceField(choices=Notification.Status.values)
    attempts = serializers.IntegerField()
    error = serializers.CharField(help_text="Why the last attempt failed.")
    created_at = Moment()
    sent_at = Moment(allow_null=True)
    next_attempt_at = serializers.SerializerMethodField(help_text="While it is pending.")

    def get_receiver(self, notification: Notification) -> str:
        return receiver(notification.hook)

    def get_next_attempt_at(self, notification: Notification) -> str | None:
        pending = notification.status == Notification.Status.PENDING
        return iso(notification.next_attempt_at) if pending else None


class RunNotificationsView(ApiView):
    """`GET /api/runs/{id}/notifications`"""

    required_permissions: ClassVar[dict[str, str]] = {"GET": "runs.view"}

    @extend_schema(
        operation_id="list_run_notifications",
        summary="Who was told of a run",
        description="What the pipeline's hooks made of this run, oldest first, 1,000 at most.",
        tags=["runs"],
        responses={
            (200, "application/json"): OpenApiResponse(
                NotificationSerializer(many=True), "The notifications.", [OpenApiExample("example", value=_EXAMPLE, response_only=True)]
            )
        }
        | problems(404),
    )
    def get(self, request: Request, run_id: str) -> Response:
        found = Notification.objects.filter(run_id=check_run(run_id)).defer("payload").order_by("id")[:MOST_SHOWN]
        return Response(NotificationSerializer(found, many=True).data)
