"""Which addresses an outbound request may reach: public ones, and what the operator allows. Pure, but for asking the resolver.

A pipeline names hosts that its author chose. Without this guard it could make the server ask its own loopback, its neighbours, or the
metadata service of its cloud, which would answer with credentials.
"""

import ipaddress
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from brokoli_site.common.errors import BrokoliError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
# Names under which clouds hand out credentials. Their addresses are refused anyway, unless a network is allowed that holds one.
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"})
# IANA's registries of special-purpose addresses (RFC 6890 and its updates), and what clouds answer from public space.
_REFUSED_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
        *("192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
    )
)
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")  # 2001::/32, Teredo, is in the first
)
_PATIENCE_SECONDS = 0.1
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")


class AddressRefused(BrokoliError):
    """The address may not be reached from here."""

    status, code = 422, "address_refused"


class UnknownHost(BrokoliError):
    """The name of the host is not known."""

    status, code, retryable = 422, "unknown_host", True


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be reached although it is not public: networks, and hosts by name, wherever those are."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str) -> "Allowed":
        """Of `10.1.0.0/16, fd00::/8, hooks.intern.example.org`. Errors: `ValueError` naming the part that is neither."""
        networks: list[Network] = []
        hosts: set[str] = set()
        for part in filter(None, (part.strip() for part in text.split(","))):
            try:
                networks.append(ipaddress.ip_network(part))
            except ValueError:
                name = plain_name(part)
                if not _HOST_NAME.fullmatch(name) or re.fullmatch(r"[\d.]+", name):
                    raise ValueError(part) from None
                hosts.add(name)
        return cls(tuple(networks), frozenset(hosts))

    def holds(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def plain_name(host: str) -> str:
    """`Example.ORG.` is `example.org`."""
    return host.lower().rstrip(".")


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for (mapped, NAT64, 6to4); else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether the address, and the one that it stands for, is one of the open internet."""
    real = embedded(address)
    if isinstance(real, ipaddress.IPv4Address):
        return not any(real in network for network in _REFUSED_4)
    return real in _PUBLIC_6 and not any(real in network for network in _REFUSED_6)


def resolve(
    host: str, port: int, allowed: Allowed, seconds: float, given_up: Callable[[], bool] = lambda: False
) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Where to connect for `host`: every address of it that may be reached, in the resolver's order. The resolver is asked once.

    It is waited for `seconds`, unless `given_up` says earlier that nobody needs the answer.

    However an address is spelt (decimal, octal, hexadecimal), the resolver says which one it is, and that one is judged.
    Errors: `AddressRefused`, `UnknownHost`.
    """
    name = plain_name(host)
    by_name = name in allowed.hosts
    if name in _METADATA_NAMES and not by_name:
        raise AddressRefused(f"{host} is a metadata service, which hands out credentials; it is never asked.")
    found = _ask_resolver(host, port, seconds, given_up)
    usable = [(family, address) for family, address in found if by_name or _may_reach(address[0], allowed)]
    if not usable:
        raise AddressRefused(
            f"{host} is not an address of the public internet. If it is yours, name its network or the host in BROKOLI_ALLOWED_NETWORKS."
        )
    return usable


def _may_reach(text: str, allowed: Allowed) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    return is_public(address) or allowed.holds(address) or allowed.holds(embedded(address))


def _ask_resolver(host: str, port: int, seconds: float, given_up: Callable[[], bool]) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """In a thread of its own: the system's resolver knows no deadline."""
    answers: queue.SimpleQueue[Sequence[tuple[socket.AddressFamily, tuple[str, int]]] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(family, (str(address[0]), port)) for family, _, _, _, address in found])
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    end = time.monotonic() + seconds
    while True:
        try:
            answer = answers.get(timeout=max(0.0, min(_PATIENCE_SECONDS, end - time.monotonic())))
            break
        except queue.Empty:
            if time.monotonic() >= end or given_up():
                raise UnknownHost(f"The address of {host} was not found in time.") from None
    if isinstance(answer, Exception):
        raise UnknownHost(f"There is no host {host}, or its name cannot be resolved now.") from answer
    return list(answer)
