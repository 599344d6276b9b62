"""`/api/pipelines/{id}/webhook-token`: make, replace and remove what a webhook of the pipeline proves that it knows."""

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictSerializer, read_body
from brokoli_site.common.openapi import problems
from brokoli_site.common.time import iso
from pipelines import definitions, webhooks
from pipelines.models import WebhookToken

_PIPELINE_ID = "019a9f2b-1c77-7e10-8a55-0d9b6f3e2a41"
_SET = {"pipeline_id": _PIPELINE_ID, "set": True, "created_at": "2026-01-15T06:00:00.000Z", "url": f"/api/pipelines/{_PIPELINE_ID}/webhook"}


class NoFields(StrictSerializer):
    """Nothing is said in it."""


class WebhookTokenSerializer(serializers.Serializer[Any]):
    """Whether there is a token; never which one."""

    pipeline_id = serializers.UUIDField()
    set = serializers.BooleanField()
    created_at = serializers.DateTimeField(allow_null=True)
    url = serializers.CharField(help_text="Where the webhook posts to.")


class NewWebhookTokenSerializer(WebhookTokenSerializer):
    """A token that was just made."""

    webhook_token = serializers.CharField(help_text="Keep it: it is told this once.")


class WebhookTokenView(ApiView):
    """`/api/pipelines/{id}/webhook-token`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.view", "POST": "pipelines.edit", "DELETE": "pipelines.edit"}

    @extend_schema(
        operation_id="get_webhook_token",
        summary="Whether a pipeline has a webhook",
        responses={(200, "application/json"): OpenApiResponse(WebhookTokenSerializer, "Whether.", [OpenApiExample("set", value=_SET)])}
        | problems(404),
    )
    def get(self, request: Request, pipeline_id: str) -> Response:
        """Whether the pipeline has a token, and since when. Which one is told by nobody."""
        found = definitions.find(definitions.identify(pipeline_id)).pipeline
        return Response(_shown(found.id, WebhookToken.objects.filter(pipeline=found).first()))

    @extend_schema(
        operation_id="make_webhook_token",
        summary="Make or replace the token of a webhook",
        request={"application/json": NoFields},
        responses={
            (201, "application/json"): OpenApiResponse(
                NewWebhookTokenSerializer, "The token, this once.", [OpenApiExample("made", value=_SET | {"webhook_token": "whk_…"})]
            )
        }
        | problems(404, 413, 415),
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """A new token, which this answer alone tells. One of before is refused from now on."""
        read_body(request, NoFields)
        row, token = webhooks.rotate(definitions.identify(pipeline_id))
        return Response(_shown(row.pipeline_id, row) | {"webhook_token": token}, status=201, headers={"Cache-Control": "no-store"})

    @extend_schema(operation_id="remove_webhook_token", summary="Remove the webhook of a pipeline", responses={204: None, **problems(404)})
    def delete(self, request: Request, pipeline_id: str) -> Response:
        """The pipeline has no webhook any more."""
        webhooks.remove(definitions.identify(pipeline_id))
        return Response(status=204)


def _shown(pipeline_id: Any, row: WebhookToken | None) -> dict[str, Any]:
    return {
        "pipeline_id": pipeline_id,
        "set": row is not None,
        "created_at": iso(row.created_at) if row else None,
        "url": f"/api/pipelines/{pipeline_id}/webhook",
    }
