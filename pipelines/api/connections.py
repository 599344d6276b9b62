"""The calls about connections. No answer holds a secret: of one that is set, only its name is told, or where it is kept."""

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictCharField, StrictIntegerField, StrictSerializer, one_of, read_body
from brokoli_site.common.openapi import problems
from brokoli_site.common.preconditions import ETAG, IF_MATCH, etag, seen_versions
from pipelines import connection_types, connections, used_by
from pipelines.models import Connection
from pipelines.named_rows import MOST_LISTED

# Fields of answers that may come back with a change.
_SERVERS = ("id", "has_password", "secret_extra", "problem", "version", "created_at", "updated_at")
_EXAMPLE = {
    "id": "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70",
    "conn_id": "warehouse",
    "type": "postgres",
    "description": "",
    "host": "db.example.org",
    "port": 5432,
    "schema": "sales",
    "login": "loader",
    "has_password": True,
    "password_ref": "env://BROKOLI_CREDENTIAL_WAREHOUSE",
    "extra": {"sslmode": "verify-full"},
    "secret_extra": [],
    "problem": None,
    "version": 1,
    "created_at": "2026-01-05T06:00:00Z",
    "updated_at": "2026-01-05T06:00:00Z",
}


class ConnectionSerializer(serializers.Serializer[Any]):
    """A connection, without its secrets."""

    id = serializers.UUIDField()
    conn_id = serializers.CharField(help_text="As nodes name it.")
    type = serializers.ChoiceField(list(connection_types.TYPES))
    description = serializers.CharField(allow_blank=True)
    host = serializers.CharField(allow_blank=True)
    port = serializers.IntegerField(allow_null=True)
    schema = serializers.CharField(allow_blank=True, help_text="Database, bucket or base path, as its type says.")
    login = serializers.CharField(allow_blank=True)
    has_password = serializers.BooleanField()
    password_ref = serializers.CharField(allow_null=True, help_text="Where the password is kept, when that is outside.")
    extra = serializers.DictField(help_text="Options that are no secrets.")
    secret_extra = serializers.ListField(child=serializers.CharField(), help_text="Names of the secret options that are set.")
    problem = serializers.CharField(allow_null=True, help_text="Why its secrets cannot be read on this server.")
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


TypeNameField = one_of(connection_types.TYPES)


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": connections.LONGEST_NAME, "pattern": connections.NAME})
class NameField(StrictCharField):
    """What a connection may be called."""


@extend_schema_field({"type": "string", "pattern": r"^[^\u0000-\u001f\u007f]+$"})
class LineField(StrictCharField):
    """A text on one line. (That it may be empty, `allow_blank` adds.)"""


class ConnectionFields(StrictSerializer):
    """What may be given of a connection. Secrets are only ever given: `password`, and options that the type says are secret, or does not know."""

    type = TypeNameField(max_length=40, required=False)
    description = StrictCharField(required=False, allow_blank=True, max_length=2000)
    host = LineField(required=False, allow_blank=True, max_length=500)
    port = StrictIntegerField(required=False, allow_null=True, min_value=1, max_value=65535)
    schema = LineField(required=False, allow_blank=True, max_length=500)
    login = LineField(required=False, allow_blank=True, max_length=200)
    password = StrictCharField(
        required=False,
        allow_null=True,
        allow_blank=True,
        trim_whitespace=False,
        write_only=True,
        help_text="Or where it is kept: env://…, file://…. Left out or empty, the stored one stays; null takes it away.",
    )
    password_ref = StrictCharField(required=False, allow_null=True, allow_blank=True, max_length=600, help_text="The same, for a place alone.")
    extra = serializers.JSONField(required=False, allow_null=True, help_text="An object, or the text of one. An option that is null is taken away.")


class NewConnection(ConnectionFields):
    conn_id = NameField(max_length=connections.LONGEST_NAME, trim_whitespace=False)
    type = TypeNameField(max_length=40)


class ChangedConnection(ConnectionFields):
    conn_id = StrictCharField(required=False, help_text="That of the address: a connection keeps its name.")


class DraftConnection(ConnectionFields):
    conn_id = StrictCharField(required=False, allow_blank=True, help_text="Not looked at.")
    type = TypeNameField(max_length=40)


class ListQuery(StrictSerializer):
    q = serializers.CharField(required=False, allow_blank=True, max_length=200, help_text="Part of its name, description or host.")
    type = serializers.ChoiceField(list(connection_types.TYPES), required=False)
    after = serializers.CharField(required=False, max_length=200, help_text="Only names after this one.")
    limit = serializers.IntegerField(required=False, min_value=1, max_value=MOST_LISTED)


class DeleteQuery(StrictSerializer):
    force = serializers.BooleanField(required=False, default=False, help_text="Also while pipelines use it.")


class UserSerializer(serializers.Serializer[Any]):
    """A pipeline whose current version names it."""

    id = serializers.UUIDField()
    pipeline_id = serializers.CharField()
    name = serializers.CharField()
    enabled = serializers.BooleanField()


class OutcomeSerializer(serializers.Serializer[Any]):
    """What became of a test."""

    ok = serializers.BooleanField()
    message = serializers.CharField()
    latency_ms = serializers.IntegerField()
    server = serializers.CharField(allow_null=True, help_text="What the server says of itself.")


class TypeFieldSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # DRF takes declared fields off the class
    description = serializers.CharField(allow_blank=True)
    kind = serializers.CharField()
    required = serializers.BooleanField()  # type: ignore[assignment]
    secret = serializers.BooleanField()
    default = serializers.JSONField(allow_null=True)
    choices = serializers.ListField(child=serializers.CharField(allow_blank=True))
    in_ = serializers.CharField(help_text="`connection`, or `extra`.")

    def get_fields(self) -> dict[str, Any]:
        return {name.rstrip("_"): field for name, field in super().get_fields().items()}


class TypeSerializer(serializers.Serializer[Any]):
    """A kind of connection, and the JSON Schema of one."""

    type = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    description = serializers.CharField()
    default_port = serializers.IntegerField(allow_null=True)
    fields_ = TypeFieldSerializer(many=True)
    schema = serializers.DictField()

    def get_fields(self) -> dict[str, Any]:
        return {name.rstrip("_"): field for name, field in super().get_fields().items()}


def _shown(description: str, *, many: bool = False) -> OpenApiResponse:
    return OpenApiResponse(ConnectionSerializer(many=many), description, [OpenApiExample("example", value=_EXAMPLE, response_only=True)])


class ConnectionTypesView(ApiView):
    """`GET /api/connection-types`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "connections.view"}

    @extend_schema(operation_id="list_connection_types", tags=["connections"], responses={200: TypeSerializer(many=True), **problems()})
    def get(self, request: Request) -> Response:
        """What kinds of connections there are, and the fields of each."""
        return Response([connection_types.described(found) for found in connection_types.TYPES.values()])


class ConnectionsView(ApiView):
    """`GET` and `POST /api/connections`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "connections.view", "POST": "connections.create"}
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {"GET": ListQuery}

    @extend_schema(
        operation_id="list_connections",
        tags=["connections"],
        parameters=[ListQuery],
        responses={(200, "application/json"): _shown("The connections.", many=True)} | problems(),
    )
    def get(self, request: Request) -> Response:
        """The connections by name, 1,000 at most; `after` goes on from there."""
        query = self.query
        limit = query.get("limit", MOST_LISTED)
        rows = connections.listing(q=query.get("q", ""), kind=query.get("type", ""), after=query.get("after", ""), limit=limit)
        return Response([connections.represented(row) for row in rows])

    @extend_schema(
        operation_id="create_connection",
        tags=["connections"],
        request={"application/json": NewConnection},
        parameters=[ETAG],
        responses={(201, "application/json"): _shown("The connection was made.")} | problems(409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        """Make a connection."""
        body = read_body(request, NewConnection, ignored=_SERVERS)
        return _answer(connections.create(body.pop("conn_id"), body, user=request.user), status=201)


class ConnectionView(ApiView):
    """`GET`, `PUT`, `PATCH` and `DELETE /api/connections/{conn_id}`"""

    required_permissions: ClassVar[Mapping[str, str]] = {
        "GET": "connections.view",
        "PUT": "connections.edit",
        "PATCH": "connections.edit",
        "DELETE": "connections.delete",
    }
    query_serializers: ClassVar[Mapping[str, type[StrictSerializer]]] = {"DELETE": DeleteQuery}

    @extend_schema(
        operation_id="get_connection",
        tags=["connections"],
        parameters=[ETAG],
        responses={(200, "application/json"): _shown("The connection.")} | problems(404),
    )
    def get(self, request: Request, conn_id: str) -> Response:
        """One connection."""
        return _answer(connections.find(conn_id))

    @extend_schema(
        operation_id="replace_connection",
        tags=["connections"],
        request={"application/json": ChangedConnection},
        parameters=[IF_MATCH, ETAG],
        responses={(200, "application/json"): _shown("The connection was changed.")} | problems(404, 409, 412, 413, 415, 422),
    )
    def put(self, request: Request, conn_id: str) -> Response:
        """Replace a connection. Secrets that are not given stay, unless it leads to another server then: 422."""
        return self._change(request, conn_id, whole=True)

    @extend_schema(
        operation_id="patch_connection",
        tags=["connections"],
        request={"application/json": ChangedConnection},
        parameters=[IF_MATCH, ETAG],
        responses={(200, "application/json"): _shown("The connection was changed.")} | problems(404, 409, 412, 413, 415, 422),
    )
    def patch(self, request: Request, conn_id: str) -> Response:
        """Change some fields, and some options of `extra`. Secrets that are not given stay, unless it leads to another server then: 422."""
        return self._change(request, conn_id, whole=False)

    def _change(self, request: Request, conn_id: str, *, whole: bool) -> Response:
        body = read_body(request, ChangedConnection, ignored=_SERVERS)
        connections.refuse_renaming(conn_id, body.pop("conn_id", conn_id))
        return _answer(connections.change(conn_id, body, whole=whole, seen=seen_versions(request), user=request.user))

    @extend_schema(
        operation_id="delete_connection",
        tags=["connections"],
        parameters=[IF_MATCH, DeleteQuery],
        responses={204: OpenApiResponse(description="The connection is gone.")} | problems(404, 409, 412),
    )
    def delete(self, request: Request, conn_id: str) -> Response:
        """Remove a connection; 409 names the pipelines that use it."""
        connections.delete(conn_id, seen=seen_versions(request), force=self.query["force"])
        return Response(status=204)


class ConnectionUsersView(ApiView):
    """`GET /api/connections/{conn_id}/used-by`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"GET": "connections.view"}

    @extend_schema(operation_id="list_connection_users", tags=["connections"], responses={200: UserSerializer(many=True), **problems(404)})
    def get(self, request: Request, conn_id: str) -> Response:
        """The pipelines whose current version names it."""
        return Response(used_by.users_of("connection", connections.find(conn_id).conn_id))


class ConnectionTestView(ApiView):
    """`POST /api/connections/{conn_id}/test`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"POST": "connections.test"}

    @extend_schema(operation_id="test_connection", tags=["connections"], request=None, responses={200: OutcomeSerializer, **problems(404, 413, 415)})
    def post(self, request: Request, conn_id: str) -> Response:
        """Connect for real, within ten seconds. A server that cannot be reached or says no is an answer, `ok: false`."""
        row: Connection = connections.find(conn_id)
        read_body(request, StrictSerializer)
        return Response(connections.tested(row))


class DraftTestView(ApiView):
    """`POST /api/connections/test`"""

    required_permissions: ClassVar[Mapping[str, str]] = {"POST": "connections.test"}

    @extend_schema(
        operation_id="test_draft_connection",
        tags=["connections"],
        request={"application/json": DraftConnection},
        responses={200: OutcomeSerializer, **problems(413, 415)},
    )
    def post(self, request: Request) -> Response:
        """The same for one that is not saved, with the secrets that are given here alone. Needs the right to make or to change one, too."""
        if not any(request.user.has_perm(f"connections.{right}") for right in ("create", "edit")):
            self.permission_denied(request)
        body = read_body(request, DraftConnection, ignored=_SERVERS)
        return Response(connections.draft_tested(connections.draft(body, user=request.user)))


def _answer(row: Connection, status: int = 200) -> Response:
    headers = {"ETag": etag(row.version)} | ({"Location": f"/api/connections/{row.conn_id}"} if status == 201 else {})
    return Response(connections.represented(row), status=status, headers=headers)
