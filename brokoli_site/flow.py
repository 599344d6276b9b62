"""Sending no faster than the client reads: the application waits while the socket's buffer is full."""

import asyncio

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


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
