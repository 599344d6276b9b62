"""Who may open the event stream, and who loses it: hosts, origins, logins, rights. Through the whole ASGI application."""

import asyncio
import base64
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, override_settings

from accounts import tokens
from accounts.models import ApiToken
from brokoli_site.asgi import application
from runs import consumers, handshakes
from runs.events.tailer import tailer
from tests.factories import accept_run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

HOST, ORIGIN = "localhost:8080", "http://localhost:8080"
PASSWORD = "a long enough one"


@dataclass
class Visit:
    """A handshake and what came of it: the HTTP status, and the messages that the client got."""

    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/api/ws"
    query: str = ""
    address: str = "127.0.0.1"
    sent: tuple[str, ...] = ()  # what the client sends
    stays: bool = False  # whether it waits to be closed
    denial: bool = True  # whether the server can answer a handshake with words

    def run(self) -> "Visit":
        asyncio.run(asyncio.wait_for(self._run(), 20))
        return self

    async def _run(self) -> None:
        self.status, self.body, self.code = 0, b"", 0
        self.texts: list[dict[str, Any]] = []
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        incoming.put_nowait({"type": "websocket.connect"})
        headers = {"host": HOST, "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13", **self.headers}
        scope = {
            "type": "websocket",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": self.query.encode(),
            "headers": [(name.encode(), value.encode("latin1")) for name, value in headers.items()],
            "client": [self.address, 50000],
            "server": ["127.0.0.1", 8080],
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}} if self.denial else {},
        }

        async def send(message: dict[str, Any]) -> None:
            match message["type"]:
                case "websocket.accept":
                    self.status = 101
                    for text in self.sent:
                        incoming.put_nowait({"type": "websocket.receive", "text": text})
                    if not self.stays:
                        incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
                case "websocket.send":
                    self.texts.append(json.loads(message["text"]))
                case "websocket.close":
                    self.status, self.code = self.status or 403, message.get("code", 1000)
                    incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
                case "websocket.http.response.start":
                    self.status = message["status"]
                    self.answer = {name.lower(): value for name, value in message["headers"]}
                case "websocket.http.response.body":
                    self.body += message["body"]
                    incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

        try:
            await application(scope, incoming.get, send)
        finally:
            tailer().close()

    @property
    def problem(self) -> dict[str, Any]:
        assert self.answer[b"content-type"] == b"application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        return found


def user(*rights: str) -> User:
    found = User.objects.create_user("somebody", password=PASSWORD)
    for right in rights:
        app, codename = right.split(".")
        found.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return found


def basic(password: str = PASSWORD) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"somebody:{password}".encode()).decode()}


def cookie(of: User) -> dict[str, str]:
    client = Client()
    client.force_login(of)
    return {"cookie": f"sessionid={client.cookies['sessionid'].value}"}


# --- local mode ---------------------------------------------------------------------------------------------------


def test_a_fresh_machine_needs_no_login() -> None:
    for headers in ({}, {"origin": ORIGIN}, {"origin": ORIGIN, "sec-fetch-site": "same-origin"}):
        assert Visit(headers).run().status == 101, headers


def test_a_foreign_page_gets_nowhere_on_a_fresh_machine() -> None:
    foreign = ["http://example.org", "null", "", "http://localhost:3000", "https://localhost:8080", "http://localhost:8080.example.org", "http://["]
    for origin in foreign:
        visit = Visit({"origin": origin}).run()
        assert (visit.status, visit.problem["code"]) == (403, "foreign_origin"), origin


def test_others_are_told_to_log_in() -> None:
    for visit in (Visit(address="192.0.2.1"), Visit({"x-forwarded-for": "192.0.2.1"}), Visit({"sec-fetch-site": "cross-site"})):
        assert visit.run().status == 401, visit


def test_the_first_user_ends_it() -> None:
    user()
    visit = Visit().run()

    assert visit.status == 401
    assert visit.answer[b"www-authenticate"].startswith(b"Basic")
    assert "Log in" in visit.problem["detail"]


# --- hosts --------------------------------------------------------------------------------------------------------


def test_unknown_hosts_are_refused() -> None:
    for host in ("example.org", "localhost.example.org:8080", ""):
        assert Visit({"host": host}).run().status == 400, host


# --- sessions -----------------------------------------------------------------------------------------------------


def test_a_page_of_ours_with_a_session() -> None:
    assert Visit({"origin": ORIGIN, **cookie(user("runs.view"))}).run().status == 101


def test_a_session_from_elsewhere() -> None:
    session = cookie(user("runs.view"))
    for origin in ({}, {"origin": "null"}, {"origin": ""}, {"origin": "http://example.org"}, {"origin": "http://localhost"}):
        assert Visit({**origin, **session}).run().status == 403, origin


@override_settings(CSRF_TRUSTED_ORIGINS=["https://brokoli.example.org"])
def test_a_trusted_origin() -> None:
    assert Visit({"origin": "https://brokoli.example.org", **cookie(user("runs.view"))}).run().status == 101


def test_a_session_without_the_right() -> None:
    assert Visit({"origin": ORIGIN, **cookie(user("pipelines.view"))}).run().status == 403


def test_a_session_that_is_none() -> None:
    user("runs.view")
    assert Visit({"origin": ORIGIN, "cookie": "sessionid=abcdefghijklmnopqrstuvwxyz012345"}).run().status == 401


# --- passwords ----------------------------------------------------------------------------------------------------


def test_a_program_with_a_password() -> None:
    user("runs.view")
    assert Visit(basic()).run().status == 101
    assert Visit(basic("wrong")).run().status == 401


def test_a_browser_that_remembers_a_password_serves_no_foreign_page() -> None:
    user("runs.view")
    assert Visit({"origin": "http://example.org", **basic()}).run().status == 403


def test_a_password_without_the_right() -> None:
    user("pipelines.view")
    assert Visit(basic()).run().status == 403


# --- what else is refused -----------------------------------------------------------------------------------------


def test_there_is_one_socket() -> None:
    for path in ("/", "/api/ws/", "/api/wss", "/api/runs", "/other"):
        assert Visit(path=path).run().problem["status"] == 404, path


def test_bad_parameters_are_named() -> None:
    for query, parameter in (
        ("since=-1", "since"),
        ("since=1.5", "since"),
        ("since=99999999999999999999", "since"),
        ("since=", "since"),
        ("run_id=1", "run_id"),
        ("pipeline_id=orders", "pipeline_id"),
        ("types=logs", "types"),
        ("types=", "types"),
        ("types=log&types=log", "types"),
        ("run=1", "run"),
    ):
        visit = Visit(query=query).run()
        assert (visit.status, [error["parameter"] for error in visit.problem["errors"]]) == (400, [parameter]), query


@override_settings(MAX_SOCKETS=0)
def test_a_full_server_says_so() -> None:
    visit = Visit().run()

    assert (visit.status, visit.answer[b"retry-after"]) == (503, b"2")
    assert "BROKOLI_MAX_SOCKETS" in visit.problem["detail"]


def test_a_server_that_knows_no_answers_to_handshakes_refuses_all_the_same() -> None:
    assert Visit({"origin": "null"}, denial=False).run().status == 403


def test_a_plain_get_is_told_what_this_is(client: Client) -> None:
    response = client.get("/api/ws", headers={"host": HOST})

    assert (response.status_code, response.json()["code"]) == (426, "upgrade_required")


# --- rights end ---------------------------------------------------------------------------------------------------


@pytest.fixture
def checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK_SECONDS", 0.05)


def lost(visit: Visit) -> bool:
    assert visit.status == 101
    return visit.code == 1008 and "not logged in any more" in visit.texts[-1]["message"]


@pytest.mark.parametrize("credentials", ["session", "password"])
@pytest.mark.parametrize("change", ["inactive", "right", "password", "deleted"])
def test_rights_that_end_close_the_socket(checked_often: None, monkeypatch: pytest.MonkeyPatch, credentials: str, change: str) -> None:
    somebody = user("runs.view")
    User.objects.create_user("another")  # so that local mode does not begin again
    headers = basic() if credentials == "password" else {"origin": ORIGIN, **cookie(somebody)}
    before_the_second_check(monkeypatch, lambda: take_away(somebody, change))

    assert lost(Visit(headers, stays=True).run())


@pytest.mark.parametrize("change", ["inactive", "right", "password", "deleted", "token", "expired"])
def test_a_token_opens_the_socket_until_it_ends(checked_often: None, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    somebody = user("runs.view")
    User.objects.create_user("another")
    token, secret = tokens.issue(somebody, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1), scopes=["runs.view"])

    def end() -> None:
        if change == "token":
            token.delete()
        elif change == "expired":
            ApiToken.objects.update(expires_at=token.created_at)
        else:
            take_away(somebody, change)

    before_the_second_check(monkeypatch, end)
    assert lost(Visit({"authorization": f"Bearer {secret}"}, stays=True).run())


def test_a_token_narrowed_to_something_else_opens_no_socket() -> None:
    somebody = user("runs.view", "pipelines.view")
    _, secret = tokens.issue(somebody, ApiToken.Kind.NAMED, "t", lasts=timedelta(days=1), scopes=["pipelines.view"])
    assert Visit({"authorization": f"Bearer {secret}"}).run().status == 403
    assert Visit({"authorization": f"Bearer {secret}0"}).run().status == 401


def before_the_second_check(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """The first check finds nothing changed."""
    before_checks(monkeypatch, {2: act})


def before_checks(monkeypatch: pytest.MonkeyPatch, acts: dict[int, Callable[[], object]]) -> None:
    """By the number of the check."""
    original, checks = handshakes.still_admitted, itertools.count(1)

    def act_and_leave(act: Callable[[], object]) -> None:
        try:
            act()
        finally:
            connection.close()

    async def still_admitted(*arguments: Any) -> bool:
        if act := acts.get(next(checks)):
            await asyncio.to_thread(act_and_leave, act)
        return await original(*arguments)

    monkeypatch.setattr(consumers, "still_admitted", still_admitted)


def take_away(somebody: User, change: str) -> None:
    if change == "inactive":
        User.objects.filter(pk=somebody.pk).update(is_active=False)
    elif change == "right":
        somebody.user_permissions.clear()
    elif change == "password":
        somebody.set_password("another long one")
        somebody.save()
    else:
        User.objects.filter(pk=somebody.pk).delete()


def test_the_first_user_ends_local_sockets(checked_often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before_the_second_check(monkeypatch, lambda: User.objects.create_user("first"))

    assert lost(Visit(stays=True).run())


@pytest.mark.parametrize("credentials", ["session", "password", "none"])
def test_a_database_that_is_away_ends_no_socket(checked_often: None, monkeypatch: pytest.MonkeyPatch, credentials: str) -> None:
    """It says nothing about anybody: not that the client may stay, and not that it must go."""
    headers = {}
    if credentials != "none":
        somebody = user("runs.view")
        headers = basic() if credentials == "password" else {"origin": ORIGIN, **cookie(somebody)}
    seen: list[str] = []

    def go_away() -> None:
        rename("auth_user", "auth_away")

    def come_back() -> None:
        seen.append("still there")
        rename("auth_away", "auth_user")
        User.objects.create_user("another")
        User.objects.filter(username="somebody").update(is_active=False)

    before_checks(monkeypatch, {2: go_away, 4: come_back})
    try:
        assert lost(Visit(headers, stays=True).run())
        assert seen == ["still there"]
    finally:
        if "auth_away" in connection.introspection.table_names():
            rename("auth_away", "auth_user")


def rename(table: str, to: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {to}")


# --- faults of ours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["_read", "still_admitted"])
def test_a_fault_of_ours_ends_the_socket_and_leaves_no_client_waiting(checked_often: None, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """A client that would hear nothing any more, or whose rights nobody would look at any more."""
    accept_run()

    async def break_down(*_: object) -> None:
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(consumers, part, break_down)

    assert Visit(query="since=0", stays=True).run().code == 1011


# --- messages -----------------------------------------------------------------------------------------------------


def test_a_bad_message_is_answered_and_ends_the_socket() -> None:
    for text in ("{", '{"subscribe": {"runid": 1}}', "[]"):
        visit = Visit(sent=(text,), stays=True).run()
        assert (visit.code, visit.texts[0]["type"]) == (1008, "error")
        assert "Accepted is" in visit.texts[0]["message"]
