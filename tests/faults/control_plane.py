"""The control plane as `huibo serve` runs it, on a clock that can be set, its engine's events shaken.

Changes nothing else: what is put under test is the product.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from huibo import config, log
from huibo.app import Huibo
from huibo.clock import Clock
from huibo.engine.ari.adapter import EngineListener
from huibo.engine.events import KeyPressed, LegEnded, LegEvent
from huibo.engine.install import InstallError
from huibo.model import Leg
from huibo.storage.tenure import Taken
from tests.faults.levers import Levers

LEVERS = "levers.json"  # beside the settings file
_DOUBLED, _DELAYED = 0.4, 0.4  # how many of the events
_LATEST_S = 0.4

_Line = tuple[str, Leg]


class LeveredClock(Clock):
    """The wall clock that the rest of the program sees."""

    def __init__(self, levers: Levers) -> None:
        self._levers = levers
        super().__init__()

    def _wall(self) -> float:
        return super()._wall() + self._levers.now.clock_ms


class Shaken:
    """Stands between the engine and who listens to it.

    Events of one leg keep their order, those of different legs may not. An event may come twice: the end of
    a leg at once, others later too, but not behind that end, after which the leg's name may be another
    attempt's. Keys do not: they are pressed as often as they are reported.
    """

    def __init__(self, listener: EngineListener, levers: Levers) -> None:
        self._listener = listener
        self._levers = levers
        self._lines: dict[_Line, asyncio.Queue[LegEvent]] = {}
        self._waiting: Counter[_Line] = Counter()
        self._ends: Counter[_Line] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def on_engine_back(self) -> None:
        await self._listener.on_engine_back()

    def on_engine_lost(self) -> None:
        self._listener.on_engine_lost()

    def on_leg_event(self, event: LegEvent) -> None:
        line = event.call_id, event.leg
        if not self._levers.now.shake and not self._waiting[line]:
            self._listener.on_leg_event(event)
            return
        self._waiting[line] += 1
        if line not in self._lines:
            self._lines[line] = asyncio.Queue()
            self._aside(self._drain(line))
        self._lines[line].put_nowait(event)

    async def _drain(self, line: _Line) -> None:
        queue = self._lines[line]
        while self._waiting[line]:
            event = await queue.get()
            if random.random() < _DELAYED:
                await asyncio.sleep(random.uniform(0, _LATEST_S))
            self._hand_on(line, event)
            self._waiting[line] -= 1
        del self._lines[line]

    def _hand_on(self, line: _Line, event: LegEvent) -> None:
        self._ends[line] += isinstance(event, LegEnded)
        self._listener.on_leg_event(event)
        if random.random() >= _DOUBLED or isinstance(event, KeyPressed):
            return
        if isinstance(event, LegEnded):
            self._listener.on_leg_event(event)
        else:
            self._aside(self._again(line, event, self._ends[line]))

    async def _again(self, line: _Line, event: LegEvent, ends: int) -> None:
        await asyncio.sleep(random.uniform(0, _LATEST_S))
        if self._ends[line] == ends:
            self._listener.on_leg_event(event)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def main() -> None:
    settings = config.load()
    file = config.file_in_use()
    assert file is not None
    levers = Levers(file.with_name(LEVERS))
    log.configure(settings.log)
    try:
        huibo = Huibo(settings, LeveredClock(levers))
        run = huibo.engine.run
        huibo.engine.run = lambda listener: run(Shaken(listener, levers))  # type: ignore[method-assign]
        huibo.serve()
    except (InstallError, Taken) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
