"""A WebSocket's handshake, put to Django as the GET that it is: its hosts, logins, rights and errors are those of the rest of the API."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model

from brokoli_site.common.rate_limits import NOT_COUNTED
from runs.api.events import HANDSHAKE, Handshake

Message = Mapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Answer:
    """What Django answered, and what it found out."""

    handshake: Handshake
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


async def knock(django: Application, scope: Scope) -> Answer:
    """Ask whether the client of this WebSocket scope may come in."""
    answer = Answer(Handshake())
    scheme = "https" if scope.get("scheme") == "wss" else "http"
    asked = {**scope, "type": "http", "method": "GET", "scheme": scheme, "http_version": "1.1", HANDSHAKE: answer.handshake}
    asked.pop("extensions", None)
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.get_running_loop().create_future()  # for ever: the client stays for as long as this takes
        return messages.pop()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    await django(asked, receive, send)
    return answer


async def still_admitted(django: Application, scope: Scope, handshake: Handshake) -> bool:
    """Whether the same client would be let in now. Of a password, which takes long to check, only that it is still the same one.

    A server that cannot tell, because its database is away, refuses nobody. Errors: database errors, which mean the same.
    """
    if handshake.by_password:
        return bool(await database_sync_to_async(_still_allowed, thread_sensitive=False)(handshake.user))
    answer = await knock(django, {**scope, NOT_COUNTED: True})
    return answer.handshake.admitted or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _still_allowed(before: Any) -> bool:
    user = get_user_model()._default_manager.filter(pk=before.pk, is_active=True, password=before.password).first()
    return user is not None and user.has_perm("runs.view")
