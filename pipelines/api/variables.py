"""The calls about variables. Of a secret one, no answer holds the value: only where it is kept, when that is outside."""

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictCharField, StrictSerializer, one_of, read_body
from brokoli_site.common.openapi import problems
from brokoli_site.common.preconditions import ETAG, IF_MATCH, etag, seen_versions
from pipelines import used_by, variables
from pipelines.api.connections import DeleteQuery, UserSerializer
from pipelines.models import Variable
from pipelines.named_rows import MOST_LISTED
from pipelines.vault import VARIABLE_TYPES

# Fields of answers that may come back with a change.
_SERVERS = ("id", "has_value", "problem", "version", "created_at", "updated_at")
_EXAMPLE = {
    "id": "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70",
    "key": "region",
    "type": "string",
    "value": "eu-central-1",
    "has_value": True,
    "value_ref": None,
    "problem": None,
    "description": "",
    "version": 1,
    "created_at": "2026-01-05T06:00:00Z",
    "updated_at": "2026-01-05T06:00:00Z",
}


class VariableSerializer(serializers.Serializer[Any]):
    """A variable; of a secret one, not its value."""

    id = serializers.UUIDField()
    key = serializers.CharField(help_text="As configs name it: `${var.key}`.")
    type = serializers.ChoiceField(list(VARIABLE_TYPES))
    value = serializers.JSONField(required=False, allow_null=True, help_text="Not there for a secret.")
    has_value = serializers.BooleanField()
    value_ref = serializers.CharField(allow_null=True, help_text="Where a secret is kept, when that is outside.")
    problem = serializers.CharField(allow_null=True, help_text="Why the secret cannot be read on this server.")
    description = serializers.CharField(allow_blank=True)
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


TypeNameField = one_of(VARIABLE_TYPES)


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": variables.LONGEST_KEY, "pattern": variables.KEY})
class KeyField(StrictCharField):
    """What a variable may be called."""


class VariableFields(StrictSerializer):
    type = TypeNameField(required=False, max_length=10)
    value = serializers.JSONField(
        required=False,
        allow_null=True,
        help_text="As its type says. A secret's is only ever given, or where it is kept: env://…, file://…. Left out, the stored one stays.",
    )
    value_ref = StrictCharField(required=False, allow_null=True, allow_blank=True, max_length=600, help_text="Where a secret is kept.")
    description = StrictCharField(required=False, allow_blank=True, max_length=2000)


class NewVariable(VariableFields):
    key = KeyField(max_length=variables.LONGEST_KEY, trim_whitespace=False)


class ChangedVariable(VariableFields):
    key = StrictCharField(required=False, help_text="That of the address: a variable keeps its key.")


class ListQuery(StrictSerializer):
    q = serializers.CharField(required=False, allow_blank=True, max_length=200, help_text="Part of its key or description.")
    type = serializers.ChoiceField(list(VARIABLE_TYPES), required=False)
    after = serializers.CharField(required=False, max_length=200, help_text="Only keys after this one.")
    limit = serializers.IntegerField(required=False, min_value=1, max_value=MOST_LISTED)


def _shown(description: str, *, many: bool = False) -> OpenApiResponse:
    return OpenApiResponse(VariableSerializer(many=many), description, [OpenApiExample("example", value=_EXAMPLE, response_only=True)])


class VariablesView(ApiView):
    """`GET` and `POST /api/variables`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "variables.view", "POST": "variables.create"}
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {"GET": ListQuery}

    @extend_schema(
        operation_id="list_variables",
        tags=["variables"],
        parameters=[ListQuery],
        responses={(200, "application/json"): _shown("The variables.", many=True)} | problems(),
    )
    def get(self, request: Request) -> Response:
        """The variables by key, 1,000 at most; `after` goes on from there."""
        query = self.query
        limit = query.get("limit", MOST_LISTED)
        rows = variables.listing(q=query.get("q", ""), kind=query.get("type", ""), after=query.get("after", ""), limit=limit)
        return Response([variables.represented(row) for row in rows])

    @extend_schema(
        operation_id="create_variable",
        tags=["variables"],
        request={"application/json": NewVariable},
        parameters=[ETAG],
        responses={(201, "application/json"): _shown("The variable was made.")} | problems(409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """Make a variable."""
        body = read_body(request, NewVariable, ignored=_SERVERS)
        return _answer(variables.create(body.pop("key"), body, user=request.user), status=201)


class VariableView(ApiView):
    """`GET`, `PUT`, `PATCH` and `DELETE /api/variables/{key}`"""

    required_permissions: ClassVar[Mapping[str, str]] = {
        "GET": "variables.view",
        "PUT": "variables.edit",
        "PATCH": "variables.edit",
        "DELETE": "variables.delete",
    }
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {"DELETE": DeleteQuery}

    @extend_schema(
        operation_id="get_variable",
        tags=["variables"],
        parameters=[ETAG],
        responses={(200, "application/json"): _shown("The variable.")} | problems(404),
    )
    def get(self, request: Request, key: str) -> Response:
        """One variable."""
        return _answer(variables.find(key))

    @extend_schema(
        operation_id="replace_variable",
        tags=["variables"],
        request={"application/json": ChangedVariable},
        parameters=[IF_MATCH, ETAG],
        responses={(200, "application/json"): _shown("The variable was changed.")} | problems(404, 409, 412, 413, 415),
    )
    def put(self, request: Request, key: str) -> Response:
        """Replace a variable. A secret that is not given stays."""
        return self._change(request, key, whole=True)

    @extend_schema(
        operation_id="patch_variable",
        tags=["variables"],
        request={"application/json": ChangedVariable},
        parameters=[IF_MATCH, ETAG],
        responses={(200, "application/json"): _shown("The variable was changed.")} | problems(404, 409, 412, 413, 415),
    )
    def patch(self, request: Request, key: str) -> Response:
        """Change some fields. Another type needs another value."""
        return self._change(request, key, whole=False)

    def _change(self, request: Request, key: str, *, whole: bool) -> Response:
        body = read_body(request, ChangedVariable, ignored=_SERVERS)
        variables.refuse_renaming(key, body.pop("key", key))
        return _answer(variables.change(key, body, whole=whole, seen=seen_versions(request), user=request.user))

    @extend_schema(
        operation_id="delete_variable",
        tags=["variables"],
        parameters=[IF_MATCH, DeleteQuery],
        responses={204: OpenApiResponse(description="The variable is gone.")} | problems(404, 409, 412),
    )
    def delete(self, request: Request, key: str) -> Response:
        """Remove a variable; 409 names the pipelines that use it."""
        variables.delete(key, seen=seen_versions(request), force=self.query["force"])
        return Response(status=204)


class VariableUsersView(ApiView):
    """`GET /api/variables/{key}/used-by`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "variables.view"}

    @extend_schema(operation_id="list_variable_users", tags=["variables"], responses={200: UserSerializer(many=True), **problems(404)})
    def get(self, request: Request, key: str) -> Response:
        """The pipelines whose current version names it."""
        return Response(used_by.users_of("variable", variables.find(key).key))


def _answer(row: Variable, status: int = 200) -> Response:
    headers = {"ETag": etag(row.version)} | ({"Location": f"/api/variables/{row.key}"} if status == 201 else {})
    return Response(variables.represented(row), status=status, headers=headers)
