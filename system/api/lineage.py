"""`GET /api/lineage` and `GET /api/lineage/columns`."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictSerializer
from brokoli_site.common.openapi import problems
from brokoli_site.common.problems import QueryError
from system import column_lineage, lineage

_JSON = "application/json"
_PIPELINE = "0198c5f0-0000-7000-8000-000000000001"
_RUN = "0198c5f0-0000-7000-8000-000000000002"
_TYPES = ("file", "table", "api", "processing", "connection", "variable")
_ASSET = {"sub_type": "", "pipeline_id": None, "pipeline": None, "understood": True}
_EXAMPLE = {
    "nodes": [
        {"id": "file:orders.csv", "type": "file", "name": "orders.csv", "place": "", **_ASSET},
        {
            "id": f"proc:{_PIPELINE}:clean",
            "type": "processing",
            "name": "Clean",
            "sub_type": "transform",
            "pipeline_id": _PIPELINE,
            "pipeline": "Orders",
            "place": "",
            "understood": True,
        },
        {"id": "table://warehouse/orders", "type": "table", "name": "orders", "place": "warehouse", **_ASSET},
    ],
    "edges": [
        {"from": "file:orders.csv", "to": f"proc:{_PIPELINE}:clean", "pipeline_id": _PIPELINE, "pipeline": "Orders"},
        {"from": f"proc:{_PIPELINE}:clean", "to": "table://warehouse/orders", "pipeline_id": _PIPELINE, "pipeline": "Orders"},
    ],
    "pending_pipelines": 0,
}
_COLUMNS_EXAMPLE = {
    "pipeline_id": _PIPELINE,
    "pipeline": "Orders",
    "run_id": _RUN,
    "pipeline_version": 3,
    "finished_at": "2024-01-09T12:00:05Z",
    "columns": [
        {
            "node_id": "load",
            "assets": ["table://warehouse/orders"],
            "column": "total",
            "from": [{"node_id": "orders", "assets": ["file:orders.csv"], "column": "amount", "transformation": "aggregate"}],
            "indirect": [],
        }
    ],
    "rows": [
        {
            "node_id": "load",
            "assets": ["table://warehouse/orders"],
            "from": [{"node_id": "orders", "assets": ["file:orders.csv"], "column": "status"}],
        }
    ],
    "steps": [{"from": {"node_id": "orders", "column": "amount"}, "to": {"node_id": "clean", "column": "total"}, "transformation": "aggregate"}],
    "unknown": [],
    "truncated": False,
    "message": "",
}


class LineageGraphNodeSerializer(serializers.Serializer[Any]):
    """An asset, a processing node of one pipeline, or a connection or variable that pipelines use."""

    id = serializers.CharField()
    type = serializers.ChoiceField(_TYPES)
    name = serializers.CharField()
    sub_type = serializers.CharField(allow_blank=True, help_text="Of a processing node: the type of the pipeline's node.")
    pipeline_id = serializers.CharField(allow_null=True, help_text="Null for what several pipelines can share.")
    pipeline = serializers.CharField(allow_null=True, help_text="Its name.")
    place = serializers.CharField(allow_blank=True, help_text="Of an asset: the connection or the server. Empty: the data folders, or the web.")
    understood = serializers.BooleanField(help_text="False: the definition does not tell which file, table or address it is.")


class LineageGraphEdgeSerializer(serializers.Serializer[Any]):
    """What flows in a pipeline."""

    to = serializers.CharField()
    pipeline_id = serializers.CharField()
    pipeline = serializers.CharField()

    def get_fields(self) -> dict[str, Any]:
        return {"from": serializers.CharField(), **super().get_fields()}


class LineageGraphSerializer(serializers.Serializer[Any]):
    nodes = LineageGraphNodeSerializer(many=True)
    edges = LineageGraphEdgeSerializer(many=True)
    pending_pipelines = serializers.IntegerField(
        help_text="Pipelines that the workers have not come to yet: what they do is not in the answer, or as it was."
    )


class LineageQuery(StrictSerializer):
    asset = serializers.CharField(required=False, max_length=1000, help_text="Id of a node: show only what is around it.")
    depth = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=lineage.MOST_DEPTH,
        help_text=f"Edges away from `asset`, upstream and downstream. {lineage.DEFAULT_DEPTH} when left out.",
    )


class ColumnsQuery(StrictSerializer):
    pipeline_id = serializers.CharField(max_length=200, help_text="Id or slug.")


class LineageView(ApiView):
    """`GET /api/lineage`"""

    required_permissions: ClassVar = {"GET": "pipelines.view"}
    query_serializers: ClassVar = {"GET": LineageQuery}

    @extend_schema(
        operation_id="get_lineage",
        summary="Show the lineage",
        description="The files, tables and APIs that all pipelines read and write, what is done between them, and the connections and variables "
        "that it takes. What pipelines share is one node. With `asset`, what is up to `depth` edges upstream or downstream of it.",
        tags=["lineage"],
        parameters=[LineageQuery],
        responses={(200, _JSON): OpenApiResponse(LineageGraphSerializer, "The graph.", [OpenApiExample("graph", value=_EXAMPLE, response_only=True)])}
        | problems(404),
    )
    def get(self, request: Request) -> Response:
        asset = self.query.get("asset")
        if asset is None and "depth" in self.query:
            raise QueryError({"depth": ["It goes with `asset`: the node that the depth is counted from."]})
        found = lineage.whole() if asset is None else lineage.around(asset, self.query.get("depth", lineage.DEFAULT_DEPTH))
        return Response({"nodes": list(found.nodes.values()), "edges": found.edges, "pending_pipelines": lineage.pending()})


class ColumnsView(ApiView):
    """`GET /api/lineage/columns`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": ColumnsQuery}

    @extend_schema(
        operation_id="get_column_lineage",
        summary="Show the column lineage of a pipeline",
        description="Of its last successful run: from which columns of what it reads each column of what it writes comes (`columns`), which columns "
        "decide about its rows (`rows`), and each step on the way (`steps`). `unknown` are nodes on the way of which that is not known. "
        "Without such a run everything is empty, and `message` says so.",
        tags=["lineage"],
        parameters=[ColumnsQuery],
        responses={
            (200, _JSON): OpenApiResponse(
                {"type": "object", "additionalProperties": True},
                "The lineage.",
                [OpenApiExample("columns", value=_COLUMNS_EXAMPLE, response_only=True)],
            )
        }
        | problems(404),
    )
    def get(self, request: Request) -> Response:
        return Response(column_lineage.of_pipeline(self.query["pipeline_id"]))
