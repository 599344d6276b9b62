"""Which addresses a pipeline may make the server ask."""

import ipaddress
import socket
import threading

import pytest

from brokoli_site.common.addresses import AddressRefused, Allowed, UnknownHost, is_public, resolve

REFUSED = [
    *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "2001::1", "2001:10::1", "3fff::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:a00:1::1"),
]
# What else means loopback, a private host, or the metadata service, to the system's resolver.
SPELLINGS = [
    *("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0", "0x0", "localhost", "LOCALHOST"),
    *("2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "10.1", "3232235777", "::ffff:7f00:1", "0:0:0:0:0:ffff:7f00:0001", "fe80::1%1"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"])
def test_what_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("host", [*REFUSED, *SPELLINGS])
def test_no_spelling_gets_through(host: str) -> None:
    with pytest.raises((AddressRefused, UnknownHost)) as raised:
        resolve(host, 80, Allowed(), 5)
    # A spelling that no resolver knows reaches nothing either; those that it knows must be seen through.
    assert raised.type is AddressRefused or host.startswith(("::ffff:0:", "fe80::1%"))


@pytest.mark.parametrize("host", ["metadata.google.internal", "METADATA.google.internal.", "metadata", "instance-data"])
def test_metadata_services_are_refused_by_name_even_in_an_allowed_network(host: str) -> None:
    with pytest.raises(AddressRefused, match="metadata"):
        resolve(host, 80, Allowed.read("0.0.0.0/0"), 5)


@pytest.mark.parametrize(
    ("allowed", "host"),
    [("127.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "2130706433"), ("127.0.0.0/8", "::ffff:127.0.0.1"), ("::1/128", "::1"), ("localhost", "LocalHost")],
)
def test_what_the_operator_allows(allowed: str, host: str) -> None:
    assert resolve(host, 80, Allowed.read(allowed), 5)


def test_of_many_addresses_only_those_that_may_be_reached_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, 80)) for text in ("10.0.0.1", "93.184.216.34", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)

    assert resolve("mixed.example", 80, Allowed(), 5) == [(socket.AF_INET, ("93.184.216.34", 80))]


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    try:
        with pytest.raises(UnknownHost, match="in time"):
            resolve("slow.example", 80, Allowed(), 0.05)
    finally:
        release.set()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "300.1.1.1", "10.0.0.0/33", "http://host", "a b", "*.example.org", "host/24"])
def test_an_allow_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Allowed.read(text)
