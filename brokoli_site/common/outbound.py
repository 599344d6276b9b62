"""Requests to servers that a pipeline names. Each connection goes to an address that was judged, each answer is bounded in size and time.

    with outbound.opened("POST", url, body=body, limits=Limits(seconds=10)) as answer:
        answer.status, answer.headers, answer.read(64 * 1024)

The host is resolved once, its addresses are judged (`addresses.resolve`), and the connection is made to one of exactly those: a name that
answers differently a moment later gains nothing. TLS still verifies the name. Redirects are off, or judged again at each hop. Proxies and
`.netrc` of the environment are ignored. A `Client` makes many requests over connections that it keeps.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import requests

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.outbound_connections import GuardedAdapter
from brokoli_site.common.outbound_deadlines import Deadline
from brokoli_site.common.outbound_errors import BrokenOff, NotReached, OutboundError, TooMuch, TooSlow

__all__ = ["Answer", "BrokenOff", "Client", "Limits", "NotReached", "OutboundError", "TooMuch", "TooSlow", "check_url", "opened"]

MOST_REDIRECTS = 5
_CHUNK = 16 * 1024
# What may follow a redirect to another origin; anything else may be a credential of the first.
HARMLESS_HEADERS = frozenset({"accept", "accept-encoding", "accept-language", "user-agent", "content-type", "content-length", "host"})


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` for everything from the resolver to the last byte, `idle_seconds` for the longest silence; `redirects` that are followed."""

    seconds: float
    redirects: int = 0
    allowed: Allowed = field(default_factory=Allowed)
    idle_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. The body is read while the `opened` block lasts."""

    status: int
    headers: Mapping[str, str]
    url: str
    _response: requests.Response = field(repr=False)
    _deadline: Deadline = field(repr=False)

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


class Client:
    """Makes requests with the same limits, each for itself, over connections that are kept for the next. Thread-safe."""

    def __init__(self, limits: Limits, connections: int = 1) -> None:
        self._limits = limits
        self._adapter = GuardedAdapter(limits.allowed, connections)
        self._lock = threading.Lock()  # guards what follows
        self._under_way: set[Deadline] = set()
        self._broken_off = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._adapter.close()

    def break_off(self) -> None:
        """End all requests that are under way, and make no more. From any thread."""
        with self._lock:
            self._broken_off = True
            under_way = tuple(self._under_way)
        for deadline in under_way:
            deadline.break_off()

    @contextmanager
    def opened(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Iterator[Answer]:
        """Ask, and give the answer while the block lasts.

        Errors: `AddressRefused`, `UnknownHost`, `NotReached`, `TooSlow`, `BrokenOff`, `OutboundError`.
        """
        if fault := check_url(url):
            raise OutboundError(fault)
        limits = self._limits
        with self._deadline() as deadline:
            session = _Session(limits, self._adapter)
            with contextlib.ExitStack() as cleanup:
                with deadline.told():
                    response = session.request(
                        method,
                        url,
                        headers=dict(headers or {}),
                        data=body,
                        stream=True,
                        timeout=deadline.idle_seconds,
                        allow_redirects=limits.redirects > 0,
                    )
                    cleanup.callback(response.close)
                yield Answer(response.status_code, response.headers, response.url, response, deadline)

    @contextmanager
    def _deadline(self) -> Iterator[Deadline]:
        with Deadline(self._limits.seconds, self._limits.idle_seconds) as deadline:
            self._adapter.deadline = deadline
            with self._lock:
                self._under_way.add(deadline)
                broken_off = self._broken_off
            try:
                if broken_off:
                    raise BrokenOff
                yield deadline
            finally:
                with self._lock:
                    self._under_way.discard(deadline)


@contextmanager
def opened(method: str, url: str, *, limits: Limits, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Iterator[Answer]:
    """One request. Errors: as `Client.opened`."""
    with Client(limits) as client, client.opened(method, url, headers=headers, body=body) as answer:
        yield answer


class _Session(requests.Session):
    """One request and the redirects that follow. Cookies, which the base class keeps, end with it; the adapter's connections do not."""

    def __init__(self, limits: Limits, adapter: GuardedAdapter) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = min(limits.redirects, MOST_REDIRECTS)
        self._follows = limits.redirects > 0
        self.headers["User-Agent"] = "Brokoli"
        self.headers.pop("Connection", None)
        self.adapters.clear()
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
                if name.lower() not in HARMLESS_HEADERS:
                    del prepared_request.headers[name]
