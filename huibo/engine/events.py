"""What an engine reports, in our words. An adapter makes these; the flow machine consumes them.

`at` is UNIX milliseconds by huibo's own clock, at receipt. Each event may come twice or late:
the machine copes.
"""

from __future__ import annotations

from dataclasses import dataclass

from huibo.model import EndReason, Leg


@dataclass(frozen=True, slots=True)
class LegEvent:
    """Something that happened on one leg of one call."""

    call_id: str
    leg: Leg
    at: int


@dataclass(frozen=True, slots=True)
class LegInvited(LegEvent):
    """The INVITE left."""


@dataclass(frozen=True, slots=True)
class LegRinging(LegEvent):
    """180 Ringing."""


@dataclass(frozen=True, slots=True)
class LegEarlyMedia(LegEvent):
    """183 with media: the network itself is to be heard."""


@dataclass(frozen=True, slots=True)
class LegAnswered(LegEvent):
    """200 OK, and the leg can be put into a bridge."""


@dataclass(frozen=True, slots=True)
class PlayEnded(LegEvent):
    """A prompt has been played to its end, or could not be. `turn` is that of the play command."""

    turn: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class KeyPressed(LegEvent):
    """A DTMF key: 0-9, *, #, A-D; by RFC 4733, SIP INFO or in-band."""

    key: str


@dataclass(frozen=True, slots=True)
class LegEnded(LegEvent):
    """The leg is gone.

    `sip_code`: the final response to the INVITE of a leg that was never answered, None if none came.
    `why`: the engine's own verdict where it has one (its media watchdog, a channel that vanished unseen).
    `known_until`: when a leg whose end nobody saw was known of last; None: it ended at `at`.
    """

    sip_code: int | None = None
    why: EndReason | None = None
    known_until: int | None = None
