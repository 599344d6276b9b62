"""Bodies that are sent in chunks, without saying how long they are."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyLength:
    """ASGI: gives a chunked request its `Content-Length`. Without one, Django takes the body for empty, and data would be lost in silence.

    At most `limit` bytes and a piece are held; of a longer body the rest is left unread, and whoever reads it finds it too long.
    """

    def __init__(self, application: Application, limit: int) -> None:
        self.application = application
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name.lower() for name, _ in scope["headers"]}
        if b"content-length" in names or b"transfer-encoding" not in names:
            await self.application(scope, receive, send)
            return
        messages: list[Message] = []
        length, more = 0, True
        while more and length <= self.limit:
            message = await receive()
            messages.append(message)
            length += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
        if more:
            messages[-1] = {**messages[-1], "more_body": False}
        messages.reverse()

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        headers = [*scope["headers"], (b"content-length", str(length).encode())]
        await self.application({**scope, "headers": headers}, replay, send)
