"""FAULTS row 19: servers that stall, stream for ever, drip, lead to private addresses, change their name's address, fail at first."""

import gzip
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.errors import NodeCancelled, NodeError, NodeTimeout, TransientNodeError
from pipelines.nodes.base import Stop
from pipelines.web import requesting
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop
from tests.patience import within
from tests.receivers import answer, receiver
from tests.web_api import Params, api, body, drip, endless, failing_first, offset, record, send, stall

pytestmark = pytest.mark.any_database
ONCE = {"page_max_retries": 0}


def fail(workshop: Workshop, url: str, kind: type[NodeError] = NodeError, **config: Any) -> str:
    """The sentence of a node that fails, quickly and without anything left."""
    before, start = workshop.artifacts(), time.monotonic()
    with pytest.raises(kind) as caught:
        workshop.run("source_api", Given({"url": url, "execution": ONCE, **config}))
    assert time.monotonic() - start < within(5)
    assert workshop.artifacts() == before
    return caught.value.message


@pytest.mark.parametrize("route", [stall(), drip], ids=["stalls", "drips"])
def test_a_server_that_takes_too_long_is_left(workshop: Workshop, route: Any) -> None:
    with api({"/x": route}) as server:
        message = fail(workshop, server.url("/x"), TransientNodeError, request_timeout=0.5)
        assert "did not answer within 0.5 s" in message


def test_an_answer_without_end_is_cut(workshop: Workshop) -> None:
    with api({"/x": endless}) as server:
        assert "larger than 2 MiB" in fail(workshop, server.url("/x"), max_page_bytes=2 * 1024**2)
        assert "larger than 1 MiB together" in fail(workshop, server.url("/x"), max_bytes=1024**2)
        pagination = {"strategy": "offset", "page_size": 10}
        with api({"/y": offset(10**9)}) as pages:
            assert "together" in fail(workshop, pages.url("/y"), max_bytes=20_000, records="results", pagination=pagination)


@pytest.mark.parametrize("inner", [False, True], ids=["encoding", "file"])
def test_a_decompression_bomb_is_counted_as_what_it_becomes(workshop: Workshop, inner: bool) -> None:
    bomb = gzip.compress(b" " * 200_000_000 + b"[]")
    assert len(bomb) < 300_000
    headers = {} if inner else {"Content_Encoding": "gzip"}
    with api({"/x": body(bomb, "application/gzip" if inner else "application/json", **headers)}) as server:
        assert "larger than 1 MiB" in fail(workshop, server.url("/x"), max_page_bytes=1024**2, format="json")


def test_every_hop_of_a_redirect_is_judged(workshop: Workshop) -> None:
    for target in ("http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/x", "http://[::1]/x"):
        with receiver(answer(302, Location=target)) as server:
            message = fail(workshop, server.url("/x"))
            assert "not an address of the public internet" in message
    with api({"/a": redirect("/b"), "/b": redirect("/c"), "/c": body(b'[{"id": 1}]')}) as server:
        assert workshop.run("source_api", Given({"url": server.url("/a")})).rows == [(1,)]
        assert "302" in fail(workshop, server.url("/a"), method="POST", body="x")


def redirect(target: str) -> Callable[[BaseHTTPRequestHandler, Params], None]:
    def react(handler: BaseHTTPRequestHandler, params: Params) -> None:
        send(handler, b"", status=302, Location=target)

    return react


def test_without_being_allowed_nothing_private_is_asked(workshop: Workshop, settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed()
    with api({"/x": body(b"[]")}) as server:
        for host in ("127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"):
            assert "BROKOLI_ALLOWED_NETWORKS" in fail(workshop, server.url("/x", host=host))
        assert not server.received


def test_a_name_that_is_public_first_and_private_then_gains_nothing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page goes to the address that was judged; a second connection is judged anew."""
    asked: list[str] = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def closing(handler: BaseHTTPRequestHandler, params: Params) -> None:
        send(handler, {"results": [record(1)]}, Connection="close")
        handler.close_connection = True

    with api({"/x": closing}) as server:
        pagination = {"strategy": "offset", "page_size": 1}
        message = fail(workshop, server.url("/x", host="rebinding.example"), records="results", pagination=pagination)
        assert "Page 2" in message
        assert "rebinding.example is not an address of the public internet" in message
        assert len(server.received) == 1


def test_500_first_and_then_200(workshop: Workshop) -> None:
    with api({"/x": failing_first(2, body(b'[{"id": 7}]'))}) as server:
        outcome = workshop.run("source_api", Given({"url": server.url("/x"), "execution": {"page_retry_delay": 20}}))
        assert outcome.rows == [(7,)]
        assert outcome.log.text.count("Trying again in") == 2
        assert len(server.received) == 3
    with api({"/x": failing_first(9, body(b"[]"), status=503)}) as server:
        config = {"page_retry_delay": 5, "page_max_retries": 2, "page_retry_backoff": "fixed"}
        assert "It was tried 3 times" in fail(workshop, server.url("/x"), TransientNodeError, execution=config)
        assert len(server.received) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 501])
def test_what_will_not_pass_is_not_tried_again(workshop: Workshop, status: int) -> None:
    with api({"/x": failing_first(9, body(b"[]"), status=status)}) as server:
        assert f"was answered with {status}" in fail(workshop, server.url("/x"), execution={"page_retry_delay": 5})
        assert len(server.received) == 1


def test_retry_after_is_kept(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 80 < requesting.retry_after_seconds(formatdate(time.time() + 100, usegmt=True)) <= 100
    assert requesting.retry_after_seconds(formatdate(time.time() - 100, usegmt=True)) == 0
    with api({"/x": failing_first(1, body(b'[{"id": 1}]'), status=429, Retry_After="1")}) as server:
        start = time.monotonic()
        workshop.run("source_api", Given({"url": server.url("/x"), "execution": {"page_retry_delay": 1}}))
        assert time.monotonic() - start >= 0.9
    monkeypatch.setattr(requesting, "LONGEST_WAIT_SECONDS", 0.2)
    with api({"/x": failing_first(1, body(b'[{"id": 1}]'), status=503, Retry_After="999999")}) as server:
        start = time.monotonic()
        workshop.run("source_api", Given({"url": server.url("/x"), "execution": {"page_retry_delay": 1}}))
        assert 0.2 <= time.monotonic() - start < within(3)


def test_a_connection_that_breaks_in_the_middle_is_made_again_and_no_record_comes_twice(workshop: Workshop) -> None:
    content = b'[{"id": 1}, {"id": 2}]'
    tries: list[int] = []

    def breaking(handler: BaseHTTPRequestHandler, params: Params) -> None:
        tries.append(1)
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content if len(tries) > 1 else content[:10])
        handler.close_connection = True

    with api({"/x": breaking}) as server:
        outcome = workshop.run("source_api", Given({"url": server.url("/x"), "execution": {"page_retry_delay": 5}, "max_bytes": len(content)}))
        assert outcome.rows == [(1,), (2,)]
        assert len(tries) == 2


@pytest.mark.parametrize(
    ("content", "media_type", "words"),
    [
        (b"<html>no</html>", "text/html", "is of type text/html, which is not known to be data"),
        (b"<html>no</html>", "application/json", "not valid JSON"),
        (b'{"a": [', "application/json", "not valid JSON"),
        (b'{"a": [{"id": NaN}]}', "application/json", "not valid JSON"),
        (b'{"a": 5}', "application/json", "no array of records"),
        (b'{"a": [1]}', "application/json", "is no JSON object"),
        (b'{"b": []}', "application/json", "It has: 'b'"),
        (b'{"a": [{"id": ' + b"[" * 100_000, "application/json", "valid JSON"),
        (b'{"a": [{"id": ' + b"9" * 5000 + b"}]}", "application/json", ""),
        (b'{"a": [{"x": "' + b"[" * 100_000 + b'"}, {"x": ' + b"[" * 2000 + b"]" * 2000 + b"}]}", "application/json", "Record 2"),
        (b"\xff\xfe[\0]\0", "application/json", "UTF-8"),
    ],
)
def test_answers_that_are_none(workshop: Workshop, content: bytes, media_type: str, words: str) -> None:
    with api({"/x": body(content, media_type)}) as server:
        assert words in fail(workshop, server.url("/x"), records="a")


def test_a_head_without_end(workshop: Workshop) -> None:
    def head(handler: BaseHTTPRequestHandler, params: Params) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X-A: " + b"a" * 60_000 + b"\r\n")

    with api({"/x": head}) as server:
        assert "head of the server's answer" in fail(workshop, server.url("/x"))


@pytest.mark.parametrize("where", ["answer", "body", "retry", "pace", "pages"])
def test_a_node_that_is_cancelled_breaks_off_within_a_second(workshop: Workshop, where: str) -> None:
    entered = threading.Event()

    def half(handler: BaseHTTPRequestHandler, params: Params) -> None:
        if int(params.get("offset", 0)) == 0 and where == "pages":
            offset(100)(handler, params)
            return
        if where in ("retry", "pace"):
            send(handler, {"results": [record(1)]}, status=503 if where == "retry" else 200)
            entered.set()
            return
        if where == "body":
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(b"[")
        entered.set()
        server.ended.wait(20)

    config: dict[str, Any] = {"execution": {"page_retry_delay": 20_000, "max_concurrency": 4}}
    if where in ("pages", "pace"):
        config |= {"records": "results", "pagination": {"strategy": "offset", "page_size": 1 if where == "pace" else 10}}
    if where == "pace":
        config["execution"]["requests_per_second"] = 0.01
    with api({"/x": half}) as server, workshop.running("source_api", Given({"url": server.url("/x"), **config}), Stop()) as running:
        assert entered.wait(10)
        start = time.monotonic()
        running.stop.stop(NodeCancelled("The run was cancelled."))
        running.thread.join(within(5))
        assert time.monotonic() - start < within(1)
        assert [type(error) for error in running.errors] == [NodeCancelled]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("page")]


def test_the_node_s_own_time_holds_for_all_of_it(workshop: Workshop) -> None:
    with api({"/x": drip}) as server:
        start = time.monotonic()
        with pytest.raises(NodeTimeout):
            workshop.run("source_api", Given({"url": server.url("/x")}), stop=Stop(timeout_seconds=0.3))
        assert time.monotonic() - start < 0.3 + within(1)
