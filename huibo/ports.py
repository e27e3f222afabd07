"""The seams of the program: what the flow needs from the engine. Adapters implement it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from huibo.model import Call, Cdr, Leg, Menu, Prompts, Push, Report


@dataclass(frozen=True, slots=True)
class LiveLeg:
    """A leg that the engine holds at this moment."""

    call_id: str
    leg: Leg
    answered: bool
    ringing: bool = False


@dataclass(frozen=True, slots=True)
class LineHealth:
    """What the engine knows of a trunk; None: nothing, as it does not ask (no OPTIONS, no registration)."""

    reachable: bool | None = None
    registered: bool | None = None
    roundtrip_ms: float | None = None

    @property
    def usable(self) -> bool:
        return self.reachable is not False and self.registered is not False


class Lines(Protocol):
    """Room on the trunks."""

    async def seize(self, trunk: str) -> None:
        """Wait for the trunk's turn to take one more leg. Raises `EngineError` when it takes none."""


class Engine(Protocol):
    """A telephone switch. Every method raises `EngineError` (it did not happen) or `OutcomeUnknown`.

    Numbers are E.164; the adapter writes them as the trunk wants them. Seconds are whole seconds.
    """

    @property
    def ready(self) -> bool:
        """Connected and able to place calls."""

    @property
    def heard_at(self) -> int | None:
        """When the engine was heard of last before this connection, or now that there is none (UNIX ms).

        None: this process has not been connected before.
        """

    @property
    def began_at(self) -> int | None:
        """When the engine that is connected was started (UNIX ms): it holds no leg that is older."""

    def line(self, trunk: str) -> LineHealth:
        """What is known of a trunk at this moment."""

    async def dial_caller(self, call: Call, trunk: str, ring_s: int, guard_s: int, attempt: int) -> None:
        """Send the INVITE of the caller's leg; the engine itself ends the leg after `guard_s`.

        `attempt`: how many trunks were tried before for this leg; never the same twice.
        """

    async def dial_callee(
        self, call: Call, trunk: str, ring_s: int, guard_s: int, record: bool, attempt: int
    ) -> None:
        """Bridge the answered caller and send the callee's INVITE with early media through.

        `record`: what the caller says and hears is written to two files from here on. `attempt`: as for the
        caller; when not the first, the bridge and the recording may be there.
        """

    async def play(self, call_id: str, turn: int, path: str) -> None:
        """Play a WAV file to the caller; a `PlayEnded` with this turn follows."""

    async def stop_play(self, call_id: str, turn: int) -> None:
        """Stop that play, if it goes on."""

    async def plays(self, call_id: str, turn: int) -> bool:
        """Whether that play goes on."""

    async def warn(self, call_id: str, leg: Leg) -> None:
        """A short tone to one party."""

    async def start_ringback(self, call_id: str, over_media: bool) -> None:
        """Play the ringing tone to the caller until stopped, or until the callee's side is to be heard.

        `over_media`: not even that ends it.
        """

    async def stop_ringback(self, call_id: str, over_media: bool) -> None:
        """Stop the ringing tone, if it plays; `over_media` as it was started."""

    async def guard_talk(self, call_id: str, seconds: int) -> None:
        """Have the engine itself end both legs after `seconds`, even when the control plane is dead."""

    async def shorten_path(self, call_id: str, trunks: Collection[str]) -> None:
        """The parties talk: where all these trunks allow it, the audio goes past the engine from here on.

        Once more does no harm.
        """

    async def hang_up(self, call_id: str, leg: Leg) -> None:
        """End a leg, answered or not. A leg that is gone already is not an error.

        What cannot be ended now is ended later: the engine asks until it is known to be gone.
        """

    async def release(self, call_id: str) -> None:
        """Forget the call's bridge after its last leg is gone; if not now, then later."""

    async def take_stock(self, owned: Collection[str]) -> list[LiveLeg]:
        """The legs that the engine holds for these calls. What it holds of any other call, it ends."""


class Notifier(Protocol):
    """Decides which pushes a customer is owed and writes their bodies. Pure."""

    def on_moment(self, call: Call, seq: int, report: Report) -> list[Push]:
        """The pushes owed for a moment of a leg; none when the request did not ask for it."""

    def on_key(self, call: Call, seq: int, key: str) -> list[Push]:
        """The pushes owed for a key that the caller pressed in the menu."""

    def on_cdr(self, call: Call, seq: int, cdr: Cdr) -> list[Push]:
        """The pushes owed when the call is over; they may take up `seq` and the number after it."""

    def on_recording(self, call: Call, seq: int, url: str) -> list[Push]:
        """The pushes owed when the recording can be fetched under `url`."""


class PromptMaker(Protocol):
    """Makes a menu's texts into sound."""

    async def prepare(self, menu: Menu) -> Prompts:
        """The files of a menu. Raises `PromptError`; may take seconds."""
