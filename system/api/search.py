"""`GET /api/search`: find anything by a piece of its name."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictSerializer
from brokoli_site.common.openapi import problems
from system import search

_SENTENCE = f"A whole number from 1 to {search.MOST_RESULTS}; a greater one is taken for {search.MOST_RESULTS}."
_PIPELINE_ID = "019a9f2b-1c77-7e10-8a55-0d9b6f3e2a41"
_EXAMPLE = {
    "type": "pipeline",
    "id": _PIPELINE_ID,
    "name": "Users",
    "description": "Users of the shop, each morning.",
    "meta": "0 6 * * *",
    "pipeline_id": _PIPELINE_ID,
    "pipeline": "Users",
}


class SearchQuery(StrictSerializer):
    q = serializers.CharField(
        max_length=search.LONGEST_QUERY,
        help_text="Part of a name, an id or a description, in any case; `%`, `_` and `*` stand for themselves. Of a run: the first four digits of "
        "its id or more.",
    )
    limit = serializers.IntegerField(
        min_value=1,
        required=False,
        default=search.DEFAULT_RESULTS,
        help_text=f"The most results: 1 to {search.MOST_RESULTS}, and a greater number means {search.MOST_RESULTS}.",
        error_messages=dict.fromkeys(("invalid", "min_value", "max_string_length"), _SENTENCE),
    )


class ResultSerializer(serializers.Serializer[Any]):
    """Something that was found."""

    type = serializers.ChoiceField(choices=search.KINDS)
    id = serializers.CharField(help_text="Of a variable its key; of a node its id in the pipeline.")
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    meta = serializers.CharField(
        allow_blank=True, help_text="A pipeline's schedule; the type of a connection, a variable or a node; the status of a run."
    )
    pipeline_id = serializers.UUIDField(allow_null=True, help_text="Of a pipeline, a node or a run.")
    pipeline = serializers.CharField(allow_null=True, help_text="The name of that pipeline.")


class SearchView(ApiView):
    """`GET /api/search`"""

    required_permissions: ClassVar = {"GET": "pipelines.view"}  # of the other kinds is shown what the user may see
    query_serializers: ClassVar = {"GET": SearchQuery}

    @extend_schema(
        operation_id="search",
        summary="Search",
        description="Pipelines, nodes of their current versions, connections, variables and runs, as far as the user may see each: first what is "
        "called exactly so, then what begins so, then what contains it. Values and secrets are not searched.",
        tags=["system"],
        parameters=[SearchQuery],
        responses={
            (200, "application/json"): OpenApiResponse(
                ResultSerializer(many=True), "What was found.", [OpenApiExample("example", value=_EXAMPLE, response_only=True)]
            )
        }
        | problems(),
    )
    def get(self, request: Request) -> Response:
        kinds = [kind for kind, right in search.RIGHTS.items() if request.user.has_perm(right)]
        return Response(search.search(self.query["q"], min(self.query["limit"], search.MOST_RESULTS), kinds))
