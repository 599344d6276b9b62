"""The web server: Daphne, with bodies bounded while they arrive and answers sent no faster than the client reads.

`python -m brokoli_site.web --port 8080 brokoli_site.asgi:application`; arguments are Daphne's.

Daphne receives a whole body, into a temporary file, before the application hears of the request: without a bound here, one
client could fill the disk however strict the application is. And it hands every chunk of an answer to the socket at once: the
whole of a large download would wait in memory for a slow client. Here the application waits while the socket's buffer is full.
"""

import asyncio
from typing import Any

from daphne import http_protocol
from daphne.cli import CommandLineInterface
from daphne.server import Server
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

# What the application may want to read, and a byte more, so that it still sees that there was too much. `settings.MAX_PIPELINE_BYTES`
# is not read here: Daphne configures itself before Django is set up, and a test keeps the two equal.
KEPT_BYTES = 5 * 1024 * 1024 + 1
# A client that sends a little too much hears a 413; one that goes on for ever is cut off.
MOST_BYTES = 64 * 1024 * 1024


class BoundedRequest(http_protocol.WebRequest):  # type: ignore[misc]  # Daphne has no types
    """Keeps no more of a body than the application would accept."""

    _received = 0

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        kept = max(0, KEPT_BYTES - self._received)
        self._received += len(data)
        if kept:
            super().handleContentChunk(data[:kept])
        if self._received > MOST_BYTES:
            self.channel.forceAbortClient()


@implementer(IPushProducer)
class Flow:
    """Told by the socket when its buffer is full, and when there is room again."""

    def __init__(self) -> None:
        self._room = asyncio.Event()
        self._room.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's names
        self._room.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._room.set()

    def stopProducing(self) -> None:  # noqa: N802
        """The client has left: whoever waits must not wait for ever."""
        self._room.set()

    async def room(self) -> None:
        await self._room.wait()


class PatientServer(Server):  # type: ignore[misc]  # Daphne has no types
    """Lets the application send its next chunk when the client has read enough of those before."""

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
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


class Web(CommandLineInterface):  # type: ignore[misc]  # Daphne has no types
    server_class = PatientServer


def main() -> None:
    """Serve until told to stop; arguments are Daphne's."""
    # Daphne's factory looks the class up in its module; it has no other place to name one.
    http_protocol.WebRequest = BoundedRequest
    Web.entrypoint()


if __name__ == "__main__":
    main()
