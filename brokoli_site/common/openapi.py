"""What the OpenAPI document says of every call alike: its problems."""

from typing import Any

from rest_framework import serializers

from brokoli_site.common.problems import MEDIA_TYPE


class ProblemPlaceSerializer(serializers.Serializer[Any]):
    """One place at fault."""

    pointer = serializers.CharField(required=False, help_text="JSON Pointer (RFC 6901) into the body.")
    parameter = serializers.CharField(required=False, help_text="Name of a query parameter.")
    detail = serializers.CharField()
    node_id = serializers.CharField(required=False)
    field = serializers.CharField(required=False, help_text="Dotted path in the config of the node, or a key of the pipeline.")
    line = serializers.IntegerField(required=False, help_text="Line in the text of the field, from 1.")
    column = serializers.IntegerField(required=False, help_text="Column in the text of the field, from 1.")


class ProblemSerializer(serializers.Serializer[Any]):
    """A problem (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    code = serializers.CharField(help_text="Stable name for programs.")
    errors = ProblemPlaceSerializer(many=True, required=False)  # type: ignore[assignment]  # DRF takes declared fields off the class


def problems(*statuses: int) -> dict[Any, Any]:
    """Responses for `extend_schema`: these statuses, and those that any call may answer (400, 401, 403, 503), as problems."""
    return {(status, MEDIA_TYPE): ProblemSerializer for status in sorted({400, 401, 403, 503, *statuses})}
