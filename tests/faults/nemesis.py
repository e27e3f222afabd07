"""Breaks the world, one fault after another, and waits each time until it is whole again.

Each fault is a row of the table: its name, which part of the world it touches, what is done (`strikes.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from tests.faults import strikes
from tests.faults.evidence import Fault
from tests.faults.receivers import TEMPERS, now_ms
from tests.faults.strikes import Means
from tests.faults.world import World

_HOUR_MS = 3_600_000
_GAP_S = 2.5
_TWO_AT_ONCE = 0.15


class Part(StrEnum):
    """What a fault touches."""

    CONTROL = "control plane"
    ENGINE = "engine"
    CARRIER = "carrier"
    DATABASE = "database"
    DISK = "disk"
    RECEIVER = "receiver"
    CLOCK = "clock"
    EVENTS = "events"


_GENTLE = (Part.CARRIER, Part.DISK, Part.RECEIVER, Part.EVENTS)  # may go on beside any other


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. `strike` returns when it is over; that the world is whole is looked at afterwards.

    What the checker excuses goes by the beginning of the name (`invariants/excuses.py`).
    """

    name: str
    part: Part
    strike: Callable[[Means], Awaitable[None]]
    possible: Callable[[World], bool] = lambda _: True


def _has_disks(world: World) -> bool:
    return world.disks is not None


def _on_sqlite(world: World) -> bool:
    return world.on_sqlite


def _on_postgres(world: World) -> bool:
    return not world.on_sqlite


# The names are settled: the checker's excuses and its tests go by them, not the other way round.
KINDS = (
    Kind("kill -9: accepted", Part.CONTROL, strikes.kill_after_accepting),
    *(Kind(f"kill -9: {state}", Part.CONTROL, partial(strikes.kill_when, state)) for state in strikes.AIMS),
    Kind("upgrade", Part.CONTROL, strikes.upgrade),
    Kind("control plane stopped", Part.CONTROL, strikes.stop_control),
    Kind("kill -9 of Asterisk", Part.ENGINE, strikes.kill_engine),
    Kind("kill -9 of Asterisk and all", Part.ENGINE, partial(strikes.kill_engine, and_control=True)),
    Kind("Asterisk stopped", Part.ENGINE, strikes.stop_engine),
    Kind("ARI socket cut", Part.ENGINE, strikes.cut_socket),
    Kind("ARI socket silent", Part.ENGINE, strikes.silence_socket),
    Kind("carrier stopped", Part.CARRIER, strikes.stop_carrier),
    Kind("carrier storm", Part.CARRIER, strikes.carrier_storm),
    Kind("database locked", Part.DATABASE, strikes.lock_sqlite, _on_sqlite),
    Kind("table locked", Part.DATABASE, strikes.lock_postgres, _on_postgres),
    Kind("backends ended", Part.DATABASE, strikes.end_backends, _on_postgres),
    Kind("database restarted", Part.DATABASE, strikes.restart_postgres, _on_postgres),
    Kind("recording disk full", Part.DISK, strikes.fill_disk, _has_disks),
    *(
        Kind(f"receiver: {temper}", Part.RECEIVER, partial(strikes.vex_receiver, temper))
        for temper in TEMPERS
    ),
    Kind("clock +1 h", Part.CLOCK, partial(strikes.step_clock, _HOUR_MS)),
    Kind("clock -1 h", Part.CLOCK, partial(strikes.step_clock, -_HOUR_MS)),
    Kind("events shaken", Part.EVENTS, strikes.shake_events),
)


class Nemesis:
    """`run` it. `done` has what was done, `now` what is being done."""

    def __init__(self, means: Means, kinds: Collection[Kind]) -> None:
        """When brisk, what can go on beside another does, and the others come first."""
        self.done: list[Fault] = []
        self.now: set[str] = set()
        self._means = means
        self._kinds = [kind for kind in kinds if kind.possible(means.world)]

    async def run(self, enough: Callable[[], bool]) -> None:
        """Fault after fault until that is enough, each kind once before any comes again."""
        chance, brisk = self._means.chance, self._means.brisk
        deck: list[Kind] = []
        while not enough():
            deck = deck or chance.sample(self._kinds, len(self._kinds))
            await asyncio.sleep(0 if brisk else chance.expovariate(1 / _GAP_S))
            hard = [one for one in deck if one.part not in _GENTLE] if brisk else []
            kind = (hard or deck)[-1]
            deck.remove(kind)
            beside = next((one for one in deck if one.part in _GENTLE and one.part != kind.part), None)
            if beside is None or (chance.random() > _TWO_AT_ONCE and not brisk):
                await self._do(kind)
            else:
                deck.remove(beside)
                await asyncio.gather(self._do(kind), self._do(beside))

    async def _do(self, kind: Kind) -> None:
        began = now_ms()
        self.now.add(kind.name)
        try:
            await kind.strike(self._means)
            await self._means.world.until_whole()
        finally:
            self.now.discard(kind.name)
            self.done.append(Fault(kind.name, began, now_ms()))
