"""Which addresses pushes may go to, however they are written."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.push.guard import Guard, TargetRefused

STRICT = Guard([])


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.0.0.1", "private"),
        ("10.255.255.255", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.127.255.254", "carrier-grade NAT"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.169.254", "link-local"),
        ("192.0.0.1", "reserved"),
        ("192.0.2.1", "documentation"),
        ("198.18.0.1", "reserved"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.9", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "reserved"),  # the abolished IPv4-compatible form
        ("::8.8.8.8", "reserved"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("100::1", "reserved"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("2001:20::1", "reserved"),
        ("4000::1", "reserved"),
        ("5f00::1", "reserved"),
        ("64:ff9b:1::a00:1", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:a00:1", "private"),
        ("::ffff:0:0", "unspecified"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::1", "loopback"),
        ("2002:c0a8:101::", "private"),
        ("2002:a9fe:a9fe::1", "link-local"),
        ("2001:0:a00:1::f5ff:fffe", "private"),  # Teredo: server 10.0.0.1, client 10.0.0.1
        ("2001:0:808:808::80ff:fffe", "loopback"),  # Teredo: server 8.8.8.8, client 127.0.0.1
    ],
)
def test_refused(address: str, word: str) -> None:
    assert (
        STRICT.objection(address) == f"address {ip_address(address)} is {word}: not in push.allowed_networks"
    )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(TargetRefused, match=word):
        STRICT.open_socket((family, socket.SOCK_STREAM, 0, "", (address, 80)))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "223.255.255.255",
        "2400:3200::1",
        "2606:4700:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
    ],
)
def test_let_through(address: str) -> None:
    assert STRICT.objection(address) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            " 127.0.0.1",
        ),
        *("１２７.0.0.1", "127。0。0。1", "[::1]", "::1]", "localhost", "example.com", "", "8.8.8.8/32"),
    ],
)
def test_odd_ways_of_writing_are_refused(text: str) -> None:
    assert "not an address in its usual form" in (STRICT.objection(text) or "")


def test_what_the_operator_allows() -> None:
    guard = Guard(["10.1.0.0/16", "127.0.0.1/8", "fd00::/8"])
    for address in (
        "10.1.2.3",
        "127.9.9.9",
        "fd00::5",
        "::ffff:10.1.2.3",
        "64:ff9b::10.1.0.1",
        "2002:a01:1::",
    ):
        assert guard.objection(address) is None, address
    for address in ("10.2.0.1", "fc00::5", "::ffff:10.2.0.1", "192.168.0.1"):
        assert guard.objection(address), address


def test_an_allowed_socket_is_one_of_the_family_asked_for() -> None:
    with Guard(["127.0.0.0/8"]).open_socket(
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))
    ) as opened:
        assert (opened.family, opened.type) == (socket.AF_INET, socket.SOCK_STREAM)


def test_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"push\.allowed_networks.*10\.0\.0\.0/33"):
        Guard(["10.0.0.0/33"])


# Where we are stricter than the standard library's tables, which moreover grow from one Python to the next.
STRICTER = [ip_network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")]


@given(st.ip_addresses(v=4))
def test_ipv4_as_the_standard_library_sees_it(address: IPv4Address) -> None:
    if not any(address in network for network in STRICTER):
        expected = address.is_global and not address.is_multicast
        assert (STRICT.objection(str(address)) is None) is expected


@given(st.ip_addresses(v=6))
def test_ipv6_as_the_standard_library_sees_it(address: IPv6Address) -> None:
    carries_ipv4 = address.teredo or address.sixtofour or address.ipv4_mapped
    nat64 = address in IPv6Network("64:ff9b::/96")
    if not (carries_ipv4 or nat64 or any(address in network for network in STRICTER)):
        expected = address.is_global and address in IPv6Network("2000::/3")
        assert (STRICT.objection(str(address)) is None) is expected


@given(st.ip_addresses(v=4))
def test_an_address_in_disguise_is_judged_as_itself(address: IPv4Address) -> None:
    number, google = int(address), 0x0808_0808
    disguises = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x0064_FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x2001_0000 << 96 | google << 64 | (number ^ 0xFFFF_FFFF)),
        IPv6Address(0x2001_0000 << 96 | number << 64 | (google ^ 0xFFFF_FFFF)),
    ]
    plain = STRICT.objection(str(address)) is None
    assert [STRICT.objection(str(disguise)) is None for disguise in disguises] == [plain] * 5
