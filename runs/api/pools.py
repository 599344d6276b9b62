"""Show, make, change and remove pools."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from brokoli_site.common.api import ApiView, StrictCharField, StrictIntegerField, StrictSerializer, read_body
from brokoli_site.common.errors import NotFound
from brokoli_site.common.openapi import problems
from pipelines.spec import LONGEST_NAME
from runs import pools

_EXAMPLE = {"name": "warehouse", "slots": 4, "executing": 4, "waiting": 2, "description": "Bears four queries at a time.", "declared": True}


class PoolSerializer(serializers.Serializer[Any]):
    """A pool and what goes on in it."""

    name = serializers.CharField(help_text="As nodes name it in `pool`; without one, a node's `conn_id` is its pool.")
    slots = serializers.IntegerField(help_text="Nodes of it that execute at the same time, of any runs.")
    executing = serializers.IntegerField(help_text="Nodes that hold a slot.")
    waiting = serializers.IntegerField(help_text="Nodes that wait for one.")
    description = serializers.CharField(allow_blank=True)
    declared = serializers.BooleanField(help_text="False: nobody made it, nodes just name it; it has the default number of slots.")


class PoolRequest(StrictSerializer):
    slots = StrictIntegerField(min_value=1, max_value=pools.MOST_SLOTS, help_text="Nodes of it that may execute at the same time.")
    description = StrictCharField(required=False, default="", allow_blank=True, max_length=500)


def _answer(description: str, *, many: bool = False) -> OpenApiResponse:
    return OpenApiResponse(PoolSerializer(many=many), description, [OpenApiExample("example", value=_EXAMPLE, response_only=True)])


class PoolsView(ApiView):
    """`GET /api/pools`"""

    required_permissions: ClassVar = {"GET": "pipelines.view"}

    @extend_schema(
        operation_id="list_pools",
        summary="List pools",
        description="Those that somebody made, and those that nodes execute in or wait for at this moment, by name.",
        tags=["pools"],
        responses={(200, "application/json"): _answer("The pools.", many=True)} | problems(),
    )
    def get(self, request: Request) -> Response:
        return Response(PoolSerializer(pools.in_use(), many=True).data)


class PoolView(ApiView):
    """`PUT` and `DELETE /api/pools/{name}`"""

    required_permissions: ClassVar = {"PUT": "pipelines.edit", "DELETE": "pipelines.edit"}

    @extend_schema(
        operation_id="put_pool",
        summary="Make or change a pool",
        description="Fewer slots than nodes executing stop none of them; no other starts until there is room.",
        tags=["pools"],
        request={"application/json": PoolRequest},
        responses={(200, "application/json"): _answer("The pool was changed."), (201, "application/json"): _answer("The pool was made.")}
        | problems(404, 413, 415),
    )
    def put(self, request: Request, name: str) -> Response:
        _check_name(name)
        body = read_body(request, PoolRequest)
        made = pools.keep(name, **body)
        (shown,) = pools.in_use(name)
        headers = {"Location": reverse("pool", args=[name])} if made else {}
        return Response(PoolSerializer(shown).data, status=201 if made else 200, headers=headers)

    @extend_schema(
        operation_id="delete_pool",
        summary="Remove a pool",
        description="Nodes that name it go on with the default number of slots.",
        tags=["pools"],
        responses={204: OpenApiResponse(description="The pool is gone.")} | problems(404),
    )
    def delete(self, request: Request, name: str) -> Response:
        _check_name(name)
        pools.remove(name)
        return Response(status=204)


def _check_name(name: str) -> None:
    """Errors: `NotFound` for what no node could name."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise NotFound(f"No pool can have this name: 1 to {LONGEST_NAME} characters that can be printed, without spaces at its ends.")
