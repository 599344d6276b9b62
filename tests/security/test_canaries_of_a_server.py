"""What a real server and its worker are told in secret — credentials of pipelines, passwords, tokens — is in nothing that they say or keep."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
import requests
from django.contrib.auth.models import User
from django.db import connection
from websockets.sync.client import ClientConnection, connect

from pipelines.models import Pipeline
from runs.models import Run
from tests.conftest import StartServer
from tests.programs import Server, wait_for
from tests.receivers import answer, receiver
from tests.security.canaries import Watch, canary
from tests.security.test_canaries import NODES, OPTION, OUTSIDE, PASSWORD, VARIABLE, answers

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

ADMIN, OTHER, CRASH = (canary(name) for name in ("password of the administrator", "password of another", "body of what crashes"))
GIVEN = Watch(VARIABLE, PASSWORD, OPTION, OUTSIDE, ADMIN, OTHER, CRASH)
RUN = {"cast", "straddling", "prints", "raises", "http", "db"}  # of `NODES`
ENDS = {"run.completed", "run.failed"}


@dataclass
class Answer:
    """What `answers` reads of one."""

    content: bytes
    streaming: bool = False


@dataclass
class Person:
    """The API of a real server, for somebody with this token. `said` is what it answered so far, but where a secret belongs into the answer."""

    server: Server
    token: str = ""
    said: dict[str, bytes] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any) -> requests.Response:
        """An answer that may hold no secret."""
        found = self.ask_secret(method, path, body, headers, **options)
        self.said[f"{next(self._numbers)} {method} {re.sub('[^a-z/-]', '', path)} {found.status_code}"] = found.content + str(found.headers).encode()
        return found

    def ask_secret(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any) -> requests.Response:
        """One that shows a secret this once, or repeats what was typed."""
        sent = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        named = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {}) | dict(headers or {})
        return requests.request(method, self.server.url + path, data=sent, headers=named, timeout=30, **options)

    def get(self, path: str) -> Answer:
        return Answer(self.ask_secret("GET", path).content)

    def listen(self, query: str = "") -> ClientConnection:
        return connect(f"ws://localhost:{self.server.port}/api/ws{query}", additional_headers={"Authorization": f"Bearer {self.token}"})


def test_what_a_server_is_told_in_secret_is_told_by_nothing(start_server: StartServer) -> None:
    with receiver(answer(201)) as collector:
        server = start_server(BROKOLI_LOG_FORMAT="json", BROKOLI_LOG_LEVEL="DEBUG", BROKOLI_CREDENTIAL_FAR=OUTSIDE, OPENLINEAGE_URL=collector.url(""))
        stranger = Person(server)
        made = stranger.ask_secret("POST", "/api/auth/setup", {"username": "ada", "password": ADMIN})
        assert made.status_code == 201, made.text
        ada = Person(server, made.json()["token"])
        store(ada)
        pipelines = [save(ada, node) for node in NODES if node["id"] in RUN]
        frames, runs = run_all(ada, pipelines)
        issued = issue(ada, pipelines[0])
        use(ada, pipelines)
        crash(ada)
        mistake(stranger, pipelines[0], issued)
        told_outside = wait_for(lambda: [one.body for one in collector.received] if len(collector.received) >= 2 * len(runs) else [])

        texts: dict[str, str | bytes] = {f"frame {number}": frame for number, frame in enumerate(frames)}
        texts |= {f"lineage {number}": event for number, event in enumerate(told_outside)}
        texts |= {"processes": "\n".join(commands_of(server))} | dict(answers(ada, pipelines[:2], runs[:2], only_reads=True))  # type: ignore[arg-type]
        for page in ("", "auth/user/", "accounts/apitoken/", "axes/accessattempt/", "system/auditentry/", "pipelines/", "runs/logentry/"):
            texts[f"admin {page}"] = requests.get(f"{server.url}/admin/{page}", cookies={"sessionid": issued["session"]}, timeout=30).content
        texts |= ada.said | stranger.said | dict(tables())
        texts["log"] = server.output
    taken = Watch(ada.token, *issued.values(), piece=12)
    assert {where: what for where, text in texts.items() if (what := GIVEN.seen(text) + taken.seen(text))} == {}
    # What was looked through is what it should be.
    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    assert {"run ended", "request"} <= {line["event"] for line in lines} and {"debug", "error"} <= {line["level"] for line in lines}
    assert "Traceback" in server.output and "IntegrityError" in server.output
    assert b"***" in b"".join(frame.encode() for frame in frames) and b"***" in b"".join(told_outside)


def store(ada: Person) -> None:
    """Credentials of pipelines."""
    web = {"conn_id": "web", "type": "http", "host": "127.0.0.1", "port": 9, "password": PASSWORD, "extra": {"headers": {"X-Key": OPTION}}}
    for path, body in (
        ("variables", {"key": "token", "type": "secret", "value": VARIABLE}),
        ("variables", {"key": "far", "type": "secret", "value": "env://BROKOLI_CREDENTIAL_FAR"}),
        ("connections", {"conn_id": "warehouse", "type": "postgres", "host": "127.0.0.1", "port": 9, "login": "ada", "password": PASSWORD}),
        ("connections", web),
    ):
        assert ada.ask("POST", f"/api/{path}", body).status_code == 201


def save(ada: Person, node: Mapping[str, Any]) -> Pipeline:
    document = {"name": f"Sweep-{node['id']}", "pipeline_id": f"sweep-{node['id']}", "nodes": [node], "edges": []}
    made = ada.ask("POST", "/api/pipelines", document)
    assert made.status_code == 201, made.text
    return Pipeline.objects.get(id=made.json()["id"])


def run_all(ada: Person, pipelines: list[Pipeline]) -> tuple[list[str], list[Run]]:
    """The runs, and what the event stream tells of them: as they happen, and again from the beginning."""
    frames: list[str] = []

    def ends(socket: ClientConnection) -> None:
        ended = 0
        while ended < len(pipelines):
            frames.append(str(socket.recv(timeout=60)))
            ended += json.loads(frames[-1])["type"] in ENDS

    with ada.listen() as live:
        started = [ada.ask("POST", f"/api/pipelines/{pipeline.id}/run") for pipeline in pipelines]
        assert {one.status_code for one in started} == {202}
        ends(live)
    with ada.listen("?since=0") as again:
        ends(again)
    return frames, [Run.objects.get(id=one.json()["id"]) for one in started]


def issue(ada: Person, pipeline: Pipeline) -> dict[str, str]:
    """What lets somebody in, by its kind, each used once."""
    logged_in = ada.ask_secret("POST", "/api/auth/login", {"username": "ada", "password": ADMIN}).json()["token"]
    named = ada.ask_secret("POST", "/api/auth/tokens", {"name": "nightly", "scopes": ["runs.view"]}).json()["token"]
    webhook = ada.ask_secret("POST", f"/api/pipelines/{pipeline.id}/webhook-token").json()["webhook_token"]
    for token in (logged_in, named):
        assert ada.ask("GET", "/api/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert ada.ask("POST", f"/api/pipelines/{pipeline.id}/webhook", {}, {"X-Webhook-Token": webhook}).status_code == 202
    with requests.Session() as browser:
        browser.get(f"{ada.server.url}/login", timeout=30)
        form = {"username": "ada", "password": ADMIN, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post(f"{ada.server.url}/login", data=form, timeout=30)
        session = browser.cookies["sessionid"]
        assert browser.get(f"{ada.server.url}/api/auth/me", timeout=30).json()["via"] == "session"
    assert ada.ask("GET", "/api/auth/me", headers={"Authorization": ""}, auth=("ada", ADMIN)).status_code == 200
    return {"login": logged_in, "named": named, "webhook": webhook, "session": session}


def use(ada: Person, pipelines: list[Pipeline]) -> None:
    """Dry runs, tests of connections, changes of users, and what of it is refused."""
    for pipeline in pipelines:
        ada.ask("POST", f"/api/pipelines/{pipeline.id}/dry-run")
    for name in ("warehouse", "web"):
        ada.ask("POST", f"/api/connections/{name}/test")
    ada.ask("PATCH", "/api/connections/web", {"host": "evil.example"})
    ada.ask("PATCH", "/api/connections/web", {"port": VARIABLE, "password": [OTHER]})
    other = ada.ask("POST", "/api/users", {"username": "bob", "password": OTHER, "roles": ["viewer"]})
    assert other.status_code == 201, other.text
    ada.ask("POST", "/api/users", {"username": "bob", "password": OTHER, "roles": ["viewer"]})
    ada.ask("POST", "/api/users", {"username": "eve", "password": OTHER[:7], "roles": ["viewer"]})
    ada.ask("POST", "/api/users", {"username": "eve", "password": [OTHER], "roles": ["nobody"]})
    ada.ask("PATCH", f"/api/users/{other.json()['id']}", {"password": f"{OTHER}!"})
    ada.ask("POST", "/api/auth/password", {"current_password": OTHER, "new_password": ADMIN})
    ada.ask("POST", "/api/auth/setup", {"username": "eve", "password": OTHER})
    assert User.objects.count() == 2


def crash(ada: Person) -> None:
    """Errors that nobody foresaw, in requests that bring a secret."""
    with broken_log(("variable.updated", "connection.updated", "user.updated")):
        found = [
            ada.ask("PATCH", "/api/variables/token", {"value": CRASH}),
            ada.ask("PATCH", f"/api/connections/web?debug={CRASH[:20]}", {"password": CRASH}),
            ada.ask("PATCH", "/api/connections/web", {"password": CRASH, "extra": {"headers": {"X-Key": CRASH}}}),
        ]
    assert {one.status_code for one in found} >= {500}, [one.text for one in found]
    assert "problem" in found[0].headers["Content-Type"]


@contextmanager
def broken_log(actions: tuple[str, ...]) -> Iterator[None]:
    """The database refuses these entries of the audit log. PostgreSQL tells of the whole row then."""
    table, listed = "system_auditentry", ", ".join(f"'{action}'" for action in actions)
    if connection.vendor == "postgresql":
        make = f"ALTER TABLE {table} ADD CONSTRAINT canary_crash CHECK (action NOT IN ({listed})) NOT VALID"
        undo = f"ALTER TABLE {table} DROP CONSTRAINT canary_crash"
    else:
        make = f"CREATE TRIGGER canary_crash BEFORE INSERT ON {table} WHEN NEW.action IN ({listed}) BEGIN SELECT RAISE(ABORT, 'refused'); END"
        undo = "DROP TRIGGER canary_crash"
    with connection.cursor() as cursor:
        cursor.execute(make)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(undo)


def mistake(stranger: Person, pipeline: Pipeline, issued: Mapping[str, str]) -> None:
    """Secrets where they do not belong: as a name, in an address, cut off, under another scheme."""
    token, letters = issued["named"], ADMIN[:20]
    for body in (
        {"username": ADMIN, "password": "x"},
        {"username": "ada", "password": ADMIN[:-1]},
        {"username": "ada", "password": {"is": ADMIN}},
        {"username": [ADMIN], "password": ADMIN},
        {"username": "ada"},
        f'{{"username": "ada", "password": "{letters}',
        json.dumps([ADMIN]),
        json.dumps(ADMIN),
    ):
        stranger.ask("POST", "/api/auth/login", body)
    stranger.ask_secret("POST", "/api/auth/login", {ADMIN: "x", "username": "ada", "password": "x"})
    stranger.ask("GET", "/api/runs", auth=(ADMIN, ""))
    stranger.ask("GET", "/api/runs", auth=("ada", f"{ADMIN}x"))
    for header in (f"Bearer {letters}", f"Bearer {token}x", f"Token {token}", f"Basic {token}", token):
        stranger.ask("GET", "/api/runs", headers={"Authorization": header})
    cookie = f"sessionid={issued['session']}x; csrftoken={letters}"
    stranger.ask("GET", "/api/runs", headers={"Cookie": cookie, "User-Agent": letters, "Referer": letters})
    stranger.ask("GET", f"/api/runs?token={token}&password={letters}")
    for path in (f"/api/users/{letters}", f"/nowhere/{token}", f"/api/pipelines/{letters}/webhook", f"/login?next=/{letters}"):
        stranger.ask_secret("GET", path)
        stranger.ask_secret("POST", path, {"password": letters})
    webhook = f"/api/pipelines/{pipeline.id}/webhook"
    for headers in ({"X-Webhook-Token": f"{issued['webhook']}x"}, {"X-Hub-Signature-256": f"sha256={letters}"}, {"X-Webhook-Token": letters}):
        stranger.ask("POST", webhook, {}, headers)
    stranger.ask_secret("POST", f"{webhook}?token={issued['webhook']}", {})
    with requests.Session() as browser:
        browser.get(f"{stranger.server.url}/login", timeout=30)
        for name in (ADMIN, "ada"):
            form = {"username": name, "password": f"{ADMIN}!", "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            browser.post(f"{stranger.server.url}/login", data=form, timeout=30)
    requests.get(f"{stranger.server.url}/api/ws?token={token}", headers={"Connection": "Upgrade", "Upgrade": "websocket"}, timeout=30)


def commands_of(server: Server) -> Iterator[str]:
    for process in server.processes():
        try:
            yield " ".join(process.cmdline())
        except psutil.Error:
            continue


def tables() -> Iterator[tuple[str, str]]:
    """All that the database holds."""
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            yield f"table {table}", str(cursor.fetchall())
