"""The names of channels, and what Asterisk's events mean in our words.

Ids are derived from the call's, so that after any crash each channel tells whose it is. Pure but for the
few flags that it keeps per channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from huibo.engine.events import (
    KeyPressed,
    LegAnswered,
    LegEarlyMedia,
    LegEnded,
    LegEvent,
    LegInvited,
    LegRinging,
    PlayEnded,
)
from huibo.model import EndReason, Leg

_NO_MEDIA = (
    44  # Q.850 "requested channel unavailable": what chan_pjsip gives when RTP stays away (rtp_timeout)
)
_PROBE = "-probe"
_ATTEMPT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
_DIAL = {"": LegInvited, "PROGRESS": LegEarlyMedia}
_STATES = {
    "Ringing": LegRinging,
    "Up": LegAnswered,
}  # also where a 180 brings media, of which Dial says PROGRESS
_LEGS = {leg.value: leg for leg in Leg}


def channel_of(call_id: str, leg: Leg, attempt: int = 0) -> str:
    """A name of its own for each attempt: with Asterisk's late news that the channel of the last one is gone,
    an application stops hearing of the next channel of that name.
    """
    return f"{call_id}-{leg.value}.{attempt}" if attempt else f"{call_id}-{leg.value}"


def play_of(call_id: str, turn: int) -> str:
    """The id of the playback of a prompt."""
    return f"{call_id}-{Leg.CALLER.value}-{turn}"


def probe_of(trunk: str) -> str:
    """The id of a channel that is made to learn about a trunk, and never dialled."""
    return f"{trunk}{_PROBE}"


def is_probe(channel: str) -> bool:
    return channel.endswith(_PROBE)


def leg_of(channel: str) -> tuple[str, Leg] | None:
    """The call and leg that a channel id belongs to; None for a channel that is not ours."""
    call_id, dash, suffix = channel.rpartition("-")
    name, dot, attempt = suffix.partition(".")
    leg = _LEGS.get(name)
    if not dash or leg is None or (dot and not _ATTEMPT.fullmatch(attempt)):
        return None
    return call_id, leg


class Names:
    """Which channel each leg is on at this moment."""

    def __init__(self) -> None:
        self._later: dict[tuple[str, Leg], str] = {}  # of legs that are not at their first attempt

    def __len__(self) -> int:
        return len(self._later)

    def of(self, call_id: str, leg: Leg) -> str:
        return self._later.get((call_id, leg)) or channel_of(call_id, leg)

    def begin(self, call_id: str, leg: Leg, attempt: int) -> str:
        """The leg is on this attempt's channel from now on, whose name is returned."""
        channel = channel_of(call_id, leg, attempt)
        if attempt:
            self._later[call_id, leg] = channel
        return channel

    def gone(self, channel: str) -> None:
        """That channel is no more."""
        ours = leg_of(channel)
        if ours is not None and self._later.get(ours) == channel:
            del self._later[ours]

    def take(self, event: dict[str, Any]) -> None:
        """The end of a channel."""
        self.gone(event["channel"]["id"])

    def take_stock(self, channels: Iterable[str]) -> dict[tuple[str, Leg], str]:
        """These are all channels that there are. Returns those that legs are on: of several the last."""
        current: dict[tuple[str, Leg], str] = {}
        for channel in sorted(channels, key=_attempt_of):
            if (ours := leg_of(channel)) is not None:
                current[ours] = channel
        self._later = {ours: channel for ours, channel in current.items() if channel != channel_of(*ours)}
        return current


def _attempt_of(channel: str) -> int:
    attempt = channel.rpartition(".")[2]
    return int(attempt) if leg_of(channel) is not None and attempt != channel else 0


class Translator:
    """Turns ARI events into leg events."""

    def __init__(self) -> None:
        self._ignored: set[str] = set()
        self._left: set[str] = set()  # the far end hung up, with whatever cause it likes

    def ignore(self, channel: str) -> None:
        """Say nothing of this channel any more, its end included."""
        self._ignored.add(channel)

    def take(self, event: dict[str, Any], at: int) -> list[LegEvent]:
        """The leg events that an ARI event amounts to, in order; most amount to none."""
        kind = event.get("type")
        if kind == "PlaybackFinished":
            return self._played(event["playback"], at)
        holder = event.get("peer" if kind == "Dial" else "channel")
        ours = leg_of(holder["id"]) if holder else None
        if holder is None or ours is None:
            return []
        channel, (call_id, leg) = holder["id"], ours
        if kind == "ChannelDestroyed":
            return self._destroyed(channel, event, call_id, leg, at)
        if channel in self._ignored:
            return []
        match kind:
            case "Dial":
                made = _DIAL.get(event.get("dialstatus", ""))
                return [made(call_id, leg, at)] if made else []
            case "ChannelStateChange":
                became = _STATES.get(holder["state"])
                return [became(call_id, leg, at)] if became else []
            case "ChannelHangupRequest" if not event.get("soft"):
                self._left.add(channel)
            case "ChannelDtmfReceived":
                return [KeyPressed(call_id, leg, at, key=event["digit"].upper())]
        return []

    def _played(self, playback: dict[str, Any], at: int) -> list[LegEvent]:
        channel, _, turn = playback["id"].rpartition("-")
        ours = leg_of(channel)
        if ours is None or not turn.isdecimal():
            return []  # a ringing or warning tone: nobody waits for its end
        return [PlayEnded(*ours, at, turn=int(turn), failed=playback["state"] == "failed")]

    def _destroyed(
        self, channel: str, event: dict[str, Any], call_id: str, leg: Leg, at: int
    ) -> list[LegEvent]:
        left = channel in self._left
        self._left.discard(channel)
        if channel in self._ignored:
            self._ignored.discard(channel)
            return []
        sip_code = event.get("tech_cause")
        starved = event.get("cause") == _NO_MEDIA and not left and not sip_code
        why = EndReason.NO_AUDIO if starved else None
        return [LegEnded(call_id, leg, at, sip_code=sip_code or None, why=why)]
