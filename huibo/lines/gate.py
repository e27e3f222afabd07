"""Room on the trunks: paces INVITEs, and says at a second try whether a trunk takes a leg.

What admission has decided for a call's first trunks is not decided again here.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.errors import EngineError
from huibo.lines.book import TrunkBook
from huibo.lines.pace import LONGEST_WAIT_MS, WINDOW_MS, Pace
from huibo.model import Trunk, TrunkState
from huibo.ports import Engine
from huibo.storage.cells import next_turn
from huibo.storage.database import Database
from huibo.storage.locks import LockKind, find_lock
from huibo.storage.usage import legs_on


class Gate:
    """`huibo.ports.Lines` for one process."""

    def __init__(self, database: Database, book: TrunkBook, engine: Engine, clock: Clock) -> None:
        self._database = database
        self._book = book
        self._engine = engine
        self._clock = clock
        self._paces: dict[str, Pace] = {}

    async def seize(self, trunk: str) -> None:
        found = await self._book.find(trunk)
        if found is None or found.state is not TrunkState.ACTIVE:
            raise EngineError(f"trunk {trunk} is not in use")
        if not self._engine.line(trunk).usable:
            raise EngineError(f"trunk {trunk} is unreachable")
        await self._database.read(lambda connection: self._look(connection, found))
        if found.calls_per_second is None:
            return
        if self._database.shared:
            await self._shared_turn(trunk, found.calls_per_second)
        else:
            await self._paces.setdefault(trunk, Pace()).turn(found.calls_per_second)

    async def _shared_turn(self, trunk: str, per_second: int) -> None:
        """The turn among those of all cells."""
        wait_ms = await self._database.write(
            lambda connection: next_turn(connection, trunk, per_second, WINDOW_MS, LONGEST_WAIT_MS)
        )
        if wait_ms is None:
            raise EngineError("too many calls wait for this trunk")
        await asyncio.sleep(wait_ms / 1000)

    def _look(self, connection: Connection, trunk: Trunk) -> None:
        if find_lock(connection, LockKind.TRUNK, trunk.name, self._clock.now_ms()) is not None:
            raise EngineError(f"trunk {trunk.name} is locked")
        # the leg that asks is counted already
        if trunk.channels is not None and legs_on(connection, trunk.name) > trunk.channels:
            raise EngineError(f"trunk {trunk.name} is full")
