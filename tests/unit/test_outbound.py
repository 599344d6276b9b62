"""Requests to servers that a pipeline names: real connections on loopback."""

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from brokoli_site.common import outbound
from brokoli_site.common.addresses import AddressRefused, Allowed, UnknownHost
from brokoli_site.common.outbound import BrokenOff, Client, Limits, NotReached, OutboundError, TooMuch, TooSlow, opened
from tests.patience import within
from tests.receivers import answer, receiver

LOOPBACK = Allowed.read("127.0.0.1/32")


def limits(seconds: float = 5, redirects: int = 0, allowed: Allowed = LOOPBACK) -> Limits:
    return Limits(seconds, redirects, allowed)


def get(url: str, limit: Limits, **headers: str) -> tuple[int, bytes]:
    with opened("GET", url, limits=limit, headers=headers) as found:
        return found.status, found.read(64 * 1024)


def test_a_request_reaches_an_allowed_server_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with receiver(answer(200, b"fine")) as server:
        with opened("POST", server.url(host="localhost"), limits=limits(), body=b"told", headers={"X-Mine": "1"}) as found:
            assert (found.status, found.read(100)) == (200, b"fine")
        assert (server.received[0].body, server.received[0].headers["host"]) == (b"told", f"localhost:{server.port}")
        assert server.received[0].headers["x-mine"] == "1"


def test_without_being_allowed_loopback_is_not_asked() -> None:
    with receiver() as server:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            with pytest.raises(AddressRefused, match="BROKOLI_ALLOWED_NETWORKS"):
                get(server.url(host=host), limits(allowed=Allowed()))
        assert not server.received


def resolver(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Answer these addresses, one a question, the last for ever; what was asked is gathered."""
    asked: list[str] = []

    def ask(host: str, port: int, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[min(len(asked), len(answers)) - 1], port))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    return asked


def test_a_name_that_changes_its_mind_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """First an address that may be reached, then a private one: asked once, and connected to the first."""
    with receiver(answer(200, b"first")) as server:
        asked = resolver(monkeypatch, "127.0.0.1", "127.0.0.2")
        assert get(server.url(host="rebinding.example"), limits()) == (200, b"first")
        assert asked == ["rebinding.example"]
        with pytest.raises(AddressRefused):
            get(server.url(host="rebinding.example"), limits())
        assert len(server.received) == 1


def test_redirects_are_not_followed_unless_asked_for() -> None:
    with receiver(answer(302, Location="http://127.0.0.1:1/")) as server:
        assert get(server.url(), limits())[0] == 302
        assert len(server.received) == 1


def test_each_hop_is_judged() -> None:
    with receiver(answer(302, Location="http://169.254.169.254/latest/meta-data/")) as server, pytest.raises(AddressRefused, match=r"169\.254"):
        get(server.url(), limits(redirects=5))
    with receiver(answer(302, Location="http://127.0.0.2:9/")) as server, pytest.raises(AddressRefused):
        get(server.url(), limits(redirects=5))
    with receiver(answer(302, Location="file:///etc/passwd")) as server, pytest.raises(OutboundError):
        get(server.url(), limits(redirects=5))


def test_the_body_of_a_redirect_is_not_read() -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/there")
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 1000)

    with receiver(redirect, answer(200, b"there")) as server:
        assert get(server.url(), limits(redirects=1)) == (200, b"there")
    with receiver(redirect) as server, opened("GET", server.url(), limits=limits()) as found:
        assert found.status == 302


def test_redirects_have_a_limit() -> None:
    with receiver(answer(302, Location="/again")) as server:
        with pytest.raises(OutboundError, match="too often"):
            get(server.url(), limits(redirects=50))
        assert len(server.received) == 6


def test_credentials_stay_with_their_origin() -> None:
    with receiver() as other, receiver(answer(307, Location=other.url())) as server:
        assert get(server.url(), limits(redirects=5), Authorization="Bearer x", **{"X-Api-Key": "canary"})[0] == 200
        assert server.received[0].headers["x-api-key"] == "canary"
        assert not {"x-api-key", "authorization"} & set(other.received[0].headers)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte every 20 ms: no single read takes long, and the whole takes far too long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(150):
        handler.wfile.write(b"X-A: 1\r\n"[:1])
        handler.wfile.flush()
        time.sleep(0.02)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 1000)


def test_a_server_that_stalls_or_drips_is_left_at_the_deadline() -> None:
    for stall in (drip, lambda handler: time.sleep(0.9)):
        with receiver(stall) as server:
            start = time.monotonic()
            with pytest.raises(TooSlow, match=r"0\.3 s"):
                get(server.url(), limits(seconds=0.3))
            assert time.monotonic() - start < within(0.8)


def test_a_body_that_drips_is_left_at_the_deadline() -> None:
    def body(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        drip(handler)

    with receiver(body) as server:
        start = time.monotonic()
        with pytest.raises(TooSlow):
            get(server.url(), limits(seconds=0.3))
        assert time.monotonic() - start < within(0.8)


def test_what_is_read_is_bounded_also_when_it_was_compressed() -> None:
    with receiver(endless) as server, pytest.raises(TooMuch):
        get(server.url(), limits())
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 64 * 1024
    with receiver(answer(200, bomb, Content_Encoding="gzip")) as server, pytest.raises(TooMuch):
        get(server.url(), limits())


def test_what_cannot_be_reached() -> None:
    with receiver() as server:
        gone = server.url()
    with pytest.raises(NotReached):
        get(gone, limits())
    with pytest.raises(UnknownHost):
        get("http://nobody.invalid/", limits())
    with receiver(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)) as server, pytest.raises(NotReached):
        get(server.url(), limits())


def test_an_https_server_must_prove_its_name() -> None:
    with receiver() as server, pytest.raises((NotReached, TooSlow)):
        get(server.url().replace("http:", "https:"), limits(seconds=2))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org",
        "//example.org",
        "example.org",
        "",
        "http://",
        "http:///path",
        "http://user:secret@example.org/",
        "http://user@example.org/",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://[::1",
        "http://example.org/a b",
        "http://example.org/\r\nX: 1",
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    fault = outbound.check_url(url)
    assert fault
    assert "secret" not in fault
    with pytest.raises(OutboundError):
        get(url, limits())


def test_no_error_tells_more_than_the_host() -> None:
    with receiver() as server:
        gone = server.url("/services/T000/canary?token=canary")
    for url in (gone, gone.replace("127.0.0.1", "127.0.0.2"), "http://nobody.invalid/canary", "http://example.org/canary\udc80"):
        with pytest.raises((OutboundError, AddressRefused, UnknownHost)) as raised:
            get(url, limits())
        assert "canary" not in raised.value.message


def test_a_client_keeps_its_connection_and_each_request_has_its_own_time() -> None:
    with receiver(answer(200, b"one"), answer(200, b"two"), endless) as server, Client(limits(seconds=0.5)) as client:
        for expected in (b"one", b"two"):
            with client.opened("GET", server.url()) as found:
                assert found.read(100) == expected
        assert len({request.client for request in server.received}) == 1
        time.sleep(0.3)
        start = time.monotonic()
        with pytest.raises(TooSlow), client.opened("GET", server.url()) as found:
            for _ in found.chunks(10**12):
                pass
        assert 0.4 < time.monotonic() - start < within(1)
        assert len({request.client for request in server.received}) == 1


def test_a_connection_that_the_server_closed_is_made_anew() -> None:
    def closing(handler: BaseHTTPRequestHandler) -> None:
        answer(200, b"x", Connection="close")(handler)
        handler.close_connection = True

    with receiver(closing) as server, Client(limits()) as client:
        for _ in range(3):
            with client.opened("GET", server.url()) as found:
                assert found.read(100) == b"x"
        assert len({request.client for request in server.received}) == 3


def test_cookies_do_not_pass_from_one_request_to_the_next() -> None:
    with receiver(answer(200, Set_Cookie="a=b")) as server, Client(limits()) as client:
        for _ in range(2):
            with client.opened("GET", server.url()) as found:
                found.read(1)
        assert all("cookie" not in request.headers for request in server.received)


@pytest.mark.parametrize("phase", ["resolving", "connecting", "waiting", "reading"])
def test_a_client_breaks_off_at_once_whatever_it_waits_for(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        if phase == "reading":
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(b"x")
        entered.set()
        server.ended.wait(10)

    def resolving(*_: object, **__: object) -> list[object]:
        entered.set()
        server.ended.wait(10)
        return []

    with receiver(stall) as server, full_backlog() as port, Client(limits(seconds=20)) as client:
        url = server.url()
        if phase == "resolving":
            monkeypatch.setattr(socket, "getaddrinfo", resolving)
        if phase == "connecting":
            url = f"http://127.0.0.1:{port}/"
            threading.Timer(0.2, entered.set).start()
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                with client.opened("GET", url) as found:
                    found.read(100)
            except OutboundError as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert entered.wait(5)
        start = time.monotonic()
        client.break_off()
        thread.join(within(5))
        assert time.monotonic() - start < within(0.8)
        assert [type(error) for error in errors] == [BrokenOff]
        with pytest.raises(BrokenOff), client.opened("GET", url):
            pass


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose handshakes are not completed any more: whoever connects waits."""
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.settimeout(0)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_a_silence_is_told_from_a_long_answer() -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"x")
        server.ended.wait(5)

    with receiver(silent) as server:
        start = time.monotonic()
        with pytest.raises(TooSlow, match=r"nothing for 0\.2 s"):
            get(server.url(), Limits(5, 0, LOOPBACK, idle_seconds=0.2))
        assert time.monotonic() - start < within(1)


def test_a_head_without_end_is_not_read_to_its_end() -> None:
    def many(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X-A: 1\r\n" * 100)

    def long(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
        while True:
            handler.wfile.write(b"a" * 1000)

    for head in (many, long):
        with receiver(head) as server, pytest.raises(OutboundError, match="head of the server's answer"):
            get(server.url(), limits())
