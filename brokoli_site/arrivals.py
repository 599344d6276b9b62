"""Requests of the web server arrive within a time: a connection that sends a byte now and then would be kept open for ever by Twisted, whose
timeout begins anew with each.

The head of a request has `HEAD_SECONDS` from its first byte. A body may take the longer, the more of it there is, at `SLOWEST` bytes a second.
Who is slower hears a 408 and is cut off. Answers have all the time they need.
"""

from typing import Any

import daphne.server  # noqa: F401 - before Twisted's reactor, which it chooses
from daphne.http_protocol import HTTPFactory
from twisted.internet import reactor
from twisted.web import http

HEAD_SECONDS = 20.0
BODY_SECONDS = 30.0  # before its pace counts
SLOWEST = 4096
CHECK_SECONDS = 1.0
_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


_clock: Any = reactor
_Channel: Any = http.HTTPChannel  # Twisted's types say less than there is


class PunctualChannel(_Channel):  # type: ignore[misc]
    """One connection. `_began` is when the first byte of the request that is arriving came; None while none is."""

    _began: float | None = None
    _size = 0
    _head_is_here = False
    _answering = False
    _check: Any = None

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's names
        if self._began is None and not self._answering:
            self._begin()
        self._size += len(data)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:  # noqa: N802
        self._head_is_here = True
        super().allHeadersReceived()

    def allContentReceived(self) -> None:  # noqa: N802
        self._stop()
        self._answering = True
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:  # noqa: N802
        self._answering = False
        if self._dataBuffer:  # the next one came while this was answered
            self._begin()
        super().requestDone(request)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self._stop()
        super().connectionLost(reason)

    def _begin(self) -> None:
        self._began, self._size, self._head_is_here = _clock.seconds(), 0, False
        self._check = _clock.callLater(CHECK_SECONDS, self._look)

    def _stop(self) -> None:
        self._began = None
        if self._check is not None and self._check.active():
            self._check.cancel()
        self._check = None

    def _look(self) -> None:
        assert self._began is not None
        seconds = _clock.seconds() - self._began
        if (seconds > HEAD_SECONDS and not self._head_is_here) or self._size < (seconds - BODY_SECONDS) * SLOWEST:
            self._stop()
            self.transport.write(_LATE)
            self.timeoutConnection()
            return
        self._check = _clock.callLater(CHECK_SECONDS, self._look)


class PunctualFactory(HTTPFactory):  # type: ignore[misc]  # Daphne has no types
    """Makes such connections. Twisted offers no other place to name the class of a channel."""

    def protocol(self) -> Any:
        return http._GenericHTTPChannelProtocol(PunctualChannel())
