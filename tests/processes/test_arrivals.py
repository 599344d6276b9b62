"""Requests that come slowly, are too long, or have too many parts; and floods over sockets. Against the real server, with less patience."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from websockets.sync.client import connect

from tests.event_clients import PING, TEXT, EventClient
from tests.patience import within
from tests.programs import ROOT, environment, free_port, wait_for

pytestmark = [pytest.mark.any_database, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

# A second for a head, two for a body, and then 4 KiB each.
IMPATIENT = """
from brokoli_site import arrivals, web
arrivals.HEAD_SECONDS, arrivals.BODY_SECONDS, arrivals.CHECK_SECONDS = 1.0, 2.0, 0.1
web.main()
"""
HEAD = b"POST /api/pipelines HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The port and the process id of a web server that is served no worse than others, but has less patience."""
    port = free_port()
    command = [sys.executable, "-c", IMPATIENT, "--port", str(port), "--bind", "127.0.0.1", "--verbosity", "0", "brokoli_site.asgi:application"]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(port), what="the server to answer")
        yield port, process.pid
    finally:
        process.kill()
        process.wait(timeout=10)
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://localhost:{port}/livez", timeout=5).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False


def test_arrivals(server: tuple[int, int]) -> None:
    """One server for all, since it takes long to start."""
    port, pid = server
    slow_ones_are_cut_off(port)
    slow_answers_and_idle_clients_are_not(port)
    what_is_too_long_or_too_much_is_refused(port)
    sockets_hold_no_more_than_a_message(port)
    a_flood_of_pings_costs_nobody_else(port, pid)


def slow_ones_are_cut_off(port: int) -> None:
    never_ends = {
        "the first line": b"GET /" + b"a" * 100,
        "headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 100,
        "one header": b"GET / HTTP/1.1\r\nX-A: " + b"b" * 100,
        "a body": HEAD + b"Content-Length: 100000\r\n\r\n" + b" " * 1000,
        "a body in chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 200,
        "a second request": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /" + b"a" * 100,
    }
    clients = {}
    for name, text in never_ends.items():
        clients[name] = socket.create_connection(("127.0.0.1", port))
        clients[name].sendall(text[:-50])
    began = time.monotonic()
    rest = {name: text[-50:] for name, text in never_ends.items()}
    heard = dict.fromkeys(clients, b"")
    while open_ones := [name for name in clients if not heard[name].endswith(b"closed")]:
        assert time.monotonic() - began < within(15), f"still open: {open_ones}"
        for name in open_ones:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                clients[name].sendall(rest[name][:1])
            rest[name] = rest[name][1:] or b"x"
            heard[name] += received(clients[name])
        time.sleep(0.1)  # the pace of a client that is never silent
    for client in clients.values():
        client.close()
    assert {name: b" 408 " in text for name, text in heard.items()} == dict.fromkeys(heard, True)


def received(client: socket.socket) -> bytes:
    """What has come, with `closed` at the end of all."""
    client.settimeout(0)
    try:
        return client.recv(65536) or b"closed"
    except BlockingIOError:
        return b""
    except ConnectionResetError:
        return b"closed"
    finally:
        client.settimeout(10)


def slow_answers_and_idle_clients_are_not(port: int) -> None:
    session = requests.Session()
    assert session.get(f"http://localhost:{port}/livez", timeout=10).status_code == 200
    with socket.create_connection(("127.0.0.1", port)) as idle, connect(f"ws://localhost:{port}/api/ws"):
        body = b'{"name": "Slowly' + b" " * 60_000 + b'"}'

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(body), 2000):
                yield body[start : start + 2000]
                time.sleep(0.1)  # three seconds in all, at 20 KB each

        assert session.post(f"http://localhost:{port}/api/pipelines/validate", data=pieces(), timeout=20).status_code in (200, 415, 422)
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")


def what_is_too_long_or_too_much_is_refused(port: int) -> None:
    cases = {
        "a line of 17 KB": b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a header of 17 KB": b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 17_000 + b"\r\n\r\n",
        "headers of 20 KB": b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: aaaaaaaaaaaaaaaa\r\n" * 1000 + b"\r\n",
        "501 headers": b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 501 + b"\r\n",
        "two lengths": b"POST /api/pipelines HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        "a length and chunks": b"POST /api/pipelines HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a length that is none": b"POST /api/pipelines HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\n{}",
    }
    for name, text in cases.items():
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(10)
            heard = b""
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(text)
                while piece := client.recv(65536):
                    heard += piece
            assert not heard or heard.startswith(b"HTTP/1.1 400 "), (name, heard[:100])

    many = requests.get(f"http://localhost:{port}/api/runs?{'&'.join('a=' for _ in range(1001))}", timeout=10)
    assert (many.status_code, many.headers["Content-Type"]) == (400, "application/problem+json")
    deep = requests.post(f"http://localhost:{port}/api/pipelines", data=b"[" * 100_000, headers={"Content-Type": "application/json"}, timeout=10)
    assert (deep.status_code, deep.json()["code"]) == (400, "invalid_json")
    bomb = b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n"
    refused = requests.post(f"http://localhost:{port}/api/pipelines/import", data=bomb, headers={"Content-Type": "application/yaml"}, timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_yaml")


def sockets_hold_no_more_than_a_message(port: int) -> None:
    with connect(f"ws://localhost:{port}/api/ws", compression="deflate") as offered:
        assert "Sec-WebSocket-Extensions" not in offered.response.headers  # type: ignore[union-attr]  # nothing is ever unpacked
    with EventClient(port) as client:
        client.raw(frame(TEXT, b"{", last=False))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(80):
                client.raw(frame(0, b" " * 1000, last=False))
        assert client.closed().code == 1009
    with EventClient(port) as client:  # parts, with a control frame between them, are one message
        client.raw(frame(TEXT, b'{"subscribe": ', last=False) + frame(PING, b"?") + frame(0, b'{"types": ["log"]}}'))
        assert client.next()["types"] == ["log"]


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """A masked frame (RFC 6455, 5.2) with a key of zeros."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
    return bytes([opcode | (0x80 if last else 0)]) + size + bytes(4) + payload


def a_flood_of_pings_costs_nobody_else(port: int, pid: int) -> None:
    """Their answers wait in the server only until the client has to read them."""
    before = psutil.Process(pid).memory_info().rss
    with EventClient(port, receive_buffer=4096) as flood:
        flood.socket.settimeout(0)
        pings, sent = frame(PING, b"x" * 125) * 500, 0
        ends = time.monotonic() + 2
        while time.monotonic() < ends and sent < 64 * 1024 * 1024:
            with contextlib.suppress(BlockingIOError):
                sent += flood.socket.send(pings)
        assert sent > 100_000
        with EventClient(port) as client:
            client.say({"subscribe": {"types": ["log"]}})
            assert client.next()["type"] == "subscribed"
        assert requests.get(f"http://localhost:{port}/livez", timeout=5).status_code == 200
        assert psutil.Process(pid).memory_info().rss - before < 64 * 1024 * 1024, json.dumps({"sent": sent})
