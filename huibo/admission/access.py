"""Who may ask: checks of a request's origin against what is known of the app.

Pure checks over facts: each returns nothing or raises `Refused`. Reads no database and no socket.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused
from huibo.model import App, AppState

Network = IPv4Network | IPv6Network
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2: an IPv4 address as a dual-stack socket shows it


def authenticate(
    app: App | None, address_locked: bool, url_id: str, remote_ip: str, blocked_too: bool = False
) -> None:
    """Who asks, and from where: an address that is locked (-423), -401, -402, -403, and an app that the
    operator has blocked (-423), in this order. `blocked_too`: such an app may ask, too."""
    if address_locked:
        raise Refused(Refusal.BLOCKED, "ip locked for a time: too many refused requests")
    if app is None:
        raise Refused(Refusal.APP)
    check_url_id(app, url_id)
    check_address(app, remote_ip)
    if not blocked_too:
        check_active(app)


def app(facts: Facts) -> None:
    """There is such an app (-401). That who asks may speak for it is settled before anything else is."""
    if facts.app is None:
        raise Refused(Refusal.APP)


def state(facts: Facts) -> None:
    """Neither the operator nor the platform itself has blocked the app (-423)."""
    if facts.app is not None:
        check_active(facts.app)
    if facts.app_locked:
        raise Refused(Refusal.BLOCKED, "appId locked for a time: too many calls that nobody answers")


def check_active(app: App) -> None:
    if app.state is AppState.BLOCKED:
        raise Refused(Refusal.BLOCKED, "appId blocked")


def check_url_id(app: App, url_id: str) -> None:
    """Refuse (-402) a request whose URL does not carry the app's own id."""
    # Constant time: the id is the only secret of a request.
    if not hmac.compare_digest(_bytes(app.url_id), _bytes(url_id)):
        raise Refused(Refusal.URL_ID)


def check_address(app: App, ip: str) -> None:
    """Refuse (-403) a request from an address outside the app's allowed ones.

    Raises ValueError when the app's own list cannot be read: that must not go unnoticed.
    """
    allowed = networks(app.allowed_ips)
    try:
        address = _unmapped(ip_address(ip))
    except ValueError:
        raise Refused(Refusal.ADDRESS) from None
    if not any(address in network for network in allowed):
        raise Refused(Refusal.ADDRESS)


@lru_cache(maxsize=1024)
def networks(entries: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses and networks ("10.1.2.3", "10.0.0.0/8", "::1") as networks; ValueError names a bad one."""
    return tuple(_network(entry) for entry in entries)


def _network(entry: str) -> Network:
    network = ip_network(entry.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        inner = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((inner, network.prefixlen - 96))
    return network


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
