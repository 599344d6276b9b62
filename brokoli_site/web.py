"""The web server: Daphne, with bodies bounded while they arrive and answers sent no faster than the client reads.

`python -m brokoli_site.web --port 8080 brokoli_site.asgi:application`; arguments are Daphne's.

Daphne receives a whole body, into a temporary file, before the application hears of the request: without a bound here, one
client could fill the disk however strict the application is. And it hands every chunk of an answer to the socket at once: the
whole of a large download would wait in memory for a slow client. Here the application waits while the socket's buffer is full.
WebSockets are in `brokoli_site.sockets`; what arrives too slowly is `brokoli_site.arrivals`.
"""

import os
import sys
from http import HTTPStatus
from typing import Any

import daphne.server
import django
from daphne import http_protocol
from daphne.cli import DEFAULT_HOST, CommandLineInterface
from daphne.server import Server
from django.db import connections
from django.utils.module_loading import import_string
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from brokoli_site.arrivals import PunctualFactory
from brokoli_site.common import exposure
from brokoli_site.flow import Flow
from brokoli_site.sockets import CLOSING_SECONDS, EXTENSIONS, FRAMES, MESSAGE_BYTES, Socket, SocketFactory

# What the application may want to read, and a byte more, so that it still sees that there was too much. `settings.MAX_PIPELINE_BYTES`
# is not read here: Daphne configures itself before Django is set up, and a test keeps the two equal.
KEPT_BYTES = 5 * 1024 * 1024 + 1
# A client that sends a little too much hears a 413; one that goes on for ever is cut off.
MOST_BYTES = 64 * 1024 * 1024


# Looked up by its name, as Daphne does with the application: it knows models, which are there once Django is set up.
_SECRETS = "pipelines.sealing.fault_at_boot"


class BoundedRequest(http_protocol.WebRequest):  # type: ignore[misc]  # Daphne has no types
    """Keeps no more of a body than the application would accept."""

    _received = 0

    def process(self) -> Any:
        # Daphne takes from any client where the application begins, which all addresses in answers begin with.
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        return super().process()

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Daphne's page for what never reaches the application, without the style in it."""
        headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
        headers.append((b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"))
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": f"{status} {status_text.decode('ascii')}: {body}\n".encode()})

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:  # noqa: N802 - Twisted's name
        super().setResponseCode(code, message or HTTPStatus(code).phrase.encode())  # Twisted's own list lacks some, 429 among them

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        kept = max(0, KEPT_BYTES - self._received)
        self._received += len(data)
        if kept:
            super().handleContentChunk(data[:kept])
        if self._received > MOST_BYTES:
            self.channel.forceAbortClient()


class PatientServer(Server):  # type: ignore[misc]  # Daphne has no types
    """Lets the application send its next chunk when the client has read enough of those before."""

    def __init__(self, **options: Any) -> None:
        limits = {"websocket_max_message_size": MESSAGE_BYTES, "websocket_max_frame_size": MESSAGE_BYTES}
        super().__init__(**(options | limits))

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "websocket":
            scope["extensions"] = EXTENSIONS
        return super().create_application(protocol, scope)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message["type"] == FRAMES:
            await super().handle_reply(protocol, message)
            await protocol.flow.room()
            return
        if message["type"] != "http.response.body" or protocol.channel is None:  # None: the client has left
            await super().handle_reply(protocol, message)
            return
        more, flow = message.get("more_body", False), protocol.producer
        if isinstance(flow, Flow) and not more:
            protocol.unregisterProducer()
        elif flow is None and more:
            flow = Flow()
            protocol.registerProducer(flow, streaming=True)
        await super().handle_reply(protocol, message)
        if isinstance(flow, Flow) and more:
            await flow.room()

    def kill_all_applications(self) -> Any:
        """Clients of WebSockets hear that the server goes away, as far as they listen at once."""
        told = [protocol.go_away() for protocol in self.connections if isinstance(protocol, Socket)]
        farewell = DeferredList(told).addTimeout(CLOSING_SECONDS, reactor)
        return farewell.addBoth(lambda _: super(PatientServer, self).kill_all_applications())


class Web(CommandLineInterface):  # type: ignore[misc]  # Daphne has no types
    server_class = PatientServer

    def run(self, args: list[str]) -> None:
        """However it is started, what it listens on decides about local mode; and others are not let in where nobody may log in."""
        given = self.parser.parse_args(args)
        elsewhere = given.unix_socket or given.file_descriptor is not None or given.socket_strings
        # Of a socket that somebody else opened, or that a sentence of Twisted's describes, nobody here can tell who reaches it.
        host = "" if elsewhere else given.host or DEFAULT_HOST
        os.environ["BROKOLI_BIND"] = host or "elsewhere"
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "brokoli_site.settings")
        django.setup()
        if sentence := exposure.fault(host):
            sys.exit(f"brokoli: {sentence}")
        if sentence := import_string(_SECRETS)():
            sys.exit(f"brokoli: {sentence}")
        connections.close_all()
        super().run(args)


def main() -> None:
    """Serve until told to stop; arguments are Daphne's."""
    # Daphne looks these classes up in its modules; it has no other place to name one.
    http_protocol.WebRequest = BoundedRequest
    daphne.server.WebSocketFactory = SocketFactory
    daphne.server.HTTPFactory = PunctualFactory
    Web.entrypoint()


if __name__ == "__main__":
    main()
