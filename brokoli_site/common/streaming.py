"""Answers that are sent piece by piece, under WSGI and ASGI alike, without ever being whole in memory."""

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, BinaryIO

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse


class ChunkedResponse(StreamingHttpResponse):
    """Sends what a synchronous generator yields, a chunk at a time.

    Django reads a synchronous iterator to its end before it sends the first byte under ASGI. This class asks for one chunk at
    a time instead, on the request's own thread, so that database connections and open files stay where they were made.
    """

    def __init__(self, chunks: Generator[bytes], *, source: BinaryIO | None = None, **kwargs: Any) -> None:
        super().__init__(chunks, **kwargs)
        if source is not None:
            # A generator that was never asked for its first chunk (a HEAD request, a client that left) closes nothing itself.
            self._resource_closers.append(source.close)  # type: ignore[attr-defined]  # Django's own FileResponse does so

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks: Iterator[bytes] = iter(self.streaming_content)  # type: ignore[arg-type]  # the stubs allow for asynchronous ones
        following = sync_to_async(lambda: next(chunks, None), thread_sensitive=True)
        while (chunk := await following()) is not None:
            yield chunk


def attachment(name: str) -> dict[str, str]:
    """The header that makes a browser save the answer under `name` (plain ASCII, made by us)."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}
