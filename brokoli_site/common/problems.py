"""Errors as clients see them: `application/problem+json` (RFC 9457), never with a stack trace, a path of the host or a secret.

`{type, title, status, detail, instance, request_id, code, errors: [{pointer | parameter, detail, …}]}`: `errors` names every place at
fault, by JSON Pointer (RFC 6901) into the body or by the name of a query parameter.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol, cast

from django.core.exceptions import DisallowedHost, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.views import defaults
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common import request_ids
from brokoli_site.common.errors import BadRequest, BrokoliError, NotFound, TooLarge, Unavailable
from brokoli_site.common.json import JSONRenderer, dumps

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2


class PlacedProblem(Protocol):
    """A problem with a place in a document, such as `pipelines.spec.Problem`."""

    @property
    def message(self) -> str: ...
    @property
    def pointer(self) -> str: ...


class QueryError(BadRequest):
    """A query parameter cannot be used."""

    code = "bad_query_parameter"

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        self.errors = {name: tuple(messages) for name, messages in errors.items()}
        name, messages = next(iter(self.errors.items()))
        super().__init__(f"Query parameter '{name}': {messages[0]}")


class BodyError(BadRequest):
    """The body has fields that cannot be used."""

    code = "bad_field"

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        """`errors`: messages by JSON Pointer."""
        self.errors = {pointer: tuple(messages) for pointer, messages in errors.items()}
        where, messages = next(iter(self.errors.items()))
        super().__init__(f"{where}: {messages[0]}" if where else messages[0], where)


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's hook: the answer for an error in a view; None (and so a 500 by `handler500`) for one that nobody foresaw."""
    found = _translated(error)
    if found is None:
        return None
    problem, headers = found
    problem |= _about(context["request"])
    # A problem is JSON also where the view answers HTML or a file.
    context["request"].accepted_renderer = JSONRenderer()
    return Response(problem, status=problem["status"], headers=headers, content_type=MEDIA_TYPE)


def problem_of(error: BrokoliError) -> dict[str, Any]:
    """The problem document of one of our own errors, without its `instance`."""
    problem = _problem(error.status, error.message, error.code)
    errors = list(_places(error))
    if errors:
        problem["errors"] = errors
    return problem


def _translated(error: Exception) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The problem and the headers of an error."""
    if isinstance(error, exceptions.APIException):
        return _of_rest_framework(error)
    ours = _as_ours(error)
    if ours is None:
        return None
    return problem_of(ours), {"Retry-After": str(RETRY_AFTER_SECONDS)} if ours.status == HTTPStatus.SERVICE_UNAVAILABLE else {}


def _as_ours(error: Exception) -> BrokoliError | None:
    """Django's errors as ours. Their own texts may name hosts, files or SQL, so none is passed on."""
    if isinstance(error, BrokoliError):
        return error
    return next((make() for kinds, make in _DJANGO if isinstance(error, kinds)), None)


class _Forbidden(BrokoliError):
    """You may not do this."""

    status, code = 403, "permission_denied"


def _busy() -> BrokoliError:
    return Unavailable("The database is busy or cannot be reached; try again in a moment.")


def _unknown_host() -> BrokoliError:
    return BadRequest("The server does not answer to this host name; its administrator can add it to BROKOLI_ALLOWED_HOSTS.")


_DJANGO: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[], BrokoliError]], ...] = (
    (Http404, NotFound),
    (PermissionDenied, _Forbidden),
    (RequestDataTooBig, TooLarge),
    (DisallowedHost, _unknown_host),
    ((SuspiciousOperation, UnreadablePostError), BadRequest),
    ((OperationalError, InterfaceError), _busy),
)
_UNAUTHENTICATED = "Log in, or send credentials: this needs a user."


def _of_rest_framework(error: exceptions.APIException) -> tuple[dict[str, Any], dict[str, str]]:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(error.auth_header)  # type: ignore[attr-defined]
    if getattr(error, "wait", None) is not None:  # of Throttled
        headers["Retry-After"] = str(max(1, round(error.wait)))  # type: ignore[attr-defined]
    if isinstance(error, exceptions.ValidationError):
        return problem_of(BodyError(dict(flattened(error.detail)))), headers
    code = str(error.default_code)
    detail = _UNAUTHENTICATED if isinstance(error, exceptions.NotAuthenticated) else str(error.detail)
    return _problem(error.status_code, detail, code), headers


def _places(error: BrokoliError) -> Iterator[dict[str, Any]]:
    """Each place at fault."""
    if isinstance(error, QueryError):
        for name, messages in error.errors.items():
            yield from ({"parameter": name, "detail": message} for message in messages)
    elif isinstance(error, BodyError):
        for pointer, messages in error.errors.items():
            yield from ({"pointer": pointer, "detail": message} for message in messages)
    elif getattr(error, "problems", ()):
        for problem in cast("Sequence[PlacedProblem]", error.problems):  # type: ignore[attr-defined]
            yield _place(problem)
    elif getattr(error, "pointer", ""):
        yield {"pointer": error.pointer, "detail": error.message}  # type: ignore[attr-defined]


def _place(problem: PlacedProblem) -> dict[str, Any]:
    found: dict[str, Any] = {"pointer": problem.pointer, "detail": problem.message}
    for key in ("node_id", "field", "line", "column"):
        value = getattr(problem, key, None)
        if value not in (None, ""):
            found[key] = value
    return found


def flattened(detail: Any, pointer: str = "") -> Iterator[tuple[str, list[str]]]:
    """DRF's nested error details as (JSON Pointer, messages)."""
    if isinstance(detail, Mapping):
        for key, inner in detail.items():
            yield from flattened(inner, pointer if key == "non_field_errors" else f"{pointer}/{escaped(str(key))}")
    elif isinstance(detail, list | tuple) and any(isinstance(inner, Mapping | list) for inner in detail):
        for index, inner in enumerate(detail):
            yield from flattened(inner, f"{pointer}/{index}")
    elif isinstance(detail, list | tuple):
        if detail:
            yield pointer, [str(message) for message in detail]
    else:
        yield pointer, [str(detail)]


def escaped(key: str) -> str:
    """A key as a token of a JSON Pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _about(request: HttpRequest | Request) -> dict[str, str]:
    """Which request had the problem: its path, and the id under which the server's log tells more."""
    request_id = request_ids.of(request)
    return {"instance": request.path, **({"request_id": request_id} if request_id else {})}


def _problem(status: int, detail: str, code: str) -> dict[str, Any]:
    return {"type": f"urn:brokoli:problem:{code}", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, "code": code}


# --- Django's own handlers, for what fails outside a view of the API (`handler404` and the like in `urls.py`) ------------


def answer(request: HttpRequest, error: BrokoliError) -> HttpResponse:
    """The problem of an error, where no view is there to raise it."""
    body = problem_of(error) | _about(request)
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return HttpResponse(dumps(body), status=error.status, content_type=MEDIA_TYPE, headers=headers)


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return answer(request, _as_ours(exception) or BadRequest())
    return defaults.bad_request(request, exception)


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, _Forbidden()) if _is_api(request) else defaults.permission_denied(request, exception)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return answer(request, NotFound("There is no such address; /api/docs lists those that exist."))
    return defaults.page_not_found(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    """The last resort. A database that fails before a view begins (a middleware asks it too) is still a 503."""
    error = sys.exc_info()[1]
    if isinstance(error, OperationalError | InterfaceError):
        return answer(request, _busy())
    if _is_api(request):
        return answer(request, BrokoliError("Something went wrong in the server. Its log has the details."))
    return defaults.server_error(request)
