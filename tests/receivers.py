"""Servers that receive what the product sends: real sockets on loopback, with answers by script."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

# What a server does with one request; it writes to the handler itself.
Reaction = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client: int = 0  # the port that it came from: one a connection

    @property
    def json(self) -> dict[str, object]:
        found: dict[str, object] = orjson.loads(self.body)
        return found


@dataclass
class Receiver:
    """An HTTP server. `reactions` are used up in order; the last one stays."""

    reactions: list[Reaction]
    received: list[Received] = field(default_factory=list)
    port: int = 0
    ended: threading.Event = field(default_factory=threading.Event)  # lets what stalls end with the test

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def answer(status: int, body: bytes = b"", **headers: str) -> Reaction:
    def react(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return react


@contextmanager
def receiver(*reactions: Reaction, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """`with receiver(answer(500), answer(200)) as server:`"""
    found = Receiver(list(reactions) or [answer(200)])
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def react(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                found.received.append(
                    Received(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body, self.client_address[1])
                )
                reaction = found.reactions.pop(0) if len(found.reactions) > 1 else found.reactions[0]
            try:
                reaction(self)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = react  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
