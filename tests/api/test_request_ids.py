"""Each request has an id, in its answer, its problem and its log lines; and one line in the log that tells no secret."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import structlog
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common import logs
from brokoli_site.common.api import ApiView
from brokoli_site.common.problems import handler400, handler403, handler404, handler500  # noqa: F401 - Django finds them here

SECRET = "hunter2-of-the-query"


class Speaking(ApiView):
    required_permissions: ClassVar[dict[str, str]] = {"GET": "", "POST": ""}

    def get(self, request: Request, name: str) -> Response:
        structlog.get_logger("speaking").info("said", name=name)
        return Response({})

    def post(self, request: Request, name: str) -> Response:
        raise RuntimeError("a bug")


def page(request: HttpRequest, name: str) -> HttpResponse:
    structlog.get_logger("speaking").info("said", name=name)
    return HttpResponse()


urlpatterns = [path("api/speak/<str:name>", Speaking.as_view()), path("page/<str:name>", page)]

pytestmark = [pytest.mark.django_db, pytest.mark.any_database, pytest.mark.urls(__name__)]


class Lines:
    """What is logged while a test runs, as machines read it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        config = logs.configure("DEBUG", "json")["formatters"]["structured"]
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=config["processors"], foreign_pre_chain=config["foreign_pre_chain"]))

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in self.all if line["logger"] == logger]


@pytest.fixture
def lines() -> Iterator[Lines]:
    found, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(found.handler)
    root.setLevel(logging.DEBUG)
    yield found
    root.removeHandler(found.handler)
    root.setLevel(level)


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False, headers={"host": "localhost"})


def test_a_sane_id_is_taken_over(client: Client, lines: Lines) -> None:
    response = client.get("/api/speak/hello", headers={"x-request-id": "Root=1-67891233:abc_def.0+9"})
    assert response.headers["X-Request-ID"] == "Root=1-67891233:abc_def.0+9"
    assert {line["request_id"] for line in lines.all if line["logger"] in ("speaking", "brokoli.access")} == {"Root=1-67891233:abc_def.0+9"}


INSANE = ["", "a\nb", "a\r\nSet-Cookie: x=1", "a b", "ä", '"quoted"', "x" * 65, "x" * 100_000, "-x", "${jndi:ldap://x}", "a,b", "\x1b[31m", "<b>"]


@pytest.mark.parametrize("given", INSANE, ids=lambda value: repr(value)[:20])
def test_anything_else_is_replaced(client: Client, lines: Lines, given: str) -> None:
    response = client.get("/api/speak/hello", headers={"x-request-id": given})
    made = response.headers["X-Request-ID"]
    assert (len(made), made.isalnum()) == (32, True)
    assert not given or given not in lines.stream.getvalue()


def test_each_request_has_another(client: Client, lines: Lines) -> None:
    made = {client.get("/api/speak/hello").headers["X-Request-ID"] for _ in range(3)}
    assert len(made) == 3
    assert [line["request_id"] for line in lines.of("speaking")] == [line["request_id"] for line in lines.of("brokoli.access")]


def test_problems_name_it(client: Client) -> None:
    for response in (
        client.get("/api/nowhere"),
        client.get("/api/speak/hello?x=1"),
        client.post("/api/speak/hello"),
        client.get("/api/speak/hello", headers={"host": "evil.example"}),
    ):
        assert response.json()["request_id"] == response.headers["X-Request-ID"]


def test_one_line_a_request_without_what_the_address_holds(client: Client, lines: Lines) -> None:
    client.get(f"/api/speak/{SECRET}?token={SECRET}", headers={"authorization": f"Bearer {SECRET}", "cookie": f"x={SECRET}"})
    client.get(f"/api/nowhere/{SECRET}?token={SECRET}")
    client.generic("BREW", f"/api/speak/{SECRET}")
    access = lines.of("brokoli.access")
    assert [(line["method"], line["route"], line["status"]) for line in access] == [
        ("GET", "/api/speak/<str:name>", 400),
        ("GET", "(unmatched)", 404),
        ("OTHER", "/api/speak/<str:name>", 405),
    ]
    assert all(isinstance(line["duration_ms"], int) and line["event"] == "request" for line in access)
    assert SECRET not in lines.stream.getvalue()


def test_it_says_who(client: Client, lines: Lines) -> None:
    client.get("/api/speak/hello")
    user = User.objects.create_user("somebody", password="a long enough one")
    client.get("/api/speak/hello")
    client.force_login(user)
    client.get("/api/speak/hello")
    assert [line["user"] for line in lines.of("brokoli.access")] == ["local", None, str(user.pk)]


def test_a_crash_is_logged_once_with_the_id_and_told_without_a_trace(client: Client, lines: Lines) -> None:
    response = client.post("/api/speak/hello", headers={"x-request-id": "the-one"})
    body = response.json()
    assert (response.status_code, body["code"], body["request_id"]) == (500, "error", "the-one")
    assert "Traceback" not in response.content.decode()
    assert "RuntimeError" not in response.content.decode()
    (crash,) = [line for line in lines.all if "exception" in line]
    assert (crash["request_id"], crash["level"]) == ("the-one", "error")
    assert "RuntimeError: a bug" in crash["exception"]
    assert [line["status"] for line in lines.of("brokoli.access")] == [500]


def test_requests_at_the_same_time_keep_their_ids_apart(lines: Lines) -> None:
    async def ask() -> list[str]:
        client = AsyncClient()
        answers = await asyncio.gather(*(client.get(f"/page/n{n}", headers={"x-request-id": f"id-{n}"}) for n in range(20)))
        return [answer.headers["X-Request-ID"] for answer in answers]

    assert asyncio.run(ask()) == [f"id-{n}" for n in range(20)]
    assert {line["request_id"]: line["name"] for line in lines.of("speaking")} == {f"id-{n}": f"n{n}" for n in range(20)}
    assert len(lines.of("brokoli.access")) == 20


def test_hostile_texts_stay_on_one_line(lines: Lines) -> None:
    structlog.get_logger("hostile").info("a\nb\x1b[31m", text='"}\n{"event": "forged"}')
    (line,) = lines.of("hostile")
    assert line["event"] == "a\nb\x1b[31m"
    assert len(lines.all) == 1


def test_what_a_process_is_called_stands_in_every_line(lines: Lines) -> None:
    logs.name_process(worker="w1")
    try:
        structlog.get_logger("named").info("mine")
        logging.getLogger("plain").info("mine too")
        structlog.get_logger("named").info("another's", worker="w2")
    finally:
        logs.name_process(worker="")
    structlog.get_logger("named").info("nobody's")
    assert [line.get("worker") for line in lines.all] == ["w1", "w1", "w2", None]
