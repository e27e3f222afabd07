"""A trunk in the words of PJSIP: which objects Asterisk must have, and what is in each.

Pure. Says every attribute that ever differs from Asterisk's default, since one that is not named stays as it
was.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from huibo.model import Transport, Trunk

Fields = dict[str, str]

_TRUNK, _WATCH = "trunk-", "watch-"
_OPTIONS_TIMEOUT_S = 3
_REGISTER_S = 600  # how long a registration is asked for
_FOR_EVER = "1000000"  # tries: Asterisk's own number is 10
_IN_A_USER = "-_.!~*'()&=+$,;?/"  # RFC 3261, 25.1: what needs no escape there


class PjsipObject(NamedTuple):
    """An object of Asterisk's configuration; `kind` and `name` are its key."""

    kind: str
    name: str
    fields: Fields


def objects_of(trunk: Trunk, no_audio_s: int) -> list[PjsipObject]:
    """The objects of a trunk, in the order in which they must be made."""
    objects = []
    if trunk.username:
        auth = {"auth_type": "userpass", "username": trunk.username, "password": trunk.password or ""}
        objects.append(PjsipObject("auth", endpoint_of(trunk), auth))
    objects += _addresses(trunk)
    endpoint = _endpoint(trunk, no_audio_s)
    if trunk.options_s:
        # An endpoint that is never dialled: who listens to one is also told of each channel on it.
        objects.append(PjsipObject("endpoint", watch_of(trunk.name), endpoint))
    objects.append(PjsipObject("endpoint", endpoint_of(trunk), endpoint))
    if trunk.register:
        objects.append(PjsipObject("registration", endpoint_of(trunk), _registration(trunk)))
    return objects


def endpoint_of(trunk: Trunk) -> str:
    return _TRUNK + trunk.name


def trunk_of(endpoint: str) -> str | None:
    """The name of the trunk that an endpoint is dialled for; None for any other endpoint."""
    return endpoint.removeprefix(_TRUNK) if endpoint.startswith(_TRUNK) else None


def watch_of(trunk: str) -> str:
    return _WATCH + trunk


def watched(endpoint: str) -> str | None:
    """The name of the trunk whose health an endpoint tells; None for any other endpoint."""
    return endpoint.removeprefix(_WATCH) if endpoint.startswith(_WATCH) else None


def contacts_of(trunk: Trunk) -> dict[str, str]:
    """Where INVITEs go, by address of record, the most wanted first.

    Each address has a record of its own: Asterisk takes the first of them that is not known to be down, while
    among the contacts of one record it goes by the alphabet.
    """
    places = [f"{_bracketed(trunk.host)}:{trunk.port}", *trunk.more_addresses]
    names = [
        endpoint_of(trunk) + (f".{number}" if number > 1 else "") for number in range(1, len(places) + 1)
    ]
    return {name: _uri(place, trunk.transport) for name, place in zip(names, places, strict=True)}


def registration_key(trunk: Trunk) -> tuple[str, str]:
    """Who registers and where, as Asterisk reports on it."""
    fields = _registration(trunk)
    return fields["client_uri"], fields["server_uri"]


def _addresses(trunk: Trunk) -> list[PjsipObject]:
    check = {
        "qualify_frequency": str(trunk.options_s),
        "qualify_timeout": str(min(_OPTIONS_TIMEOUT_S, trunk.options_s or _OPTIONS_TIMEOUT_S)),
    }
    return [PjsipObject("aor", name, {"contact": uri} | check) for name, uri in contacts_of(trunk).items()]


def _endpoint(trunk: Trunk, no_audio_s: int) -> Fields:
    return {
        "transport": _transport(trunk),
        "context": "nowhere",
        "disallow": "all",
        "allow": trunk.codecs,
        "aors": ",".join(contacts_of(trunk)),
        "direct_media": "yes" if trunk.direct_media else "no",
        "dtmf_mode": "auto",
        "tone_zone": "cn",
        "rtp_symmetric": "yes",
        "accept_multiple_sdp_answers": "yes",  # the announcement and the phone speak from different places
        "ignore_183_without_sdp": "yes",  # else our ringing tone would stop and nothing take its place
        "rtp_timeout": str(no_audio_s),
        "outbound_auth": endpoint_of(trunk) if trunk.username else "",
        "from_domain": trunk.from_domain or "",
        "callerid": "Anonymous <anonymous>",  # the stored default is not valid in a From header
    }


def _registration(trunk: Trunk) -> Fields:
    user, host = quote(trunk.username or "", safe=_IN_A_USER), _bracketed(trunk.from_domain or trunk.host)
    return {
        "server_uri": next(iter(contacts_of(trunk).values())),
        "client_uri": f"sip:{user}@{host}" if user else f"sip:{host}",
        "contact_user": user,
        "outbound_auth": endpoint_of(trunk) if trunk.username else "",
        "transport": _transport(trunk),
        "expiration": str(_REGISTER_S),
        "max_random_initial_delay": "0",
        # A carrier that says no today may say yes tomorrow: nobody is there to start it again.
        "retry_interval": "10",
        "forbidden_retry_interval": "60",
        "fatal_retry_interval": "60",
        "auth_rejection_permanent": "no",
        "max_retries": _FOR_EVER,
    }


def _transport(trunk: Trunk) -> str:
    """Which transport of pjsip.conf."""
    return "tls-unverified" if trunk.transport is Transport.TLS and not trunk.verify_tls else trunk.transport


def _uri(place: str, transport: Transport) -> str:
    return f"sip:{place}" if transport is Transport.UDP else f"sip:{place};transport={transport.value}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
