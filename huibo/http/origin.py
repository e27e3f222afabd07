"""Whom requests and connections are counted for. Pure; decides about nobody."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_MAX_CHARS = 64  # what a proxy hands on is what somebody wrote

Network = IPv4Network | IPv6Network


@lru_cache(4096)
def origin(host: str) -> str:
    """Who stands behind an address: of IPv6 the network of 64 bits, all of which one customer has."""
    if ":" not in host:
        return host[:_MAX_CHARS]
    try:
        address = ip_address(host)
    except ValueError:
        return host[:_MAX_CHARS]
    assert isinstance(address, IPv6Address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))


class Proxies:
    """The proxies that are trusted: behind each of them there are many."""

    def __init__(self, entries: list[str]) -> None:
        self._networks: list[Network] = [ip_network(entry, strict=False) for entry in entries]

    def __contains__(self, host: str) -> bool:
        if not self._networks:
            return False
        try:
            address = ip_address(host)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
