"""What OpenAPI says of these calls: `@extend_schema(**answered(…))`."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from brokoli_site.common.openapi import problems

JSON = "application/json"
_MOMENT, _LATER = "2026-01-15T06:00:00.000Z", "2026-04-15T06:00:00.000Z"
_ID = "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"
USER: dict[str, Any] = {
    "id": "7",
    "username": "ada",
    "email": "ada@example.org",
    "active": True,
    "superuser": False,
    "role": "editor",
    "roles": ["editor"],
    "created_at": _MOMENT,
    "last_login": None,
}
TOKEN: dict[str, Any] = {
    "id": _ID,
    "name": "nightly export",
    "kind": "named",
    "hint": "brk_3f9a1c",
    "scopes": ["pipelines.run", "runs.view"],
    "created_at": _MOMENT,
    "expires_at": _LATER,
    "last_used_at": None,
}
LOGIN: dict[str, Any] = {"token": "brk_…", "expires_at": _LATER, "user": USER}


def answered(status: int, serializer: Any, sentence: str, example: Any, *statuses: int) -> dict[Any, Any]:
    """The `responses` of a call: the good one with an example, and its problems."""
    return {(status, JSON): OpenApiResponse(serializer, sentence, [OpenApiExample("answer", value=example, response_only=True)])} | problems(
        *statuses
    )


def sent(example: Any) -> list[OpenApiExample]:
    return [OpenApiExample("request", value=example, request_only=True)]


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> Any:
        return {"type": "http", "scheme": "bearer", "description": "A token of `POST /api/auth/login` or `POST /api/auth/tokens`."}


class BasicScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.BasicAuthentication"
    name = "basic"

    def get_security_definition(self, auto_schema: AutoSchema) -> Any:
        return {"type": "http", "scheme": "basic"}
