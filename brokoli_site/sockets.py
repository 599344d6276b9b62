"""WebSockets of the web server: what Daphne's lack for many clients of one stream, and against clients that do not behave.

- `brokoli.frames` (an ASGI message of ours): frames as they go over the wire, many at once. A server's frames are not masked
  (RFC 6455, 5.1), so the same bytes serve all clients; Daphne would frame each event for each client anew.
- A client that reads nothing is sent nothing more, and nothing more is read from it, until there is room again.
- The ASGI extension `websocket.http.response`: a refused handshake says why.
- Close codes of the protocol (1001, 1013, …) with a reason, and messages that are too large or malformed end in one, not in a lost
  connection. What is too large is not kept while it arrives.
"""

from http import HTTPStatus
from typing import Any

from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from brokoli_site.flow import Flow

FRAMES = "brokoli.frames"
DENIAL = "websocket.http.response"
EXTENSIONS: dict[str, dict[str, Any]] = {FRAMES: {}, DENIAL: {}}
# What a client may send in one message, and as many messages as may wait for the application.
MESSAGE_BYTES = 64 * 1024
MOST_WAITING = 64
GOING_AWAY, POLICY = 1001, 1008
# A client that is told to close may have much to read before it comes to that.
_CLOSE_SECONDS = 10
CLOSING_SECONDS = 1.0  # the same while the server stops, which nobody is to hold up
_REASON_BYTES = 123  # RFC 6455, 5.5: what a control frame holds besides the code


@implementer(IPushProducer)
class SocketFlow(Flow):
    """Stops reading as well while the client does not read: what it sends may need answers (pings), which would wait in memory."""

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self._transport = transport

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's names
        super().pauseProducing()
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        super().resumeProducing()
        self._transport.resumeProducing()


class Socket(WebSocketProtocol):  # type: ignore[misc]  # Daphne has no types
    """One client's connection."""

    flow: SocketFlow
    _denial: dict[str, Any]

    def onConnect(self, request: Any) -> Any:  # noqa: N802 - Autobahn's name
        # The HTTP channel that this connection began as told the transport to ask it, and has nothing more to say.
        self.transport.unregisterProducer()
        self.flow = SocketFlow(self.transport)
        self.transport.registerProducer(self.flow, True)  # noqa: FBT003 - Twisted's signature
        return super().onConnect(request)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803 - Autobahn's names
        if self.application_queue.qsize() >= MOST_WAITING:
            self.serverClose(POLICY, "too many messages at once")
            return
        super().onMessage(payload, isBinary)

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Messages of the application."""
        kind = message["type"]
        if kind == FRAMES:
            if self.state == self.STATE_OPEN:  # whole frames, so nothing that Autobahn sends can come between their parts
                self.transport.write(message["data"])
        elif kind == "websocket.close" and self.state != self.STATE_CONNECTING:
            self.serverClose(message.get("code"), message.get("reason"))
        elif kind == f"{DENIAL}.start":
            self._denial = message
        elif kind == f"{DENIAL}.body":
            self._deny(message.get("body", b""))
        elif kind != "websocket.send" or self.state == self.STATE_OPEN:
            super().handle_reply(message)

    def serverClose(self, code: int | None = None, reason: str | None = None) -> None:  # noqa: N802 - Daphne's name
        """As Autobahn's `sendClose`, which knows no code between 1000 and 3000."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code or 1000, (reason or "").encode()[:_REASON_BYTES])

    def go_away(self) -> Any:
        """Tell the client that the server stops. Returns Twisted's `Deferred`, which fires when the connection is closed."""
        self.serverClose(GOING_AWAY, "the server stops")
        return self.is_closed

    def _deny(self, body: bytes) -> None:
        """Answer the handshake with the HTTP error that the application has begun, and hang up."""
        status = int(self._denial["status"])
        headers = [(name, value) for name, value in self._denial.get("headers", ()) if name.lower() not in (b"content-length", b"connection")]
        headers += [(b"Content-Length", str(len(body)).encode()), (b"Connection", b"close")]
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() + b"".join(b"%s: %s\r\n" % header for header in headers)
        self.sendData(head + b"\r\n" + body)
        del self.handshake_deferred  # it is answered
        self.server.protocol_disconnected(self)
        self.wasNotCleanReason = "refused"
        self.dropConnection(abort=False)


class SocketFactory(WebSocketFactory):  # type: ignore[misc]  # Daphne has no types
    protocol = Socket

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Malformed frames are answered by a close frame with a code; the server does not simply hang up.
        self.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=_CLOSE_SECONDS)
