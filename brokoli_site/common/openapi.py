"""The OpenAPI document: what it says of every call alike, and where it is served."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib.auth.views import redirect_to_login
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiJsonRenderer2, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.problems import MEDIA_TYPE

# No text holds a NUL, because not every database keeps one.
NO_NUL = r"^[^\u0000]*$"
NOT_BLANK = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"


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
    request_id = serializers.CharField(required=False, help_text="As in the answer's `X-Request-ID`: what the server's log calls this request.")
    code = serializers.CharField(help_text="Stable name for programs.")
    errors = ProblemPlaceSerializer(many=True, required=False)  # type: ignore[assignment]  # DRF takes declared fields off the class


def problems(*statuses: int) -> dict[Any, Any]:
    """Responses for `extend_schema`: these statuses, and those that any call may answer (400, 401, 403, 429, 503), as problems."""
    return {(status, MEDIA_TYPE): ProblemSerializer for status in sorted({400, 401, 403, 429, 503, *statuses})}


class LocalModeScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Local mode needs no credentials; `{}` says that they are optional."""

    target_class = "brokoli_site.common.local_mode.LocalModeAuthentication"
    name = []  # noqa: RUF012 - spectacular declares it so

    def get_security_definition(self, auto_schema: AutoSchema) -> Any:
        return []

    def get_security_requirement(self, auto_schema: AutoSchema) -> Any:
        return {}


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Says of strict bodies and queries that no other field is accepted; of texts that they hold no NUL and must not be blank; and what they add."""

    target_class = "brokoli_site.common.api.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> Any:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # type: ignore[no-untyped-call]
        fields = self.target.fields if isinstance(self.target, serializers.Serializer) else self.target().fields
        for name, described in schema.get("properties", {}).items():
            found = fields[name]
            if not isinstance(found, serializers.CharField) or not {"$ref", "allOf", "oneOf", "enum"}.isdisjoint(described):
                continue
            if not found.allow_blank:
                described.setdefault("minLength", 1)
            described.setdefault("pattern", NOT_BLANK if found.trim_whitespace and not found.allow_blank else NO_NUL)
        return {**schema, "additionalProperties": False, **getattr(self.target, "also_in_schema", {})}


def plain_nulls(result: Any, **_: Any) -> Any:
    """Spectacular's hook after the document is made: `oneOf` has null once at most.

    A field of any value that may be null would be "anything or null, but not both", which null itself is not.
    """
    waiting = [result]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if _NULL in found.get("oneOf", ()):
                _say_null_once(found)
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return result


_NULL = {"type": "null"}


def _say_null_once(schema: dict[str, Any]) -> None:
    ways = [way for way in schema["oneOf"] if way != _NULL]
    if {} in ways:
        del schema["oneOf"]
    else:
        schema["oneOf"] = [*ways, _NULL]


@extend_schema(exclude=True)
class SchemaView(SpectacularAPIView):
    """`/api/schema`: JSON, or YAML for who asks for it."""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": ""}
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer]  # noqa: RUF012 - DRF declares it so


@extend_schema(exclude=True)
class DocsView(SpectacularSwaggerView):
    """`/api/docs`: the document, to browse and try; all its files come from this server, and nothing of it stands in the page itself."""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": ""}
    url_name = "schema"
    template_name = "api/docs.html"

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response: Response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
        # For windows of other servers' logins, which this page has none of.
        del response.headers["Cross-Origin-Opener-Policy"]
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """A person in a browser is sent to log in first; programs are told what is missing."""
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.status_code == HTTPStatus.UNAUTHORIZED and "text/html" in request.headers.get("Accept", ""):
            return redirect_to_login(request.get_full_path())
        return response
