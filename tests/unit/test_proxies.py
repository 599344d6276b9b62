"""Whose word counts about where a request comes from."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest
from django.test import override_settings

from brokoli_site.common.proxies import Trusted, TrustedProxies, network_of, read_address, seen_through

TRUSTED = Trusted.read("127.0.0.1, 10.0.0.0/8, fd00::/8")


def scope(peer: str | None, *forwarded: str, **changes: Any) -> dict[str, Any]:
    headers = [(b"host", b"brokoli.example.org"), *((b"x-forwarded-for", line.encode("latin1")) for line in forwarded)]
    headers += [(b"x-forwarded-proto", value.encode()) for value in changes.pop("proto", ())]
    client = None if peer is None else [peer, 50000]
    return {"type": "http", "scheme": "http", "client": client, "headers": headers, **changes}


def address(found: dict[str, Any]) -> str | None:
    return found["client"] and str(found["client"][0])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.1, 10.1.2.3"], "192.0.2.1"),  # two proxies of ours
        ("127.0.0.1", ["198.51.100.9, 192.0.2.1, 10.1.2.3"], "192.0.2.1"),  # what stands to the left, the client itself may have written
        ("127.0.0.1", ["198.51.100.9", "192.0.2.1"], "192.0.2.1"),  # two lines are one list
        ("127.0.0.1", ["10.1.2.3, 10.1.2.4"], "10.1.2.3"),  # a request of a proxy itself
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1, unknown"], "127.0.0.1"),  # the way ends where a word cannot be read
        ("127.0.0.1", ["192.0.2.1, unknown, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["192.0.2.1,"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("127.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("127.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("127.0.0.1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("127.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["é\x00\xff"], "127.0.0.1"),
        ("127.0.0.1", ["127.0.0.1"] * 3000, "127.0.0.1"),
        ("::ffff:127.0.0.1", ["192.0.2.1"], "192.0.2.1"),  # a socket of both families
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
    ],
)
def test_a_trusted_proxy_is_believed(peer: str, forwarded: list[str], client: str) -> None:
    assert address(seen_through(scope(peer, *forwarded), TRUSTED)) == client


@pytest.mark.parametrize("peer", ["192.0.2.7", "::1", "127.0.0.2", "", "somewhere", None])
def test_nobody_else_is(peer: str | None) -> None:
    found = scope(peer, "198.51.100.9", proto=["https"])

    assert seen_through(found, TRUSTED) is found


@pytest.mark.parametrize(("proto", "scheme"), [(["https"], "https"), (["http"], "http"), ([], "http"), (["ftp"], "http"), (["HTTPS"], "http")])
def test_the_scheme(proto: list[str], scheme: str) -> None:
    assert seen_through(scope("127.0.0.1", proto=proto), TRUSTED)["scheme"] == scheme


@pytest.mark.parametrize("proto", [["https, http"], ["https", "https"], ["http,https"]])
def test_a_scheme_that_was_added_to_a_list_is_not_believed(proto: list[str]) -> None:
    assert seen_through(scope("127.0.0.1", proto=proto), TRUSTED)["scheme"] == "http"


def test_a_socket_has_neither_scheme_nor_peer_of_its_own() -> None:
    websocket = scope("127.0.0.1", "192.0.2.1", type="websocket", proto=["https"])
    del websocket["scheme"]  # as Daphne's

    assert seen_through(websocket, TRUSTED)["scheme"] == "wss"
    assert address(seen_through(scope(None, "192.0.2.1"), Trusted.read("unix"))) == "192.0.2.1"
    assert address(seen_through(scope(None), Trusted.read("unix"))) is None
    assert address(seen_through(scope("127.0.0.1", "192.0.2.1"), Trusted.read("unix"))) == "127.0.0.1"


def test_all_else_of_a_request_stays() -> None:
    found = scope("127.0.0.1", "192.0.2.1", path="/x")

    assert {**seen_through(found, TRUSTED), "client": None} == {**found, "client": None}


@pytest.mark.parametrize("text", ["unknown", "_hidden", "192.0.2.256", "1.2.3", "fe80::1%eth0", "[::1", "::1]:80", "", "192.0.2.1:x", "0x7f000001"])
def test_what_is_no_address(text: str) -> None:
    assert read_address(text) is None


@pytest.mark.parametrize("text", ["proxy.example.org", "10.0.0.1/8", "10.0.0.0/33", "*", "unix:/run/x"])
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(ValueError, match=r"^" + text.replace("*", r"\*").replace(".", r"\.") + "$"):
        Trusted.read(text)


@pytest.mark.parametrize(("proxies", "client"), [("", "127.0.0.1"), ("127.0.0.1", "192.0.2.1")])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_setting_decides(proxies: str, client: str, kind: str) -> None:
    seen: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], *_: Any) -> None:
        seen.append(scope)

    with override_settings(TRUSTED_PROXIES=Trusted.read(proxies)):
        asyncio.run(TrustedProxies(application)(scope("127.0.0.1", "192.0.2.1", type=kind), None, None))  # type: ignore[arg-type]
    assert address(seen[0]) == client


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "127.0.0.1"),
        ("", None),
        (None, None),
        ("somewhere", None),
    ],
)
def test_who_counts_as_one(address: str | None, network: str | None) -> None:
    assert network_of(address) == (network and ip_address(network))
