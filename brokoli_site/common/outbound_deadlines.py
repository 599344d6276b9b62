"""The time that one request may take, kept by closing its connection: a socket's own timeout begins anew with each byte that drips in."""

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from urllib3.exceptions import HTTPError

from brokoli_site.common.addresses import AddressRefused, UnknownHost
from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.outbound_errors import BrokenOff, NotReached, OutboundError, TooSlow


class Deadline:
    """One request: from the resolver to the last byte. `idle_seconds` is the longest silence, which the sockets themselves keep."""

    def __init__(self, seconds: float, idle_seconds: float | None = None) -> None:
        self.seconds = seconds
        self.idle_seconds = min(seconds, idle_seconds or seconds)
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._passed = False
        self._broken_off = False
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> "Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._drop()

    @property
    def left(self) -> float:
        """Seconds, 0 or more."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._passed or self._broken_off

    def watch(self, used: socket.socket) -> None:
        """From now on it is this connection. TLS wraps it anew and takes its descriptor, so a copy is kept, on the same connection."""
        with self._lock:
            self._drop()
            self._socket = socket.socket(fileno=os.dup(used.fileno()))
            if self.over:
                self._shut()

    def break_off(self) -> None:
        """End the request now, from any thread."""
        with self._lock:
            self._broken_off = True
            self._shut()

    def _pass(self) -> None:
        with self._lock:
            self._passed = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @contextmanager
    def told(self) -> Iterator[None]:
        """What goes wrong in the block, in our words."""
        try:
            yield
        except (AddressRefused, UnknownHost, requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._meaning(error) from error
        if self.over:  # a connection that is shut looks like one that ended well
            raise BrokenOff if self._broken_off else self._too_slow()

    def _too_slow(self) -> TooSlow:
        if self._passed or not self.left:
            return TooSlow(f"The server did not answer within {self.seconds:g} s.")
        return TooSlow(f"The server sent nothing for {self.idle_seconds:g} s.")

    def _meaning(self, error: Exception) -> BrokoliError:
        if self._broken_off:
            return BrokenOff()
        cause = _cause(error, (AddressRefused, UnknownHost))
        if isinstance(cause, BrokoliError):
            return cause
        if self._passed or not self.left or isinstance(error, requests.Timeout) or _cause(error, (TimeoutError,)):
            return self._too_slow()
        return _of_library(error)


def _of_library(error: Exception) -> OutboundError:
    broken = _cause(error, (http.client.HTTPException,))
    if isinstance(error, requests.TooManyRedirects):
        return OutboundError("The server sent from one address to the next too often.")
    if isinstance(error, requests.exceptions.SSLError):
        return NotReached("The server's certificate is not valid for its name, or TLS failed.")
    if type(broken) is http.client.HTTPException or isinstance(broken, http.client.LineTooLong):
        return OutboundError("The head of the server's answer is longer than is read.")
    if isinstance(error, requests.ConnectionError | HTTPError | OSError):
        return NotReached()
    # Sentences of the libraries would tell the whole address, which may hold a secret.
    return OutboundError("The address, a header or the answer is not what HTTP allows.")


def _cause(error: BaseException | None, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """The error itself, or what it was raised for, of one of these kinds. The libraries hide it in arguments and attributes too."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        if isinstance(found, kinds):
            return found
        seen.add(id(found))
        waiting += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        waiting = [item for item in waiting if isinstance(item, BaseException)]
    return None
