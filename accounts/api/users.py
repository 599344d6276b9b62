"""`/api/users` and `/api/roles`: who may log in, and who may do what."""

from typing import Any, ClassVar

from django.contrib.auth.models import Group, User
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import people
from accounts.api import documentation as docs
from accounts.api import serializers
from accounts.api.login import refuse_named_tokens
from accounts.api.serializers import shown_user
from accounts.roles import RIGHTS, ROLES
from brokoli_site.common.api import ApiView, read_body
from brokoli_site.common.errors import NotFound
from brokoli_site.common.openapi import problems
from brokoli_site.common.pagination import PageQuery, page

_MOST_LISTED = 1000
_LISTING = PolymorphicProxySerializer(
    component_name="AccountListing",
    serializers=[serializers.AccountSerializer(many=True), serializers.AccountPageSerializer],
    resource_type_field_name=None,
    many=False,
)


class UsersView(ApiView):
    """`/api/users`"""

    required_permissions: ClassVar = {"GET": "settings.manage_users", "POST": "settings.manage_users"}
    query_serializers: ClassVar = {"GET": PageQuery}

    @extend_schema(
        operation_id="list_users",
        summary="Users",
        description="An array by name of at most 1,000; with `page` or `per_page`, a page of them.",
        tags=["accounts"],
        parameters=[PageQuery],
        responses=docs.answered(200, _LISTING, "Users.", [docs.USER]),
    )
    def get(self, request: Request) -> Response:
        rows = User.objects.order_by("username").prefetch_related("groups")
        if self.query:
            return Response(page(rows, self.query, shown_user))
        return Response([shown_user(user) for user in rows[:_MOST_LISTED]])

    @extend_schema(
        operation_id="create_user",
        summary="Make a user",
        description="With any of the roles whose rights you have yourself. Without a password they cannot log in.",
        tags=["accounts"],
        request={docs.JSON: serializers.UserBody},
        examples=docs.sent({"username": "ada", "password": "correct horse battery", "roles": ["editor"]}),
        responses=docs.answered(201, serializers.AccountSerializer, "The user.", docs.USER, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        body = read_body(request, serializers.UserBody)
        return Response(shown_user(people.create(request.user, **body)), status=201)


class UserView(ApiView):
    """`/api/users/{id}`"""

    required_permissions: ClassVar = dict.fromkeys(("GET", "PATCH", "DELETE"), "settings.manage_users")

    @extend_schema(
        operation_id="get_user",
        summary="A user",
        description="With their roles.",
        tags=["accounts"],
        responses=docs.answered(200, serializers.AccountSerializer, "The user.", docs.USER, 404),
    )
    def get(self, request: Request, user_id: str) -> Response:
        return Response(shown_user(_found(user_id)))

    @extend_schema(
        operation_id="change_user",
        summary="Change a user",
        description="Only one who has no rights that you do not have. The last administrator who may log in stays one. Your own password is changed "
        "at `/api/auth/password`, with the present one. A token that was made for a program changes nothing of its own user.",
        tags=["accounts"],
        request={docs.JSON: serializers.UserChanges},
        examples=docs.sent({"roles": ["viewer"]}),
        responses=docs.answered(200, serializers.AccountSerializer, "The user.", docs.USER, 404, 409, 413, 415),
    )
    def patch(self, request: Request, user_id: str) -> Response:
        user = _changeable(request, user_id)
        changes = read_body(request, serializers.UserChanges)
        people.change(request.user, user, changes)
        return Response(shown_user(_found(user_id)))

    @extend_schema(
        operation_id="delete_user",
        summary="Remove a user",
        description="Their sessions and tokens end at once; what they made stays. To keep the name in the history, set `active` to `false` instead.",
        tags=["accounts"],
        responses={204: None} | problems(404, 409),
    )
    def delete(self, request: Request, user_id: str) -> Response:
        people.remove(request.user, _changeable(request, user_id))
        return Response(status=204)


class RolesView(ApiView):
    """`GET /api/roles`"""

    required_permissions: ClassVar = {"GET": "settings.view"}

    @extend_schema(
        operation_id="list_roles",
        summary="Roles and their rights",
        description="The four that Brokoli keeps, from the least to the greatest, then those that were made here.",
        tags=["accounts"],
        responses=docs.answered(
            200,
            serializers.RoleSerializer(many=True),
            "Roles.",
            [{"name": "operator", "custom": False, "permissions": ["pipelines.run", "pipelines.view"]}],
        ),
    )
    def get(self, request: Request) -> Response:
        places = {name: place for place, name in enumerate(ROLES)}
        groups = Group.objects.prefetch_related("permissions__content_type").order_by("name")[:_MOST_LISTED]
        ordered = sorted(groups, key=lambda group: (places.get(group.name, len(places)), group.name))
        return Response([_shown(group) for group in ordered])


def _shown(group: Group) -> dict[str, Any]:
    held = {f"{permission.content_type.app_label}.{permission.codename}" for permission in group.permissions.all()}
    return {"name": group.name, "custom": group.name not in ROLES, "permissions": [right for right in RIGHTS if right in held]}


def _changeable(request: Request, user_id: str) -> User:
    """Errors: `NotFound`; `NotWithThisLogin` for the user whose program's token this came with: who robs one must not keep the person out."""
    user = _found(user_id)
    if user.pk == request.user.pk:
        refuse_named_tokens(request)
    return user


def _found(user_id: str) -> User:
    """Errors: `NotFound`."""
    user = None
    if user_id.isascii() and user_id.isdigit() and len(user_id) <= 9:  # ids are the database's integers
        user = User.objects.prefetch_related("groups").filter(pk=int(user_id)).first()
    if user is None:
        raise NotFound("There is no such user.")
    return user
