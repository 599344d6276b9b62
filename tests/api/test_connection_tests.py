"""Connections are tested against real servers on loopback: what is found, what goes wrong in words, and how long it may take."""

import base64
import contextlib
import hashlib
import hmac
import io
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paramiko
import pytest
from django.test import Client

from brokoli_site.common.addresses import Allowed
from pipelines import connection_tests, probes
from tests import sftp
from tests.patience import within
from tests.servers import Database

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

CANARY = "canary-0b5e"


@pytest.fixture(autouse=True)
def loopback(settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.0/8")


def test_of(api: Client, **fields: Any) -> dict[str, Any]:
    """What is said of a draft; of the same connection, saved, it must be the same."""
    draft = api.post("/api/connections/test", json.dumps(fields), content_type="application/json")
    assert draft.status_code == 200, draft.content
    made = api.post("/api/connections", json.dumps({**fields, "conn_id": f"c{time.monotonic_ns()}"}), content_type="application/json")
    stored = api.post(made["Location"] + "/test", b"", content_type="application/json")
    found: dict[str, Any] = draft.json()
    assert found.keys() == {"ok", "message", "latency_ms", "server"}
    again = stored.json() | {"message": stored.json()["message"].replace(made.json()["conn_id"], "draft")}
    assert [again[key] for key in ("ok", "message", "server")] == [found[key] for key in ("ok", "message", "server")]
    assert CANARY not in draft.content.decode() + stored.content.decode()
    return found


test_of.__test__ = False  # type: ignore[attr-defined]


@contextmanager
def web(answer: Any) -> Iterator[int]:
    """An HTTP server whose answers `answer(handler) -> (status, body)` gives."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "Loopback/1", ""

        def do_GET(self) -> None:
            status, body = answer(self)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_http(api: Client) -> None:
    def answer(request: Any) -> tuple[int, bytes]:
        given = request.headers.get("Authorization", "")
        team = request.headers.get("X-Team") == "a-team-of-ours"
        right = (f"Bearer {CANARY}", "Basic " + base64.b64encode(f"ada:{CANARY}".encode()).decode())
        return {"/v1/": 404, "/ill/": 500}.get(request.path, 200 if given in right and team else 401), b""

    headers = {"headers": {"X-Team": "a-team-of-ours"}}
    with web(answer) as port:
        base = {"type": "http", "host": "127.0.0.1", "port": port, "schema": "http"}
        found = test_of(api, **base, extra={"token": CANARY, **headers})
        assert (found["ok"], found["message"], found["server"]) == (True, "The server answers 200.", "Loopback/1")
        assert test_of(api, **base, login="ada", password=CANARY, extra=headers)["ok"] is True
        assert "does not accept the credentials" in test_of(api, **base, login="ada", password="wrong-" + CANARY)["message"]
        assert test_of(api, type="http", host=f"http://127.0.0.1:{port}/v1")["message"].startswith("The server answers 404 at its base URL")
        assert test_of(api, type="http", host=f"http://127.0.0.1:{port}/ill")["ok"] is False


def signature(request: Any, secret_key: str) -> str:
    """As the store computes it: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""
    parts = dict(part.strip().split("=", 1) for part in request.headers["Authorization"].split(" ", 1)[1].split(","))
    scope = parts["Credential"].split("/", 1)[1]
    path, _, query = request.path.partition("?")
    names = parts["SignedHeaders"].split(";")
    canonical = ["GET", path, "&".join(sorted(query.split("&"))), *(f"{name}:{request.headers[name].strip()}" for name in names), "", ";".join(names)]
    canonical.append(request.headers["x-amz-content-sha256"])
    to_sign = ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()]
    key = b"AWS4" + secret_key.encode()
    for part in (*scope.split("/"), "\n".join(to_sign)):
        key = hmac.digest(key, part.encode(), "sha256")
    assert parts["Signature"]
    return key.hex() if key.hex() == parts["Signature"] else ""


def test_s3(api: Client) -> None:
    def answer(request: Any) -> tuple[int, bytes]:
        if not signature(request, CANARY):
            return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        assert "/eu-north-1/s3/" in request.headers["Authorization"]
        return (200, b"<x/>") if request.path in ("/", "/lake?list-type=2&max-keys=1") else (404, b"<Error><Code>NoSuchBucket</Code></Error>")

    with web(answer) as port:
        base = {"type": "s3", "host": f"http://127.0.0.1:{port}", "login": "AKIA", "extra": {"region": "eu-north-1"}}
        assert test_of(api, **base, password=CANARY, schema="lake") | {"latency_ms": 0} == {
            "ok": True,
            "message": "The bucket 'lake' can be listed.",
            "latency_ms": 0,
            "server": "Loopback/1",
        }
        assert test_of(api, **base, password=CANARY)["message"] == "The store lists its buckets."
        assert test_of(api, **base, password=CANARY, schema="sea")["message"] == "There is no bucket 'sea' at this endpoint."
        assert test_of(api, **base, password="wrong-" + CANARY)["message"] == "The secret access key is not the right one."


def test_sftp(api: Client, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("x")
    key, text = paramiko.ECDSAKey.generate(), io.StringIO()
    key.write_private_key(text, password=CANARY)
    with sftp.running(tmp_path, CANARY, key) as server:
        base = {"type": "sftp", "host": "127.0.0.1", "port": server.port, "login": "ada"}
        known = {"host_key": server.line}
        found = test_of(api, **base, password=CANARY, schema="/in", extra=known)
        assert (found["ok"], found["message"]) == (True, "Logged in; the folder '/in' is there.")
        assert found["server"].startswith("SSH-2.0-paramiko")
        assert test_of(api, **base, password=CANARY, extra={"host_key": "any"})["ok"] is True
        assert test_of(api, **base, extra={**known, "private_key": text.getvalue(), "passphrase": CANARY})["ok"] is True
        assert "cannot be read" in test_of(api, **base, extra={**known, "private_key": text.getvalue(), "passphrase": "no"})["message"]
        assert "does not accept" in test_of(api, **base, password="wrong-" + CANARY, extra=known)["message"]
        assert "is no folder" in test_of(api, **base, password=CANARY, schema="/file", extra=known)["message"]
        assert "is not there" in test_of(api, **base, password=CANARY, schema="/out", extra=known)["message"]


def test_a_server_whose_key_is_not_known_gets_no_password(api: Client, tmp_path: Path) -> None:
    with sftp.running(tmp_path, CANARY) as server, sftp.running(tmp_path, CANARY) as other:
        base = {"type": "sftp", "host": "127.0.0.1", "port": server.port, "login": "ada", "password": CANARY}
        unknown = test_of(api, **base)
        assert unknown["ok"] is False and "is not known: ecdsa-sha2-nistp256 SHA256:" in unknown["message"]
        shown = unknown["message"].split("SHA256:")[1].split(".")[0]
        assert test_of(api, **base, extra={"host_key": f"SHA256:{shown}"})["ok"] is True
        assert "shows another key" in test_of(api, **base, extra={"host_key": other.line})["message"]


@pytest.mark.parametrize(
    "fields", [{"type": "http", "schema": "http"}, {"type": "s3", "schema": "lake"}, {"type": "sftp"}], ids=lambda fields: fields["type"]
)
def test_no_address_is_reached_that_the_operator_does_not_allow(api: Client, settings: Any, fields: dict[str, Any]) -> None:
    settings.ALLOWED_NETWORKS = Allowed()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = test_of(api, host="127.0.0.1", port=listener.getsockname()[1], **fields)
        assert (found["ok"], "BROKOLI_ALLOWED_NETWORKS" in found["message"]) == (False, True)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("kind", ["http", "s3", "sftp", "postgres", "mysql"])
def test_a_server_that_says_nothing_is_given_up(api: Client, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(connection_tests, "SECONDS", 0.5)
    probes.probe_of(kind)  # its drivers are imported by now
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        body = {"type": kind, "host": "127.0.0.1", "port": listener.getsockname()[1], "schema": "http" if kind == "http" else ""}
        found = api.post("/api/connections/test", json.dumps(body), content_type="application/json").json()
        assert found["ok"] is False and time.monotonic() - started < within(5)


def test_so_many_at_the_same_time_and_no_more(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_tests, "_places", threading.BoundedSemaphore(1))
    body = json.dumps({"type": "http", "host": "127.0.0.1", "port": 1, "schema": "http"})
    with connection_tests._places:
        assert api.post("/api/connections/test", body, content_type="application/json").status_code == 503
    assert api.post("/api/connections/test", body, content_type="application/json").json()["ok"] is False


def test_a_secret_that_cannot_be_had_is_told(api: Client) -> None:
    body = {"type": "http", "host": "127.0.0.1", "password": "env://BROKOLI_CREDENTIAL_NONE"}
    found = api.post("/api/connections/test", json.dumps(body), content_type="application/json").json()
    assert found["ok"] is False and "no such variable" in found["message"]


def test_sqlite(api: Client, settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIRS = (tmp_path,)
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("CREATE TABLE t (x)")
    (tmp_path / "text.db").write_text("no database at all, but a text that is long enough " * 20)
    found = test_of(api, type="sqlite", host="shop.db")
    assert found["ok"] is True and found["server"].startswith("SQLite 3.")
    for wrong in ("missing.db", "../x.db", "text.db"):
        assert test_of(api, type="sqlite", host=wrong)["ok"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.db", "text.db"]


def test_postgres(api: Client, postgres_database: Database) -> None:
    check_server(api, postgres_database, "PostgreSQL ")


def test_mariadb(api: Client, mariadb_database: Database) -> None:
    check_server(api, mariadb_database, "MariaDB ")


def check_server(api: Client, database: Database, software: str) -> None:
    fields = {"type": database.type, "host": database.host, "port": database.port, "schema": database.name, "login": database.login}
    found = test_of(api, **fields, password=database.password)
    assert (found["ok"], found["message"]) == (True, "Logged in; the database answers."), found
    assert found["server"].startswith(software)
    assert database.others() == 0, "the connection stays open"
    scheme = {"postgres": "postgresql", "mysql": "mysql"}[database.type]
    url = f"{scheme}://{database.host}:{database.port}/{database.name}"
    assert test_of(api, type="generic", host=url, login=database.login, password=database.password)["server"].startswith(software)
    assert "did not accept the login or the password" in test_of(api, **fields, password=CANARY)["message"]
    assert test_of(api, **{**fields, "schema": "nowhere"}, password=database.password)["ok"] is False
    closed = test_of(api, **{**fields, "port": 9}, password=database.password)
    assert closed["ok"] is False and "refused the connection" in closed["message"]
