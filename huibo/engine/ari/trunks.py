"""Trunks as Asterisk knows them: PJSIP objects pushed over ARI, live at once and without a reload.

Asterisk holds them in memory only; what has been pushed on this connection is remembered here and is pushed
again after a reconnect or a change.
"""

from __future__ import annotations

from huibo.engine.ari.client import AriClient
from huibo.errors import EngineError
from huibo.model import Trunk, TrunkState

Fields = dict[str, str]


def objects_of(trunk: Trunk, no_audio_s: int) -> list[tuple[str, Fields]]:
    """The PJSIP objects of a trunk in the order in which they must be made: (type, attributes)."""
    name = endpoint_of(trunk)
    objects: list[tuple[str, Fields]] = []
    endpoint = {
        "transport": "udp",
        "context": "nowhere",
        "disallow": "all",
        "allow": trunk.codecs,
        "aors": name,
        "direct_media": "no",
        "dtmf_mode": "auto",
        "tone_zone": "cn",
        "rtp_symmetric": "yes",
        "accept_multiple_sdp_answers": "yes",  # the announcement and the phone speak from different places
        "ignore_183_without_sdp": "yes",  # else our ringing tone would stop and nothing take its place
        "rtp_timeout": str(no_audio_s),
        "outbound_auth": name if trunk.username else "",  # what is not named would stay as it was
        "callerid": "Anonymous <anonymous>",  # the stored default is not valid in a From header
    }
    if trunk.username:
        auth = {"auth_type": "userpass", "username": trunk.username, "password": trunk.password or ""}
        objects.append(("auth", auth))
    objects.append(("aor", {"contact": f"sip:{_host(trunk)}:{trunk.port}"}))
    objects.append(("endpoint", endpoint))
    return objects


def endpoint_of(trunk: Trunk) -> str:
    return f"trunk-{trunk.name}"


class Trunks:
    """Makes sure that Asterisk knows a trunk before it is dialled over."""

    def __init__(self, client: AriClient, no_audio_s: int) -> None:
        self._client = client
        self._no_audio_s = no_audio_s
        self._pushed: dict[str, Trunk] = {}

    def forget(self) -> None:
        """Asterisk may have been restarted: push everything again."""
        self._pushed.clear()

    async def ensure(self, trunk: Trunk) -> str:
        """The endpoint to dial over. Raises `EngineError` when Asterisk will not have it."""
        if trunk.state is TrunkState.OFF:
            raise EngineError(f"trunk {trunk.name} is not in use")
        name = endpoint_of(trunk)
        if self._pushed.get(trunk.name) != trunk:
            for kind, fields in objects_of(trunk, self._no_audio_s):
                body = {"fields": [{"attribute": key, "value": value} for key, value in fields.items()]}
                await self._client.request("PUT", f"asterisk/config/dynamic/res_pjsip/{kind}/{name}", body)
            self._pushed[trunk.name] = trunk
        return name


def _host(trunk: Trunk) -> str:
    return f"[{trunk.host}]" if ":" in trunk.host else trunk.host
