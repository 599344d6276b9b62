"""`/api/auth`: logging in and out, who one is, and the first user of all."""

from datetime import timedelta
from typing import Any, ClassVar, cast

from django.conf import settings
from django.contrib.auth import authenticate, logout
from django.contrib.auth.models import User, update_last_login
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import held, people, tokens
from accounts.api import documentation as docs
from accounts.api import serializers
from accounts.api.serializers import shown_user
from accounts.models import ApiToken
from brokoli_site.common import audit
from brokoli_site.common.api import ApiView, read_body
from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.local_mode import is_local_administrator
from brokoli_site.common.openapi import problems
from brokoli_site.common.time import iso


class NotWithThisLogin(BrokoliError):
    """A token that was made for a program cannot do this: log in with name and password."""

    status, code = 403, "not_with_this_login"


class LoginView(ApiView):
    """`POST /api/auth/login`"""

    # Whoever logs in has nothing to show yet; and what they show beside the password does not matter.
    authentication_classes = ()
    permission_classes = (AllowAny,)
    required_permissions: ClassVar = {"POST": ""}

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Brokoli"'  # not Basic: a browser would ask for a password in a window of its own

    @extend_schema(
        operation_id="login",
        summary="Log in",
        description="A token for `Authorization: Bearer`, with all rights of the user. Whoever guesses is locked out for a while: 429.",
        tags=["accounts"],
        auth=[],
        request={docs.JSON: serializers.LoginBody},
        examples=docs.sent({"username": "ada", "password": "correct horse battery"}),
        responses=docs.answered(200, serializers.LoginSerializer, "Logged in.", docs.LOGIN, 413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        body = read_body(request, serializers.LoginBody)
        user = authenticate(request=request._request, username=body["username"], password=body["password"])
        if not isinstance(user, User):
            raise exceptions.AuthenticationFailed("Name or password is wrong.")
        update_last_login(User, user)
        return _logged_in(user)


class LogoutView(ApiView):
    """`POST /api/auth/logout`"""

    required_permissions: ClassVar = {"POST": ""}

    @extend_schema(
        operation_id="logout",
        summary="Log out",
        description="Ends the token or the session that this request came with.",
        tags=["accounts"],
        request=None,
        responses={204: None} | problems(),
    )
    def post(self, request: Request) -> Response:
        if isinstance(request.auth, ApiToken):
            people.end_token(request.auth, "logout")
        elif way_in(request) == "session":
            audit.note("auth.logout", "user", request.user.pk, request.user.get_username(), by=request.user)
            logout(request._request)
        return Response(status=204)


class MeView(ApiView):
    """`GET /api/auth/me`"""

    required_permissions: ClassVar = {"GET": ""}

    @extend_schema(
        operation_id="me",
        summary="Who this request comes from",
        description="The user, and how they logged in.",
        tags=["accounts"],
        responses=docs.answered(200, serializers.MeSerializer, "The user.", {**docs.USER, "via": "token"}),
    )
    def get(self, request: Request) -> Response:
        return Response(shown_user(request.user) | {"via": way_in(request)})


class PermissionsView(ApiView):
    """`GET /api/auth/me/permissions`"""

    required_permissions: ClassVar = {"GET": ""}

    @extend_schema(
        operation_id="my_permissions",
        summary="What this request may do",
        description="The rights of the user, narrowed to the scopes of the token.",
        tags=["accounts"],
        responses=docs.answered(200, serializers.PermissionsSerializer, "Rights.", {"role": "viewer", "permissions": ["runs.view"]}),
    )
    def get(self, request: Request) -> Response:
        role = shown_user(request.user)["role"]
        return Response({"role": role, "permissions": held.rights_of(request.user)})


class PasswordView(ApiView):
    """`POST /api/auth/password`"""

    required_permissions: ClassVar = {"POST": ""}

    @extend_schema(
        operation_id="change_password",
        summary="Change your own password",
        description="Ends all your sessions and tokens, this one too: log in again.",
        tags=["accounts"],
        request={docs.JSON: serializers.PasswordBody},
        examples=docs.sent({"current_password": "correct horse battery", "new_password": "staple correct horse"}),
        responses={204: None} | problems(413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        refuse_named_tokens(request)
        body = read_body(request, serializers.PasswordBody)
        if is_local_administrator(request.user):
            raise NotWithThisLogin("There is no user yet: `POST /api/auth/setup` makes the first.")
        people.change_own_password(request._request, _row(request), body["current_password"], body["new_password"])
        return Response(status=204)


class SetupView(ApiView):
    """`/api/auth/setup`"""

    required_permissions: ClassVar = {"GET": "", "POST": "settings.manage_users"}

    def get_permissions(self) -> Any:
        return [AllowAny()] if self.request.method in ("GET", "HEAD") else super().get_permissions()

    @extend_schema(
        operation_id="setup_needed",
        summary="Whether the first user is still to be made",
        description="Anybody may ask.",
        tags=["accounts"],
        auth=[],
        responses=docs.answered(200, serializers.SetupSerializer, "Whether it is.", {"needed": True}),
    )
    def get(self, request: Request) -> Response:
        return Response({"needed": not User.objects.exists()})

    @extend_schema(
        operation_id="set_up",
        summary="Make the first user",
        description="From this machine only, while there is no user. The first user is administrator, and ends local mode.",
        tags=["accounts"],
        request={docs.JSON: serializers.SetupBody},
        examples=docs.sent({"username": "ada", "password": "correct horse battery"}),
        responses=docs.answered(201, serializers.LoginSerializer, "The user, logged in.", docs.LOGIN, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        body = read_body(request, serializers.SetupBody)
        if not is_local_administrator(request.user):
            raise people.UsersExist
        return _logged_in(people.set_up(**body), status=201)


def way_in(request: Request) -> str:
    """How the request said who sends it: `local, token, basic` or `session`."""
    return audit.of_request(request._request).via


def refuse_named_tokens(request: Request) -> None:
    """What decides who may come in is for people: a program's token could make itself another that lasts longer. Errors: `NotWithThisLogin`."""
    if isinstance(request.auth, ApiToken) and request.auth.kind == ApiToken.Kind.NAMED:
        raise NotWithThisLogin


def _row(request: Request) -> User:
    return cast("User", request.user)  # nobody else gets here


def _logged_in(user: User, status: int = 200) -> Response:
    token, secret = tokens.issue(user, ApiToken.Kind.LOGIN, "login", lasts=timedelta(hours=settings.LOGIN_HOURS))
    audit.note("auth.login", "user", user.pk, user.get_username(), by=user)
    return Response({"token": secret, "expires_at": iso(token.expires_at), "user": shown_user(user)}, status=status)
