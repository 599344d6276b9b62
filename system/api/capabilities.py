"""`GET /api/capabilities`: what this server understands."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView
from brokoli_site.common.openapi import problems
from brokoli_site.common.version import VERSION
from system.capabilities import EXECUTION_FEATURES, IR_VERSIONS, NODE_CAPABILITIES, capabilities

_EXAMPLE = {
    "version": VERSION,
    "ir_version": "2.0",
    "supported_ir_versions": list(IR_VERSIONS),
    "supported_execution_features": list(EXECUTION_FEATURES),
    "code_languages": ["python"],
    "node_capabilities": list(NODE_CAPABILITIES),
    "node_type_capabilities": {"sink_file": ["sink"], "source_file": ["source", "dataset-output"], "transform": ["compute"]},
    "disabled_node_types": ["bash"],
}


class CapabilitiesSerializer(serializers.Serializer[Any]):
    version = serializers.CharField(help_text="Of this server.")
    ir_version = serializers.CharField(help_text="That a pipeline without one is read as.")
    supported_ir_versions = serializers.ListField(child=serializers.CharField(), help_text="Of pipelines that can be saved.")
    supported_execution_features = serializers.ListField(child=serializers.CharField(), help_text="What pipelines may use and will find done.")
    code_languages = serializers.ListField(child=serializers.CharField(), help_text="Of `code` nodes.")
    node_capabilities = serializers.ListField(child=serializers.CharField(), help_text="The tags that node types have.")
    node_type_capabilities = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), help_text="Every node type that this server knows, with its tags."
    )
    disabled_node_types = serializers.ListField(child=serializers.CharField(), help_text="Those that its operator turned off.")


class CapabilitiesView(ApiView):
    """`GET /api/capabilities`"""

    # As the description of the API: for whoever may log in.
    required_permissions: ClassVar = {"GET": ""}

    @extend_schema(
        operation_id="get_capabilities",
        summary="What this server understands",
        description="Its version, the versions of pipeline documents and the features that it runs, its node types, and those that are turned off. "
        "The SDK asks before it deploys.",
        tags=["system"],
        responses={
            (200, "application/json"): OpenApiResponse(
                CapabilitiesSerializer, "What it understands.", [OpenApiExample("example", value=_EXAMPLE, response_only=True)]
            )
        }
        | problems(),
    )
    def get(self, request: Request) -> Response:
        return Response(capabilities())
