"""`/api/auth/tokens`: a user's own tokens for programs."""

from datetime import timedelta
from typing import Any, ClassVar, cast

from django.contrib.auth.models import User
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import held, people, tokens
from accounts.api import documentation as docs
from accounts.api import serializers
from accounts.api.login import NotWithThisLogin, refuse_named_tokens
from accounts.api.serializers import shown_token
from accounts.models import ApiToken
from brokoli_site.common import audit
from brokoli_site.common.api import ApiView, read_body
from brokoli_site.common.errors import NotFound
from brokoli_site.common.ids import parse_id
from brokoli_site.common.local_mode import is_local_administrator
from brokoli_site.common.openapi import problems


class TokensView(ApiView):
    """`/api/auth/tokens`"""

    required_permissions: ClassVar = {"GET": "", "POST": ""}

    @extend_schema(
        operation_id="list_tokens",
        summary="Your tokens",
        description="Those that have not expired, newest first; never the tokens themselves. A narrowed token sees itself alone.",
        tags=["accounts"],
        responses=docs.answered(200, serializers.TokenSerializer(many=True), "Tokens.", [docs.TOKEN]),
    )
    def get(self, request: Request) -> Response:
        return Response([shown_token(token) for token in _own(request)])

    @extend_schema(
        operation_id="create_token",
        summary="Make a token for a program",
        description="It may do what you may, or less: `scopes`. It ends when it expires, when it is deleted, and when your password is changed.",
        tags=["accounts"],
        request={docs.JSON: serializers.TokenBody},
        examples=docs.sent({"name": "nightly export", "scopes": ["pipelines.run", "runs.view"], "expires_in_days": 90}),
        responses=docs.answered(201, serializers.NewTokenSerializer, "The token.", {**docs.TOKEN, "token": "brk_…"}, 409, 413, 415),
    )
    def post(self, request: Request) -> Response:
        user = _person(request)
        body = read_body(request, serializers.TokenBody)
        scopes = None if body["scopes"] is None else sorted(set(body["scopes"]))
        _refuse_beyond(request, scopes or [])
        with transaction.atomic():
            token, secret = tokens.issue(user, ApiToken.Kind.NAMED, body["name"], lasts=timedelta(days=body["expires_in_days"]), scopes=scopes)
            audit.record("token.created", "token", token.pk, token.name, after={"scopes": scopes, "hint": token.hint})
        return Response(shown_token(token) | {"token": secret}, status=201)


class TokenView(ApiView):
    """`/api/auth/tokens/{id}`"""

    required_permissions: ClassVar = {"DELETE": ""}

    @extend_schema(
        operation_id="delete_token",
        summary="End a token of yours",
        description="At once, also for what is connected with it; those that log in with it again are refused.",
        tags=["accounts"],
        responses={204: None} | problems(404),
    )
    def delete(self, request: Request, token_id: str) -> Response:
        _person(request)
        key = parse_id(token_id)
        token = _own(request).filter(pk=key).first() if key is not None else None
        if token is None:
            raise NotFound("You have no such token.")
        people.end_token(token)
        return Response(status=204)


def _person(request: Request) -> User:
    """Errors: `NotWithThisLogin`."""
    refuse_named_tokens(request)
    if is_local_administrator(request.user):
        raise NotWithThisLogin("There is no user yet whose token it could be: `POST /api/auth/setup` makes the first.")
    return cast("User", request.user)  # nobody else gets here


def _own(request: Request) -> Any:
    own = ApiToken.objects.filter(user=cast("Any", request.user.pk)).select_related("user")
    # What else its user has is no right that a token could be narrowed to.
    narrowed = isinstance(request.auth, ApiToken) and request.auth.scopes is not None
    return own.filter(pk=request.auth.pk) if narrowed else own


def _refuse_beyond(request: Request, scopes: list[str]) -> None:
    """A scope that the user lacks would do nothing now, and surprise whoever gives them the right later. Errors: `BeyondYourRights`."""
    missing = sorted(set(scopes) - set(held.rights_of(request.user)))
    if missing:
        raise people.BeyondYourRights(f"You do not have these rights, so your token cannot: {', '.join(missing)}.")
