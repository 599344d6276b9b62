"""Bodies are bounded while they arrive, and none without a length is lost."""

import asyncio
import io
from collections.abc import Mapping
from typing import Any

import pytest
from django.conf import settings

from brokoli_site import web
from brokoli_site.common.body_length import BodyLength


def test_the_server_keeps_a_byte_more_than_the_application_accepts() -> None:
    assert web.KEPT_BYTES == settings.MAX_PIPELINE_BYTES + 1


class _Channel:
    aborted = False

    def forceAbortClient(self) -> None:  # noqa: N802 - Twisted's name
        self.aborted = True


def test_what_is_too_much_is_not_kept_and_what_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "KEPT_BYTES", 10)
    monkeypatch.setattr(web, "MOST_BYTES", 20)
    request = web.BoundedRequest.__new__(web.BoundedRequest)
    request.content, request.channel = io.BytesIO(), _Channel()
    for piece in (b"1234", b"5678", b"90ab", b"cdefgh"):
        request.handleContentChunk(piece)
    assert (request.content.getvalue(), request.channel.aborted) == (b"1234567890", False)
    request.handleContentChunk(b"xyz")
    assert (request.content.getvalue(), request.channel.aborted) == (b"1234567890", True)


async def _application(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"headers": dict(scope["headers"]), "body": body})


def _sent(headers: dict[bytes, bytes], pieces: list[bytes], limit: int = 100) -> tuple[dict[bytes, bytes], bytes, int]:
    """The headers and the body that the application saw, and how many pieces were left unread."""
    waiting = [{"type": "http.request", "body": piece, "more_body": bool(index)} for index, piece in reversed(list(enumerate(reversed(pieces))))]
    waiting.reverse()
    seen: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return waiting.pop()

    async def send(message: Mapping[str, Any]) -> None:
        seen.append(message)

    asyncio.run(BodyLength(_application, limit)({"type": "http", "headers": list(headers.items())}, receive, send))
    return seen[0]["headers"], seen[0]["body"], len(waiting)


def test_a_chunked_body_gets_its_length() -> None:
    headers, body, left = _sent({b"transfer-encoding": b"chunked"}, [b"ab", b"", b"c"])
    assert (headers[b"content-length"], body, left) == (b"3", b"abc", 0)


def test_of_a_chunked_body_that_is_too_long_the_rest_is_not_read() -> None:
    headers, body, left = _sent({b"transfer-encoding": b"chunked"}, [b"12345"] * 10, limit=12)
    assert (headers[b"content-length"], body, left) == (b"15", b"12345" * 3, 7)


def test_other_requests_pass_untouched() -> None:
    assert _sent({b"content-length": b"3"}, [b"abc"]) == ({b"content-length": b"3"}, b"abc", 0)
    assert _sent({}, [b""]) == ({}, b"", 0)
