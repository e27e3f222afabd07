"""Where pushes must not go: opens every socket of the push client, and only towards an allowed address.

The check is on the very address that is connected to, so neither a name that resolves anew nor an odd way of
writing an address gets past it. Never resolves anything itself.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's special-purpose registries (RFC 6890 and later), and what they leave out. The standard library's
# `is_global` differs from one Python to the next and takes multicast for global.
_NOT_GLOBAL: tuple[tuple[str, Network], ...] = tuple(
    (word, ipaddress.ip_network(network))
    for word, networks in {
        "unspecified": ("0.0.0.0/8", "::/128"),
        "loopback": ("127.0.0.0/8", "::1/128"),
        "private": (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "fc00::/7",
            "fec0::/10",
            "64:ff9b:1::/48",
        ),
        "carrier-grade NAT": ("100.64.0.0/10",),
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "documentation": (
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "2001:db8::/32",
            "3fff::/20",
        ),
        "reserved": ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "2001::/23"),
    }.items()
    for network in networks
)
_IPV6_GLOBAL = ipaddress.IPv6Network("2000::/3")  # all that has been given out as global unicast (RFC 4291)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052


class TargetRefused(OSError):
    """The address is not to be connected to. Its text says which and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)

    def __str__(self) -> str:
        return str(self.strerror)


class Guard:
    """Knows the networks that the operator has allowed beside the public internet.

    Raises `ValueError` for an entry of `allowed` that is not a network.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        try:
            self._allowed = [ipaddress.ip_network(network, strict=False) for network in allowed]
        except ValueError as error:
            raise ValueError(f"push.allowed_networks: {error}") from None

    def objection(self, host: str) -> str | None:
        """Why an address, as text, must not be connected to; None if it may be."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return f"{host!r:.80} is not an address in its usual form"
        word = self._objection(address)
        return word and f"address {address} is {word}: not in push.allowed_networks"

    def open_socket(self, target: tuple[Any, ...]) -> socket.socket:
        """A socket for one entry as `getaddrinfo` gives them. Raises `TargetRefused`."""
        family, kind, protocol, _, address = target
        if reason := self.objection(str(address[0])):
            raise TargetRefused(reason)
        return socket.socket(family, kind, protocol)

    def _objection(self, address: Address) -> str | None:
        if any(address in network for network in self._allowed):
            return None
        if inner := _ipv4_inside(address):
            return next((word for each in inner if (word := self._objection(each))), None)
        for word, network in _NOT_GLOBAL:
            if address in network:
                return word
        return None if address.version == 4 or address in _IPV6_GLOBAL else "reserved"


def _ipv4_inside(address: Address) -> tuple[Address, ...]:
    """The IPv4 addresses that packets for an IPv6 address end up at, where it is a form that carries them."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.teredo:
        return address.teredo  # server and client, RFC 4380
    if address in _NAT64:
        return (ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF),)
    inner = address.ipv4_mapped or address.sixtofour
    return (inner,) if inner else ()
