"""Requests to servers that a pipeline names. Each connection goes to an address that was judged, each answer is bounded in size and time.

    with outbound.opened("POST", url, body=body, limits=Limits(seconds=10)) as answer:
        answer.status, answer.headers, answer.read(64 * 1024)

The host is resolved once, its addresses are judged (`addresses.resolve`), and the connection is made to one of exactly those: a name that
answers differently a moment later gains nothing. TLS still verifies the name. Redirects are off, or judged again at each hop. Proxies and
`.netrc` of the environment are ignored.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from brokoli_site.common.addresses import AddressRefused, Allowed, UnknownHost, resolve
from brokoli_site.common.errors import BrokoliError

MOST_REDIRECTS = 5
_CHUNK = 16 * 1024
# What may follow a redirect to another origin; anything else may be a credential of the first.
_HARMLESS_HEADERS = frozenset({"accept", "accept-encoding", "accept-language", "user-agent", "content-type", "content-length", "host"})


class OutboundError(BrokoliError):
    """The request could not be made."""

    status, code = 422, "outbound_failed"


class NotReached(OutboundError):
    """The server could not be reached, or broke off."""

    code, retryable = "not_reached", True


class TooSlow(OutboundError):
    """The server took too long."""

    code, retryable = "too_slow", True


class TooMuch(OutboundError):
    """The server sent more than is read of an answer."""

    code = "too_much"


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` for everything from the resolver to the last byte; `redirects` that are followed."""

    seconds: float
    redirects: int = 0
    allowed: Allowed = field(default_factory=Allowed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. The body is read while the `opened` block lasts."""

    status: int
    headers: Mapping[str, str]
    url: str
    _response: requests.Response = field(repr=False)
    _deadline: "_Deadline" = field(repr=False)

    def chunks(self, most_bytes: int) -> Iterator[bytes]:
        """The body, decompressed, piece by piece. Errors: `TooMuch` once it is longer than `most_bytes`, `TooSlow`, `NotReached`."""
        count = 0
        with self._deadline.told():
            for chunk in self._response.raw.stream(_CHUNK, decode_content=True):
                count += len(chunk)
                if count > most_bytes:
                    raise TooMuch(f"The answer is longer than {most_bytes} bytes.")
                yield chunk

    def read(self, most_bytes: int) -> bytes:
        """The whole body. Errors: as `chunks`."""
        return b"".join(self.chunks(most_bytes))


def check_url(url: str) -> str:
    """What is wrong with an address to ask, as a sentence; "" when nothing is."""
    try:
        parts = urlsplit(url)
        port_fault = parts.port == 0
    except ValueError:
        return "The address cannot be read as a URL."
    if parts.scheme.lower() not in ("http", "https"):
        return "The address must start with https:// or http://."
    if not parts.hostname:
        return "The address names no host."
    if parts.username is not None or parts.password is not None:
        return "The address carries a user or a password before the host; give credentials in a header, from an environment variable."
    if port_fault or any(character.isspace() or ord(character) < 32 or ord(character) == 127 for character in url):
        return "The address holds a character or a port that no URL has."
    return ""


@contextmanager
def opened(method: str, url: str, *, limits: Limits, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Iterator[Answer]:
    """Ask, and give the answer while the block lasts.

    Errors: `AddressRefused`, `UnknownHost`, `NotReached`, `TooSlow`, `OutboundError`.
    """
    if fault := check_url(url):
        raise OutboundError(fault)
    with _Deadline(limits.seconds) as deadline, _session(limits, deadline) as session:
        with deadline.told():
            response = session.request(
                method, url, headers=dict(headers or {}), data=body, stream=True, timeout=limits.seconds, allow_redirects=limits.redirects > 0
            )
        with contextlib.closing(response):
            yield Answer(response.status_code, response.headers, response.url, response, deadline)


class _Deadline:
    """Closes the connection when the time is up: a socket's own timeout begins anew with each byte that drips in."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._passed = False
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
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

    def watch(self, connected: socket.socket) -> None:
        """From now on it is this connection. TLS wraps it anew and takes its descriptor, so a copy is kept, on the same connection."""
        with self._lock:
            self._drop()
            self._socket = connected.dup()
            if self._passed:
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
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._meaning(error) from error
        if self._passed:  # a connection that is shut looks like one that ended well
            raise self._too_slow()

    def _too_slow(self) -> TooSlow:
        return TooSlow(f"The server did not answer within {self.seconds:g} s.")

    def _meaning(self, error: Exception) -> BrokoliError:
        cause = _cause(error, (AddressRefused, UnknownHost))
        if isinstance(cause, BrokoliError):
            return cause
        if self._passed or not self.left or isinstance(error, requests.Timeout) or _cause(error, (TimeoutError,)):
            return self._too_slow()
        if isinstance(error, requests.TooManyRedirects):
            return OutboundError("The server sent from one address to the next too often.")
        if isinstance(error, requests.exceptions.SSLError):
            return NotReached("The server's certificate is not valid for its name, or TLS failed.")
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


class _Session(requests.Session):
    def __init__(self, limits: Limits, deadline: _Deadline) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = min(limits.redirects, MOST_REDIRECTS)
        self._follows = limits.redirects > 0
        self.headers["User-Agent"] = "Brokoli"
        self.headers.pop("Connection", None)
        self.adapters.clear()
        adapter = _Adapter(limits.allowed, deadline)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        if not self._follows:
            return None
        target = super().get_redirect_target(resp)
        if target is not None:
            # Requests would read the whole body of a redirect, however long, before it goes on.
            resp._content = b""
            resp.close()
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """At a redirect to another origin nothing goes along that may be a credential."""
        leaves: bool = self.should_strip_auth(response.request.url, prepared_request.url)  # type: ignore[no-untyped-call]
        if leaves:
            for name in list(prepared_request.headers):
                if name.lower() not in _HARMLESS_HEADERS:
                    del prepared_request.headers[name]


def _session(limits: Limits, deadline: _Deadline) -> _Session:
    return _Session(limits, deadline)


class _Adapter(HTTPAdapter):
    def __init__(self, allowed: Allowed, deadline: _Deadline) -> None:
        self._allowed, self._deadline = allowed, deadline
        super().__init__(max_retries=Retry(0, read=False), pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = _guarded_pools(self._allowed, self._deadline)


def _guarded_pools(allowed: Allowed, deadline: _Deadline) -> dict[str, type[HTTPConnectionPool]]:
    """Pools whose connections go where the guard says. Everything above the socket (Host, SNI, certificate) keeps the name."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self._dns_host, self.port, allowed, deadline)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self._dns_host, self.port, allowed, deadline)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _connect(host: str, port: int, allowed: Allowed, deadline: _Deadline) -> socket.socket:
    """Connect to the first address of the host that may be reached and that answers. Errors: those of `resolve`, `OSError`."""
    failure: OSError = TimeoutError()
    for family, address in resolve(host, port, allowed, deadline.left):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(deadline.left, 0.001))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect(address)
            deadline.watch(connection)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure
