"""`POST /api/pipelines/{id}/webhook`: another system makes a run. No login: it shows the pipeline's token, or signs with it."""

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from brokoli_site.common import audit
from brokoli_site.common.api import ApiView, StrictSerializer, read_fields
from brokoli_site.common.json import loads, read_limited
from brokoli_site.common.openapi import problems
from pipelines.models import Pipeline
from runs import idempotency, triggers, webhooks
from runs.api.idempotent import HEADER, once
from runs.api.requests import MAX_PARAM_TEXT, ParamsField
from runs.api.serializers import AcceptedRunSerializer
from runs.states import Trigger

TOKEN, SIGNATURE = "X-Webhook-Token", "X-Hub-Signature-256"
DELIVERY = "X-GitHub-Delivery"  # the same when GitHub delivers something again: as good as an Idempotency-Key
_JSON = "application/json"
_RUN_ID, _PIPELINE_ID = "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70", "019a9f2b-1c77-7e10-8a55-0d9b6f3e2a41"


class RawParser(BaseParser):
    """The bytes as they came: a signature is of them, and nobody has proven yet that they are worth reading."""

    media_type = "*/*"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return read_limited(stream, settings.MAX_BODY_BYTES)


class WebhookRequest(StrictSerializer):
    params = ParamsField(required=False, help_text="Values of the pipeline's parameters: texts, numbers, true, false or null.")


class WebhookRunSerializer(AcceptedRunSerializer):
    """A run that a webhook made."""

    run_id = serializers.UUIDField(source="id", help_text="The same as `id`.")


def _header(name: str, about: str) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.HEADER, description=about)


class PipelineWebhookView(ApiView):
    """`POST /api/pipelines/{id}/webhook`"""

    authentication_classes = ()
    permission_classes = ()  # who knows the token may
    parser_classes = (RawParser,)

    @extend_schema(
        operation_id="trigger_by_webhook",
        summary="Trigger a run from another system",
        description="No login: show the pipeline's token in `X-Webhook-Token`, or sign the body with it as GitHub does (`X-Hub-Signature-256`). "
        f"A body of another form than `{{params}}` becomes the param `{webhooks.PAYLOAD}`, as JSON text, where the pipeline has one; otherwise "
        "a signed one is left out, and any other is refused. What is wrong with pipeline or token is not told: all of it is 404.",
        tags=["runs"],
        auth=[],
        parameters=[
            _header(TOKEN, "The token of the pipeline."),
            _header(SIGNATURE, "`sha256=` and the hexadecimal HMAC-SHA256 of the body under the token."),
            _header(HEADER, "The same key and body within 24 h answer the same run."),
            _header(DELIVERY, "Taken for the Idempotency-Key where there is none."),
        ],
        request={_JSON: WebhookRequest},
        examples=[OpenApiExample("params", value={"params": {"region": "EU"}}, request_only=True)],
        responses={
            (202, _JSON): OpenApiResponse(
                WebhookRunSerializer,
                "The run is stored and waits for a worker.",
                [
                    OpenApiExample(
                        "accepted",
                        value={"id": _RUN_ID, "pipeline_id": _PIPELINE_ID, "status": "pending", "run_id": _RUN_ID},
                        response_only=True,
                    )
                ],
            )
        }
        | problems(404, 409, 413, 415, 422),
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        given: Any = request.data
        raw = given if isinstance(given, bytes) else b""  # DRF gives an empty dictionary for no body
        token, signature = request.headers.get(TOKEN), request.headers.get(SIGNATURE)
        pipeline = webhooks.admit(pipeline_id, token=token, signature=signature, body=raw)
        if raw.strip() and request.content_type.partition(";")[0].strip().lower() != _JSON:
            raise UnsupportedMediaType(request.content_type)
        body = loads(raw)
        params = _params(pipeline, body, signed=token is None)
        key = request.headers.get(HEADER, request.headers.get(DELIVERY))
        if key is None:
            return _run(pipeline, params)
        asked = idempotency.request(scope=f"webhook:{pipeline.id}", key=key, method="POST", path="webhook", body=body)
        return once(asked, lambda: _run(pipeline, params))


def _params(pipeline: Pipeline, body: Any, *, signed: bool) -> dict[str, Any]:
    ours = isinstance(body, dict) and (not body or "params" in body)
    if not ours and webhooks.takes_payload(pipeline):
        return {webhooks.PAYLOAD: webhooks.payload(body, MAX_PARAM_TEXT)}
    if not ours and signed:
        return {}
    params: dict[str, Any] = read_fields(body, WebhookRequest).get("params", {})
    return params


def _run(pipeline: Pipeline, params: Mapping[str, Any]) -> Response:
    with audit.acting("webhook", "webhook"):
        run = triggers.run(pipeline, params=params, trigger=Trigger.WEBHOOK)
    return Response(WebhookRunSerializer(run).data, status=202, headers={"Location": reverse("run", args=[run.id])})
