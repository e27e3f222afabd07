"""One run: the world, its customers and its nemesis together; then peace, and what is left as evidence.

Owns the order of things. Judges nothing.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from sqlalchemy import func, select

from huibo.engine.install.binary import Asterisk
from huibo.engine.install.resolve import resolve
from huibo.sandbox import journal
from huibo.storage.tables import calls, pushes, recordings
from tests.faults.evidence import Evidence, Held
from tests.faults.generator import Customers
from tests.faults.nemesis import Kind, Nemesis
from tests.faults.receivers import now_ms
from tests.faults.report import accepted
from tests.faults.strikes import Means
from tests.faults.world import AT_ONCE, CREDIT_YUAN, DEADLINE_S, PER_SECOND, PREPAID, NotWhole, World

_LOOK_S = 2.0
_TELL_S = 5.0
_SETTLE_S = 240
_EMPTY_S = 70  # what outlives its call by more than 60 s is a violation
_LATE_MS = 3000
_EXIT_CODE = re.compile(r"exit code (-?\d+)")
_OURS = (0, -signal.SIGKILL, -signal.SIGTERM)  # the exit codes of what the nemesis ends


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is done: faults for so many `seconds`, or else so many of them; and at least so many calls."""

    seconds: float | None
    calls: int
    faults: int
    per_second: float
    linger_s: float  # how long calls may go on by themselves afterwards
    brisk: bool


class Run:
    """One run. `unsettled`: what did not come to its end in time. `deaths`: what ended by itself."""

    def __init__(self, world: World, seed: int, budget: Budget, kinds: Collection[Kind]) -> None:
        self.world = world
        self.budget = budget
        self.customers = Customers(world, Random(f"{seed} customers"))
        means = Means(world, self.customers, Random(f"{seed} nemesis"), budget.brisk)
        self.nemesis = Nemesis(means, kinds)
        self.unsettled = ""
        self.deaths: list[str] = []  # nobody's doing
        world.stack.on_event = self._heard
        self._held: list[Held] = []
        self._began = time.monotonic()
        self._phase = "faults"

    async def play(self) -> Evidence:
        watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._tell())]
        try:
            try:
                await self._suffer()
            except NotWhole as error:
                self.unsettled = str(error)
            await self._settle()
            await self.customers.close()
            await self._settle()  # what they have asked for in the last moment
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await self.customers.close()
        if self.customers.failures:
            raise self.customers.failures[0]
        return self._evidence()

    async def _suffer(self) -> None:
        calling = asyncio.create_task(self.customers.run(self.budget.per_second))
        try:
            await self.nemesis.run(self._enough)
            while len(self.customers.asked) < self.budget.calls and not calling.done():
                await asyncio.sleep(0.1)
            if calling.done():
                calling.result()
        finally:
            calling.cancel()

    def _heard(self, text: str) -> None:
        """Of a process that ended, or came back."""
        code = _EXIT_CODE.search(text)
        if code is not None and int(code[1]) not in _OURS:
            self.deaths.append(text)

    def _enough(self) -> bool:
        if self.budget.seconds is not None:
            return time.monotonic() - self._began > self.budget.seconds
        return len(self.nemesis.done) >= self.budget.faults

    async def _settle(self) -> None:
        """Peace: until every call has its end, every push is delivered or dead, every recording done."""
        self._phase = "settling"
        began, cancelled = time.monotonic(), False
        while (left := await asyncio.to_thread(self._left)) or await self._engine_holds(began):
            waited = time.monotonic() - began
            if waited > _SETTLE_S:
                self.unsettled = self.unsettled or f"not at its end after {_SETTLE_S} s: {left}"
                return
            if waited > self.budget.linger_s and not cancelled:
                cancelled = True
                await asyncio.gather(*(self.customers.cancel(asked) for asked in self.customers.asked))
            await asyncio.sleep(0.5)

    async def _engine_holds(self, began: float) -> bool:
        """Whether there is still anything on the engine, which shall be looked at for as long as it may."""
        if time.monotonic() - began > self.budget.linger_s + _EMPTY_S:
            return False
        found = [await self.world.ask_engine(what) for what in ("channels", "bridges")]
        return any(one is None or one for one in found)

    def _left(self) -> str:
        """What is not at its end yet, in words."""
        pending = {
            "calls": select(func.count()).where(calls.c.ended_at.is_(None)),
            "pushes": select(func.count()).where(pushes.c.state == "pending"),
            "recordings": select(func.count()).where(recordings.c.state == "pending"),
        }
        with self.world.database.connect() as connection:
            counts = {name: connection.scalar(query) for name, query in pending.items()}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    async def _watch(self) -> None:
        while True:
            channels, bridges = await asyncio.gather(
                self.world.ask_engine("channels"), self.world.ask_engine("bridges")
            )
            ids = [[str(one["id"]) for one in found or []] for found in (channels, bridges)]
            self._held.append(Held(now_ms(), "engine", *ids))
            await asyncio.sleep(_LOOK_S)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            asked, channels = self.customers.asked, len(self._held[-1].channels) if self._held else 0
            print(
                f"{time.monotonic() - self._began:5.0f} s  {self._phase:<9}"
                f"{sum(map(accepted, asked))}/{len(asked)} calls accepted, {channels} channels, "
                f"{len(self.nemesis.done)} faults; now: {', '.join(sorted(self.nemesis.now)) or '-'}",
                file=sys.stderr,
                flush=True,
            )

    def _evidence(self) -> Evidence:
        world = self.world
        return Evidence(
            database_url=world.settings.database_url,
            settings={
                "dispatch_deadline_s": DEADLINE_S,
                "limits": {PREPAID: {"calls_at_once": AT_ONCE, "calls_per_second": PER_SECOND}},
                "credit_yuan": {PREPAID: CREDIT_YUAN},
            },
            recordings=world.settings.recording.folder,
            asked=self.customers.asked,
            arrived=sorted(
                (one for receiver in world.receivers.values() for one in receiver.arrived),
                key=lambda one: one.at,
            ),
            phones={name: journal.read(carrier.calls_log) for name, carrier in world.stack.carriers.items()},
            faults=self.nemesis.done,
            held=self._held,
            allowed_late_ms=_LATE_MS,
            heard={name: carrier.heard_dir for name, carrier in world.stack.carriers.items()},
        )


async def asterisk() -> Asterisk:
    return await asyncio.to_thread(resolve)
