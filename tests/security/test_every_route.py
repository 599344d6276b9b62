"""Every route, asked by everybody, with every method: the answers are those of the table (`route_table.py`), and nothing else happens."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import URLPattern

from brokoli_site.common.api import ApiView
from runs.routing import websockets
from tests.security.route_table import CALLERS, ROLES, TOKEN_SCOPES, Line, lines
from tests.security.route_walk import METHODS, Route, routes
from tests.security.route_world import NOTHING, SENT, World, bearer, build, client_of, make_user, permissions
from tests.security.test_event_socket import Visit

pytestmark = pytest.mark.any_database

# Signed in is enough: it is the description of the API, or of what the server understands, and the same for everybody.
FOR_ANYBODY_SIGNED_IN = {"/api/schema", "/api/docs", "/api/capabilities"}
# Proves who it is by what it sends.
FOR_STRANGERS = {"/api/pipelines/{pipeline_id}/webhook", "/api/auth/login"}
# About whoever asks; strangers are told to log in, but for whether there is anybody yet.
OF_ONES_OWN = {f"/api/auth/{name}" for name in ("logout", "me", "me/permissions", "password", "setup", "tokens", "tokens/{token_id}")}
# Written down whether it is let in or not: who failed to log in how often, when a session or a token was used.
NOTED = re.compile(r'(INTO|UPDATE|FROM) "?(django_session|axes_\w+|accounts_\w+|system_audit\w*)"?\b')
# Of these, and of pages, only one caller of each answer is asked: it takes long to make.
COSTLY = {"GET /api/schema", "GET /api/node-types", "GET /metrics", "GET /health"}
FOREIGN = ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"x-forwarded-for": "192.0.2.1"})
TABLE = {line.name: line for line in lines()}
ROUTES = list(routes())


def is_page(address: str) -> bool:
    return not address.startswith(("/api", "/health", "/metrics"))


class Sweep:
    """Asks, and keeps what went wrong, so that one run tells all of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults: list[str] = []
        self.asked = 0

    def ask(self, who: str, client: Client, name: str, expected: Sequence[int], *, keeps: bool, **headers: str) -> Any:
        """One request, undone afterwards. `keeps`: it must not change anything."""
        method, address = name.split()
        sent = SENT.get(name.replace("HEAD ", "GET "), NOTHING)
        target = self.world.address(address, sent)
        form = is_page(address)
        kind, body = ("application/x-www-form-urlencoded", "") if form else ("application/json", json.dumps({} if sent.body is None else sent.body))
        cookies = dict(client.cookies)
        self.asked += 1
        with undone(method), writes() as written:
            response = client.generic(method, target, b"" if method in ("GET", "HEAD") else body.encode(), content_type=kind, headers=headers)
            content = b"".join(response) if response.streaming else response.content
        client.cookies.clear()
        client.cookies.update(cookies)
        if response.status_code not in expected:
            told = content[:200].decode(errors="replace") if response.get("Content-Type", "").endswith("json") else ""
            self.faults.append(f"{who}: {name} is answered {response.status_code}, not {' or '.join(map(str, expected))}. {told}")
        if keeps and written:
            self.faults.append(f"{who}: {name} is refused, and writes: {written[0][:200]}")
        if seen := self.world.watch.seen(content) + self.world.watch.seen(str(response.headers)):
            self.faults.append(f"{who}: {name} tells a secret: {seen[0]!r}")
        if method == "HEAD" and content:
            self.faults.append(f"{who}: {name} has a body")
        if response.status_code == 401 and (response.get("Content-Type", "") != "application/problem+json" or not response.get("WWW-Authenticate")):
            self.faults.append(f"{who}: {name} does not say in a problem how to log in")
        return response


@contextmanager
def undone(method: str) -> Iterator[None]:
    """What a request changes is not there for the next. Those that only read find no transaction around them, as in the server."""
    if method in ("GET", "HEAD", "OPTIONS"):
        yield
        return
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@contextmanager
def writes() -> Iterator[list[str]]:
    """The statements that change what is stored, save those of `NOTED`."""
    found: list[str] = []

    def see(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("INSERT", "UPDATE", "DELETE")) and not NOTED.search(sql):
            found.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(see):
        yield found


def test_every_route_stands_in_the_table_and_every_line_is_of_a_route() -> None:
    there = {f"{method} {route.address}": route for route in ROUTES for method in route.methods}
    missing = [
        f"{name} has no line in tests/security/route_table.py: say there who gets what answer." for name in sorted(there.keys() - TABLE.keys())
    ]
    idle = [f"{name} stands in tests/security/route_table.py and is no route." for name in sorted(TABLE.keys() - there.keys()) if not has_none(name)]
    wrong = [
        f"{name} asks for the right {named or 'of nobody'}, and the table says {TABLE[name].right or 'none'}."
        for name, route in sorted(there.items())
        if name in TABLE and (named := route.right(name.split()[0]) or "") != TABLE[name].right
    ]
    assert missing + idle + wrong == []
    assert sum(1 for _ in lines()) == len(TABLE), "a call stands in the table twice"


def has_none(name: str) -> bool:
    return TABLE[name].beside or name.startswith("WS ")


def test_every_view_of_the_api_refuses_what_names_no_right() -> None:
    ours = [route for route in ROUTES if route.address.startswith("/api/")]
    unnamed = {route.address for route in ours for method in route.methods if not route.right(method)}
    assert unnamed == FOR_ANYBODY_SIGNED_IN | FOR_STRANGERS | OF_ONES_OWN
    assert {route.address for route in ours if not issubclass(route.view, ApiView)} == {"/api/schema", "/api/docs"}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of lines of access are made and read by nobody otherwise."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
def test_everybody_gets_the_answers_of_the_table() -> None:
    sweep = Sweep(build())
    callers = {"stranger": client_of(), "nobody": client_of(make_user("nobody"))}
    callers |= {role: client_of(make_user(role, roles=[role])) for role in ROLES}
    callers["token"] = bearer(make_user("owner", roles=["admin"]), *TOKEN_SCOPES)
    for line in TABLE.values():
        if line.method == "WS":
            continue
        for who in asked_of(line):
            sweep.ask(who, callers[who], line.name, [line.statuses[who]], keeps=line.refuses(who))
    sweep_methods(sweep, callers)
    sweep_rights(sweep)
    sweep_forgeries(sweep)
    sweep_sockets(sweep, callers)
    sweep_local_mode(sweep)
    assert not sweep.faults, "\n".join(sweep.faults)
    assert sweep.asked > len(TABLE) * 6


def asked_of(line: Line) -> list[str]:
    """Everybody; but where an answer takes long to make, of those who are answered alike only the least."""
    if line.name not in COSTLY and not is_page(line.address):
        return list(CALLERS)
    return [who for place, who in enumerate(CALLERS) if line.statuses[who] not in [line.statuses[lesser] for lesser in CALLERS[:place]]]


def sweep_methods(sweep: Sweep, callers: dict[str, Client]) -> None:
    """HEAD as GET; what is not declared does nothing."""
    for route in ROUTES:
        get = TABLE.get(f"GET {route.address}")
        for who in ("stranger", "nobody", "admin"):
            if get and get.name not in COSTLY and not (is_page(route.address) and who != "stranger"):
                sweep.ask(who, callers[who], f"HEAD {route.address}", [get.statuses[who]], keeps=get.refuses(who))
            for method in others(route, who):
                sweep.ask(who, callers[who], f"{method} {route.address}", undeclared(route, who, method), keeps=True)


def others(route: Route, who: str) -> list[str]:
    """Methods that are not declared: all for who may do most, one for the rest; of pages, which are functions, what looks like a deletion."""
    if is_page(route.address):
        return ["DELETE"] if who == "nobody" else []
    found = [method for method in ("OPTIONS", *METHODS, "PROPFIND") if method not in route.methods]
    return found if who == "admin" else [found[len(route.address) % len(found)]]


def undeclared(route: Route, who: str, method: str) -> list[int]:
    """What may be answered to a method that the table does not have."""
    if is_page(route.address):
        return [200, 302, 403, 404, 405]  # a function of the admin decides; it must not do anything
    if route.address in FOR_STRANGERS:
        return [404, 405] if method != "OPTIONS" else [200, 401, 403, 404, 405]
    if who == "stranger":
        return [401, 405]
    if method == "OPTIONS":
        return [200, 403, 405]
    return [405] if issubclass(route.view, ApiView) else [403, 405]


def sweep_rights(sweep: Sweep) -> None:
    """A call opens with its right, and all other rights together do not open it."""
    known = permissions()
    rights = sorted({line.right for line in TABLE.values() if line.right})
    for right in rights:
        others = client_of(make_user(f"all but {right}", rights=[found for name, found in known.items() if name != right]))
        alone = client_of(make_user(f"only {right}", rights=[known[right]]))
        for line in TABLE.values():
            if line.right != right or line.name in COSTLY or line.method == "WS":
                continue
            sweep.ask(f"all but {right}", others, line.name, [403], keeps=True)
            served = sorted({status for who, status in line.statuses.items() if not line.refuses(who)})
            # What asks for more than one right is refused to one alone.
            sweep.ask(f"only {right}", alone, line.name, [*served, 403] if line.name in ASKS_FOR_MORE else served, keeps=False)


# Asks for one of two more rights; `tests/api/test_dry_runs.py` and `test_connection_routes.py` have who may.
ASKS_FOR_MORE = {"POST /api/pipelines/dry-run", "POST /api/connections/test"}


def sweep_forgeries(sweep: Sweep) -> None:
    """A page of somebody else's that makes a browser post: no change goes by a session without the token of its forms."""
    strict = client_of(make_user("root", roles=["admin"]), strict=True)
    for line in TABLE.values():
        if line.method in METHODS[1:] and line.address not in FOR_STRANGERS and not line.beside:
            sweep.ask("forged", strict, line.name, [403], keeps=True)


def sweep_sockets(sweep: Sweep, callers: dict[str, Client]) -> None:
    """Through the whole application for WebSockets: who is let in, and that no address has another one."""
    patterns = [found for found in websockets(None).routes if isinstance(found, URLPattern)]  # type: ignore[attr-defined, arg-type]
    assert [str(found.pattern) for found in patterns] == ["api/ws", ""]
    for who in CALLERS:
        session = callers[who].cookies.get("sessionid")
        token = callers[who].defaults.get("HTTP_AUTHORIZATION")
        headers = {"authorization": token} if token else {}
        if session:
            headers = {"cookie": f"sessionid={session.value}", "origin": "http://localhost:8080"}
        found = Visit(headers).run().status
        if found != (expected := TABLE["WS /api/ws"].statuses[who]):
            sweep.faults.append(f"{who}: the handshake of /api/ws is answered {found}, not {expected}")
        sweep.asked += 1
    assert Visit(path="/api/elsewhere").run().status == 404


def sweep_local_mode(sweep: Sweep) -> None:
    """While there is no user, pages of others and machines elsewhere are strangers."""
    User.objects.all().delete()
    foreign = client_of()
    for number, line in enumerate(TABLE.values()):
        if line.method == "WS" or line.name in COSTLY or line.address == "/admin/login/":
            continue
        for headers in FOREIGN if line.right == "runs.cancel" else FOREIGN[number % len(FOREIGN) :][:1]:
            sweep.ask(f"a page elsewhere {headers}", foreign, line.name, [line.statuses["stranger"]], keeps=line.refuses("stranger"), **headers)
