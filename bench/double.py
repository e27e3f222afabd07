"""huibo with a double in place of Asterisk: every phone answers at once, the callee hangs up later.

For what would cost more telephones than one machine has. Run by `bench.server`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from huibo import config, log
from huibo.app import Huibo
from huibo.clock import Clock
from huibo.engine.ari.adapter import EngineListener
from huibo.engine.events import LegAnswered, LegEnded, LegEvent, LegInvited, LegRinging
from huibo.model import Call, Leg, Trunk
from huibo.ports import LineHealth, LiveLeg


class EngineDouble:
    """`huibo.ports.Engine` without telephones."""

    def __init__(self, clock: Clock, hold_s: float) -> None:
        """`hold_s`: how long the parties talk."""
        self.ready = False
        self.heard_at: int | None = None
        self.began_at: int | None = None
        self._clock = clock
        self._hold_s = hold_s
        self._listener: EngineListener | None = None
        self._legs: dict[tuple[str, Leg], asyncio.TimerHandle | None] = {}

    async def run(self, listener: EngineListener) -> None:
        self._listener = listener
        await listener.on_engine_back()
        self.ready = True
        await asyncio.Event().wait()

    def line(self, _trunk: str) -> LineHealth:
        return LineHealth()

    async def know_trunks(self, _trunks: Mapping[str, Trunk]) -> None:
        pass

    async def dial_caller(self, call: Call, _trunk: str, _ring_s: int, _guard_s: int, _attempt: int) -> None:
        self._answer(call.call_id, Leg.CALLER)

    async def dial_callee(
        self, call: Call, _trunk: str, _ring_s: int, _guard_s: int, _record: bool, _attempt: int
    ) -> None:
        self._answer(call.call_id, Leg.CALLEE)
        end = asyncio.get_running_loop().call_later(self._hold_s, self._end, call.call_id, Leg.CALLEE)
        self._legs[call.call_id, Leg.CALLEE] = end

    async def hang_up(self, call_id: str, leg: Leg) -> None:
        self._end(call_id, leg)

    async def take_stock(self, owned: Collection[str]) -> list[LiveLeg]:
        return [LiveLeg(*key, answered=True) for key in self._legs if key[0] in owned]

    async def plays(self, _call_id: str, _turn: int) -> bool:
        return False

    async def _nothing(self, *_: object) -> None:
        pass

    play = stop_play = warn = start_ringback = stop_ringback = guard_talk = release = shorten_path = _nothing

    def _answer(self, call_id: str, leg: Leg) -> None:
        self._legs[call_id, leg] = None
        for kind in (LegInvited, LegRinging, LegAnswered):
            self._tell(kind(call_id, leg, self._clock.now_ms()))

    def _end(self, call_id: str, leg: Leg) -> None:
        if (call_id, leg) in self._legs:
            if (timer := self._legs.pop((call_id, leg))) is not None:
                timer.cancel()
            self._tell(LegEnded(call_id, leg, self._clock.now_ms()))

    def _tell(self, event: LegEvent) -> None:
        assert self._listener is not None
        asyncio.get_running_loop().call_soon(self._listener.on_leg_event, event)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hold-s", type=float, default=1)
    parser.add_argument("--admit-only", action="store_true", help="nothing becomes of what was accepted")
    options = parser.parse_args()
    settings = config.load()
    log.configure(settings.log)

    def double(_engine: Any, _no_audio_s: int, clock: Clock, *_: Any) -> EngineDouble:
        return EngineDouble(clock, options.hold_s)

    huibo = Huibo(settings, make_engine=double)  # type: ignore[arg-type]
    if options.admit_only:
        huibo.live.adopt = lambda call, state, resumed=False: None  # type: ignore[method-assign]
    huibo.serve()


if __name__ == "__main__":
    main()
