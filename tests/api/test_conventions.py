"""What holds for every call: errors are problems, bodies and queries are strict, and who is not known is told so. On views made for this."""

import io
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common.api import ApiView, StrictBooleanField, StrictCharField, StrictIntegerField, StrictSerializer, read_body
from brokoli_site.common.errors import BadRequest, Conflict, Unavailable
from brokoli_site.common.problems import handler400, handler403, handler404, handler500  # noqa: F401 - Django finds them here
from pipelines.problems import Problem
from pipelines.spec import InvalidPipeline

SECRET = "postgres://user:hunter2@/srv/host/path"
ERRORS: dict[str, Exception] = {
    "conflict": Conflict("Not now."),
    "invalid": InvalidPipeline([Problem("Bad rule.", "n1", "rules.0", 2, 5, pointer="/nodes/0"), Problem("No name.", field="name", pointer="/name")]),
    "pointer": BadRequest("Not a date.", "/params/date"),
    "unavailable": Unavailable(),
    "locked": OperationalError(f"database is locked at {SECRET}"),
    "missing": Http404(SECRET),
    "denied": PermissionDenied(SECRET),
    "suspicious": SuspiciousOperation(SECRET),
    "large": RequestDataTooBig(SECRET),
    "validation": exceptions.ValidationError({"rows": [{}, {"a/b": ["Wrong."]}], "name": "Needed."}),
    "throttled": exceptions.Throttled(wait=7),
    "bug": RuntimeError(SECRET),
}


class QuerySerializer(StrictSerializer):
    status = serializers.ChoiceField(["a", "b"], required=False)
    tags = serializers.ListField(child=serializers.CharField(), required=False)
    depth = serializers.IntegerField(min_value=1, max_value=20, required=False)


class BodySerializer(StrictSerializer):
    count = StrictIntegerField(min_value=1, required=False)
    level = StrictIntegerField(min_value=-3, max_value=3, required=False)
    force = StrictBooleanField(required=False)
    name = StrictCharField(max_length=5, required=False)


class Echo(ApiView):
    required_permissions: ClassVar[dict[str, str]] = {"GET": "", "POST": "pipelines.run", "PUT": "pipelines.nobody", "PATCH": ""}
    query_serializers: ClassVar[dict[str, type[StrictSerializer]]] = {"GET": QuerySerializer}

    def get(self, request: Request, **kwargs: str) -> Response:
        return Response({"query": self.query})

    def post(self, request: Request) -> Response:
        return Response({"body": read_body(request, BodySerializer)})


class Failing(ApiView):
    required_permissions: ClassVar[dict[str, str]] = {"GET": ""}

    def get(self, request: Request, name: str) -> Response:
        raise ERRORS[name]


def page(request: HttpRequest) -> HttpResponse:
    raise OperationalError(SECRET)


urlpatterns = [
    path("api/echo", Echo.as_view()),
    path("api/echo/<str:name>", Echo.as_view()),
    path("api/fail/<str:name>", Failing.as_view()),
    path("api/page", page),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False, headers={"host": "localhost"})


def problem(response: Any) -> dict[str, Any]:
    assert response.headers["Content-Type"] == "application/problem+json", response.content
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "instance", "code"} <= body.keys()
    assert body["status"] == response.status_code
    assert "hunter2" not in response.content.decode()
    return body


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("conflict", 409, "conflict"),
        ("invalid", 422, "invalid_pipeline"),
        ("pointer", 400, "bad_request"),
        ("unavailable", 503, "unavailable"),
        ("locked", 503, "unavailable"),
        ("missing", 404, "not_found"),
        ("denied", 403, "permission_denied"),
        ("suspicious", 400, "bad_request"),
        ("large", 413, "too_large"),
        ("validation", 400, "bad_field"),
        ("throttled", 429, "throttled"),
        ("bug", 500, "error"),
    ],
)
def test_every_error_is_a_problem(client: Client, name: str, status: int, code: str) -> None:
    response = client.get(f"/api/fail/{name}")
    body = problem(response)
    assert (response.status_code, body["code"], body["instance"]) == (status, code, f"/api/fail/{name}")
    assert ("Retry-After" in response.headers) == (status in (429, 503))


@pytest.mark.parametrize("depth", ["0", "21", "-1", "1.5", "deep", "", "9" * 2000])
def test_a_parameter_out_of_its_range_is_told_both_ends(client: Client, depth: str) -> None:
    assert problem(client.get(f"/api/echo?depth={depth}"))["errors"] == [{"parameter": "depth", "detail": "A whole number from 1 to 20."}]


@pytest.mark.parametrize("level", [-4, 4, 1.5, "1", True, 10**30])
def test_a_field_out_of_its_range_is_told_both_ends(client: Client, level: object) -> None:
    refused = client.post("/api/echo", {"level": level}, content_type="application/json")
    assert problem(refused)["errors"] == [{"pointer": "/level", "detail": "A whole number from -3 to 3."}]


def test_places_are_named(client: Client) -> None:
    assert problem(client.get("/api/fail/invalid"))["errors"] == [
        {"pointer": "/nodes/0", "detail": "Bad rule.", "node_id": "n1", "field": "rules.0", "line": 2, "column": 5},
        {"pointer": "/name", "detail": "No name.", "field": "name"},
    ]
    assert problem(client.get("/api/fail/pointer"))["errors"] == [{"pointer": "/params/date", "detail": "Not a date."}]
    assert problem(client.get("/api/fail/validation"))["errors"] == [
        {"pointer": "/rows/1/a~1b", "detail": "Wrong."},
        {"pointer": "/name", "detail": "Needed."},
    ]


def test_what_fails_outside_a_view_is_a_problem_too(client: Client) -> None:
    assert client.get("/api/page").status_code == problem(client.get("/api/page"))["status"] == 503
    assert problem(client.get("/api/nowhere"))["status"] == 404
    unknown_host = problem(client.get("/api/echo", headers={"host": "evil.example"}))
    assert (unknown_host["status"], "BROKOLI_ALLOWED_HOSTS" in unknown_host["detail"], "evil" in unknown_host["detail"]) == (400, True, False)
    assert client.get("/nowhere").headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?nope=1", ["nope"]),
        ("?status=c&nope=1&also=2", ["status", "nope", "also"]),
        ("?status=a&status=b", ["status"]),
        ("?status=%00", ["status"]),
        ("?%00=1", ["\0"]),
        ("?status=%FF", ["status"]),
    ],
)
def test_query_parameters_are_strict(client: Client, query: str, names: list[str]) -> None:
    response = client.get(f"/api/echo{query}")
    assert response.status_code == 400
    assert sorted({error["parameter"] for error in problem(response)["errors"]}) == sorted(names)


def test_a_wrong_query_parameter_is_told_what_would_be_right(client: Client) -> None:
    assert problem(client.get("/api/echo?status=c"))["errors"] == [{"parameter": "status", "detail": '"c" is none of a, b.'}]
    assert problem(client.get("/api/echo?stat=a"))["errors"] == [
        {"parameter": "stat", "detail": "There is no such parameter. Known: status, tags, depth."}
    ]


def test_query_parameters_that_are_known(client: Client) -> None:
    assert client.get("/api/echo?status=a&tags=x&tags=y").json() == {"query": {"status": "a", "tags": ["x", "y"]}}
    assert client.head("/api/echo?status=a").status_code == 200
    assert client.get("/api/echo", headers={"accept": "text/html"}).json() == {"query": {}}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"nope": 1}, ["/nope"]),
        ({"count": 0, "nope": 1}, ["/count", "/nope"]),
        ({"count": "5"}, ["/count"]),
        ({"count": True}, ["/count"]),
        ({"count": 5.0}, ["/count"]),
        ({"force": "yes"}, ["/force"]),
        ({"force": 1}, ["/force"]),
        ({"force": []}, ["/force"]),
        ({"name": 5}, ["/name"]),
        ({"name": "123456"}, ["/name"]),
        ({"count": None}, ["/count"]),
        ({"a/b~": 1}, ["/a~1b~0"]),
    ],
)
def test_bodies_are_strict(client: Client, body: dict[str, Any], pointers: list[str]) -> None:
    response = client.post("/api/echo", body, content_type="application/json")
    assert response.status_code == 400
    assert [error["pointer"] for error in problem(response)["errors"]] == pointers


def test_bodies_that_are_right(client: Client) -> None:
    body = {"count": 5, "force": True, "name": "a"}
    assert client.post("/api/echo", body, content_type="application/json").json() == {"body": body}
    assert client.generic("POST", "/api/echo").json() == {"body": {}}
    assert client.post("/api/echo", b"  ", content_type="application/json").json() == {"body": {}}


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (b'{"count": NaN}', "application/json", 400),
        (b'{"name": "\\u0000"}', "application/json", 400),
        (b'{"name": "\\ud800"}', "application/json", 400),
        (b'{"count": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"count": ' + b"9" * 30 + b"}", "application/json", 200),
        (b"[" * 100_000, "application/json", 400),
        (b'{"name": "' + b"x" * 10_000_000 + b'"}', "application/json", 413),
        (b" " * (1024 * 1024 + 1), "application/json", 413),
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bodies_that_are_malformed(client: Client, body: bytes, content_type: str, status: int) -> None:
    response = client.post("/api/echo", body, content_type=content_type)
    assert response.status_code == status
    if status != 200:
        problem(response)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"x-forwarded-for": "1.2.3.4"},
        {"host": "127.0.0.1.evil.example"},
    ],
)
def test_local_mode_is_not_for_others(client: Client, headers: dict[str, str], settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    response = client.post("/api/echo", {}, content_type="application/json", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic")
    problem(response)


def test_who_is_unknown_is_told_so_before_anything_else(client: Client) -> None:
    User.objects.create_user("someone", password="secret")
    for method, url in (("get", "/api/echo?nope=1"), ("post", "/api/echo"), ("delete", "/api/echo"), ("get", "/api/fail/missing")):
        assert getattr(client, method)(url).status_code == 401
    wrong = client.get("/api/echo", headers={"authorization": "Basic c29tZW9uZTp3cm9uZw=="})
    assert (wrong.status_code, problem(wrong)["code"]) == (401, "authentication_failed")


def test_who_is_known_and_may_not_is_told_so() -> None:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_user("viewer"))
    assert client.get("/api/echo").status_code == 200
    assert problem(client.post("/api/echo", {}, content_type="application/json"))["status"] == 403
    for method in ("delete", "put", "patch"):
        response = getattr(client, method)("/api/echo")
        assert (response.status_code, problem(response)["code"], response.headers["Allow"]) == (405, "method_not_allowed", "GET, POST, HEAD, OPTIONS")


def test_a_session_post_without_csrf_token_is_403() -> None:
    client = Client(enforce_csrf_checks=True, headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("admin"))
    response = client.post("/api/echo", {}, content_type="application/json")
    assert (response.status_code, problem(response)["code"]) == (403, "permission_denied")


def test_a_nul_in_an_address_is_not_found(client: Client) -> None:
    assert client.get("/api/echo/a%00b").status_code == 404


def test_an_upload_that_breaks_off_is_400(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: io.BytesIO, *_: Any) -> bytes:
        raise OSError("connection reset")

    monkeypatch.setattr("django.test.client.FakePayload.read", broken)
    assert problem(client.post("/api/echo", {}, content_type="application/json"))["status"] == 400
