"""Who is at the other end, where proxies stand between: told by those that the operator trusts, and by nobody else.

A proxy adds the address that it was reached from to `X-Forwarded-For` and says in `X-Forwarded-Proto` how it was reached. Whoever connects to the
server directly can write both headers, too; so they count only where the peer itself is one of `BROKOLI_TRUSTED_PROXIES`, and an address in the list
only as far as everything to the right of it was written by one. Without trusted proxies the headers change nothing.

The headers stay in the request: local mode is for requests that nobody has forwarded, whoever forwarded them.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from brokoli_site.common.addresses import Address, Network
from brokoli_site.common.body_length import Application, Receive, Scope, Send

_WITH_PORT = re.compile(r"\[(?P<six>[^\]]+)\](:\d{1,5})?|(?P<four>[\d.]+)(:\d{1,5})?")
# A request that came through more proxies than these did not come through that many.
_MOST_HOPS = 32
_SOCKET = "unix"


@dataclass(frozen=True, slots=True)
class Trusted:
    """The proxies whose word counts: networks, and whoever connects through a socket in the file system."""

    networks: tuple[Network, ...] = ()
    socket: bool = False

    @classmethod
    def read(cls, text: str) -> "Trusted":
        """Of `127.0.0.1, 10.20.0.0/16, fd00::/8, unix`. Errors: `ValueError` naming the part that is none of these."""
        found = cls()
        for part in filter(None, (part.strip() for part in text.split(","))):
            if part == _SOCKET:
                found = replace(found, socket=True)
                continue
            try:
                found = replace(found, networks=(*found.networks, ipaddress.ip_network(part)))
            except ValueError:
                raise ValueError(part) from None
        return found

    def holds(self, address: Address) -> bool:
        return any(address in network for network in self.networks)

    def __bool__(self) -> bool:
        return self.socket or bool(self.networks)


def read_address(text: str) -> Address | None:
    """The address in an entry of `X-Forwarded-For`, which some proxies write with the port; None for what is none (`unknown`, `_hidden`)."""
    text = text.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["six"] or match["four"]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:  # a socket of both families writes IPv4 so
            return address.ipv4_mapped
        return None if address.scope_id else address
    return address


def client_of(peer: Address | None, forwarded: Iterable[str], trusted: Trusted) -> Address | None:
    """The address of the client. `peer`: a trusted proxy, None of one at a socket in the file system; `forwarded`: the header's lines, in order.

    From right to left, trusted proxies are stepped over. What cannot be read ends the way: then it is the last one that is known.
    """
    here = peer
    for entry in reversed(",".join(forwarded).split(",")[-_MOST_HOPS:]):
        address = read_address(entry)
        if address is None:
            break
        here = address
        if not trusted.holds(address):
            break
    return here


def network_of(address: str | None) -> Address | None:
    """Who counts as one where requests and guesses are counted: an IPv4 address; of IPv6 the network of 64 bits, whose owner has 2^64 addresses.

    IPv4 in IPv6's clothes is IPv4, loopback is one address. None where there is no address: all that connect through a socket in the file system.
    """
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    if not isinstance(found, ipaddress.IPv6Address):
        return found
    if found.is_loopback:
        return ipaddress.IPv4Address("127.0.0.1")
    return found.ipv4_mapped or ipaddress.IPv6Address(int(found) >> 64 << 64)


class TrustedProxies:
    """ASGI: gives the scope, of a request or a WebSocket, the client's address and scheme as trusted proxies tell them."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trusted: Trusted = settings.TRUSTED_PROXIES
        if trusted and scope["type"] in ("http", "websocket"):
            scope = seen_through(scope, trusted)
        await self.application(scope, receive, send)


def seen_through(scope: Scope, trusted: Trusted) -> dict[str, Any]:
    """The scope as the first proxy saw it; the same scope, where the peer is no trusted one."""
    client = scope.get("client")
    peer = read_address(str(client[0])) if client else None
    if not (trusted.socket if not client else peer is not None and trusted.holds(peer)):
        return scope
    address = client_of(peer, _values(scope, b"x-forwarded-for"), trusted)
    # The port of the proxy's connection says nothing of the client.
    changes: dict[str, Any] = {"client": client if address == peer else [str(address), 0]}
    # One word of one proxy. A list would be one that it added to instead of saying what it knows.
    if _values(scope, b"x-forwarded-proto") == ["https"]:
        changes["scheme"] = "wss" if scope["type"] == "websocket" else "https"
    return {**scope, **changes}


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin1").strip() for given, value in scope["headers"] if given.lower() == name]
