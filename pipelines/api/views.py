"""The pipeline calls of the API. Each looks up, validates, calls a use case and answers."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictSerializer, read_body
from brokoli_site.common.errors import BadRequest
from brokoli_site.common.json import PipelineJSONParser
from brokoli_site.common.openapi import problems
from brokoli_site.common.pagination import cursor_page
from brokoli_site.common.preconditions import ETAG, IF_MATCH, etag, seen_versions
from brokoli_site.common.yaml import OldYAMLParser, TextYAMLParser, YAMLParser
from pipelines import definitions, listing, validation
from pipelines.api import serializers
from pipelines.definitions import Definition
from pipelines.models import PipelineVersion
from pipelines.nodes import registry
from pipelines.nodes.base import NodeType
from pipelines.problems import Problem

_PARSERS: list[type[BaseParser]] = [PipelineJSONParser]
_IMPORT_PARSERS: list[type[BaseParser]] = [PipelineJSONParser, YAMLParser, OldYAMLParser, TextYAMLParser]


class PipelineList(ApiView):
    parser_classes = _PARSERS
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.view", "POST": "pipelines.create"}
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {"GET": serializers.PipelineListQuery}

    @extend_schema(
        operation_id="list_pipelines",
        parameters=[serializers.PipelineListQuery],
        responses={
            200: PolymorphicProxySerializer(
                component_name="PipelineListing",
                serializers=[serializers.SummarySerializer(many=True), serializers.SummaryPageSerializer],
                resource_type_field_name=None,
                many=False,
            ),
            **problems(),
        },
    )
    def get(self, request: Request) -> Response:
        """Summaries, newest first: an array, or with `after` or `limit` a page `{items, has_next, cursor}`."""
        rows = listing.pipelines(q=self.query.get("q", ""), tag=self.query.get("tag", ""), enabled=self.query.get("enabled"))
        if "after" in self.query or "limit" in self.query:
            return Response(cursor_page(rows, self.query, listing.summary))
        return Response([listing.summary(pipeline) for pipeline in rows[: listing.MOST_LISTED]])

    @extend_schema(
        operation_id="create_pipeline",
        request=serializers.PipelineDocumentSerializer,
        parameters=[ETAG],
        responses={201: serializers.PipelineSerializer, **problems(409, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        """Create a pipeline. Its structure must be valid; its config may be unfinished (see `validate`)."""
        return _answer(definitions.create(_document(request), user=request.user), status=201)


class PipelineDetail(ApiView):
    parser_classes = _PARSERS
    required_permissions: ClassVar[Mapping[str, str]] = {
        "GET": "pipelines.view",
        "PUT": "pipelines.edit",
        "PATCH": "pipelines.edit",
        "DELETE": "pipelines.delete",
    }

    @extend_schema(operation_id="get_pipeline", parameters=[ETAG], responses={200: serializers.PipelineSerializer, **problems(404)})
    def get(self, request: Request, pipeline_id: str) -> Response:
        """The pipeline at its current version."""
        return _answer(definitions.find(definitions.identify(pipeline_id)))

    @extend_schema(
        operation_id="replace_pipeline",
        request=serializers.PipelineDocumentSerializer,
        parameters=[IF_MATCH, ETAG],
        responses={200: serializers.PipelineSerializer, **problems(404, 409, 412, 413, 415, 422)},
    )
    def put(self, request: Request, pipeline_id: str) -> Response:
        """Replace the definition; a new version."""
        document = _document(request)
        return _answer(definitions.replace(definitions.identify(pipeline_id), document, seen=seen_versions(request), user=request.user))

    @extend_schema(
        operation_id="patch_pipeline",
        request=serializers.PipelinePatchSerializer,
        parameters=[IF_MATCH, ETAG],
        responses={200: serializers.PipelineSerializer, **problems(404, 409, 412, 413, 415, 422)},
    )
    def patch(self, request: Request, pipeline_id: str) -> Response:
        """Change some keys (JSON Merge Patch); a new version."""
        changes = _document(request)
        return _answer(definitions.patch(definitions.identify(pipeline_id), changes, seen=seen_versions(request), user=request.user))

    @extend_schema(operation_id="delete_pipeline", parameters=[IF_MATCH], responses={204: None, **problems(404, 409, 412)})
    def delete(self, request: Request, pipeline_id: str) -> Response:
        """Delete the pipeline; 409 while runs of it are active or other pipelines depend on it."""
        definitions.delete(definitions.identify(pipeline_id), seen=seen_versions(request))
        return Response(status=204)


class PipelineValidate(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.view"}

    @extend_schema(operation_id="validate_pipeline", responses={200: serializers.ReportSerializer, **problems(404)})
    def get(self, request: Request, pipeline_id: str) -> Response:
        """Everything that keeps the saved pipeline from running, and what is doubtful."""
        found = definitions.find(definitions.identify(pipeline_id))
        return Response(_report(definitions.validate(found.document, found.pipeline)))


class DraftValidate(ApiView):
    parser_classes = _PARSERS
    required_permissions: ClassVar[Mapping[str, str]] = {"POST": "pipelines.view"}

    @extend_schema(
        operation_id="validate_draft",
        request=OpenApiTypes.OBJECT,  # whatever it is, the answer says what is wrong with it
        responses={200: serializers.ReportSerializer, **problems(413, 415)},
    )
    def post(self, request: Request) -> Response:
        """The same for a pipeline that is not saved, however unfinished it is."""
        return Response(_report(definitions.validate(_document(request))))


class VersionList(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.view"}
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {"GET": serializers.VersionListQuery}

    @extend_schema(
        operation_id="list_versions",
        parameters=[serializers.VersionListQuery],
        responses={200: serializers.VersionSerializer(many=True), **problems(404)},
    )
    def get(self, request: Request, pipeline_id: str) -> Response:
        """The versions, newest first."""
        pipeline = definitions.find(definitions.identify(pipeline_id)).pipeline
        rows = PipelineVersion.objects.filter(pipeline=pipeline).select_related("created_by").defer("document").order_by("-number")
        if "before" in self.query:
            rows = rows.filter(number__lt=self.query["before"])
        return Response([_version(version) for version in rows[: self.query["limit"]]])


class VersionDetail(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.view"}

    @extend_schema(
        operation_id="get_version",
        parameters=[OpenApiParameter("number", int, "path")],
        responses={200: serializers.PipelineSerializer, **problems(404)},
    )
    def get(self, request: Request, pipeline_id: str, number: str) -> Response:
        """The pipeline as it was at that version."""
        return Response(definitions.represented(definitions.find_version(definitions.identify(pipeline_id), int(number))))


class PipelineRollback(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"POST": "pipelines.edit"}

    @extend_schema(
        operation_id="rollback_pipeline",
        request=serializers.RollbackBody,
        parameters=[IF_MATCH, ETAG],
        responses={200: serializers.PipelineSerializer, **problems(404, 409, 412, 413, 415, 422)},
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Go back to a version, by making a new one that does the same."""
        number = read_body(request, serializers.RollbackBody)["version"]
        return _answer(definitions.rollback(definitions.identify(pipeline_id), number, seen=seen_versions(request), user=request.user))


class PipelineClone(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"POST": "pipelines.create"}

    @extend_schema(
        operation_id="clone_pipeline",
        request=serializers.CloneBody,
        parameters=[ETAG],
        responses={201: serializers.PipelineSerializer, **problems(404, 409, 413, 415, 422)},
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """A new pipeline with the same definition. With a schedule it starts disabled."""
        name = read_body(request, serializers.CloneBody).get("name", "")
        return _answer(definitions.clone(definitions.identify(pipeline_id), name=name, user=request.user), status=201)


class PipelineExport(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.export"}

    @extend_schema(operation_id="export_pipeline", responses={(200, "application/yaml"): serializers.PipelineDocumentSerializer, **problems(404)})
    def get(self, request: Request, pipeline_id: str) -> HttpResponse:
        """The definition as a YAML file that `import` reads back the same."""
        found = definitions.find(definitions.identify(pipeline_id))
        disposition = f'attachment; filename="{found.pipeline.pipeline_id}.yaml"'
        return HttpResponse(definitions.export(found), content_type="application/yaml", headers={"Content-Disposition": disposition})


class PipelineImport(ApiView):
    parser_classes = _IMPORT_PARSERS
    required_permissions: ClassVar[Mapping[str, str]] = {"POST": "pipelines.create"}
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {"POST": serializers.ImportQuery}

    @extend_schema(
        operation_id="import_pipeline",
        request={"application/yaml": serializers.PipelineDocumentSerializer, "application/json": serializers.PipelineDocumentSerializer},
        parameters=[serializers.ImportQuery, ETAG],
        responses={200: serializers.PipelineSerializer, 201: serializers.PipelineSerializer, **problems(409, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        """Create (or, with `on_taken=replace`, change) a pipeline from an exported file."""
        on_taken = self.query["on_taken"]
        if on_taken == "replace" and not request.user.has_perm("pipelines.edit"):
            self.permission_denied(request)
        found, is_new = definitions.import_document(_document(request), on_taken=on_taken, user=request.user)
        return _answer(found, status=201 if is_new else 200)


class DependencyGraph(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.view"}

    @extend_schema(operation_id="get_dependency_graph", responses={200: serializers.DependencyGraphSerializer, **problems()})
    def get(self, request: Request) -> Response:
        """Which pipelines wait for which: those that take part, and an edge a rule."""
        return Response(listing.dependency_graph())


class NodeTypeList(ApiView):
    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "pipelines.view"}

    @extend_schema(operation_id="list_node_types", responses={200: serializers.NodeTypeSerializer(many=True), **problems()})
    def get(self, request: Request) -> Response:
        """Every node type with the JSON Schema of its config."""
        return Response([{**_node_type(found), "enabled": not registry.is_disabled(found.name)} for found in registry.all()])


@functools.cache
def _node_type(found: NodeType) -> dict[str, Any]:
    return {
        "type": found.name,
        "label": found.label,
        "category": found.category,
        "help": found.help,
        "ports": dataclasses.asdict(found.ports),
        "schema": found.Config.model_json_schema(),
    }


def _document(request: Request) -> dict[str, Any]:
    """The body as a document. Errors: `BadRequest` when it is no object."""
    if not isinstance(request.data, dict):
        raise BadRequest("The body must be a JSON object: a pipeline.")
    return request.data


def _answer(found: Definition, status: int = 200) -> Response:
    headers = {"ETag": etag(found.version.number)}
    if status == 201:
        headers["Location"] = f"/api/pipelines/{found.pipeline.id}"
    return Response(definitions.represented(found), status=status, headers=headers)


def _report(report: validation.Report) -> dict[str, Any]:
    return {
        "valid": report.valid,
        "errors": [_finding(problem) for problem in report.errors],
        "warnings": [_finding(problem) for problem in report.warnings],
    }


def _finding(problem: Problem) -> dict[str, Any]:
    return {
        "node_id": problem.node_id,
        "field": problem.field,
        "message": problem.message,
        "line": problem.line,
        "column": problem.column,
    }


def _version(version: PipelineVersion) -> dict[str, Any]:
    return {
        "version": version.number,
        "comment": version.comment,
        "created_at": version.created_at,
        "created_by": version.created_by.get_username() if version.created_by else None,
    }
