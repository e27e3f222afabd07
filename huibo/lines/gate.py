"""Room on the trunks: paces INVITEs, and says at a second try whether a trunk takes a leg.

What admission has decided for a call's first trunks is not decided again here.
"""

from __future__ import annotations

import asyncio
from collections import deque

from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.errors import EngineError
from huibo.lines.book import TrunkBook
from huibo.model import Trunk, TrunkState
from huibo.ports import Engine
from huibo.storage.database import Database
from huibo.storage.locks import LockKind, find_lock
from huibo.storage.usage import legs_on

_WINDOW_S = 1.05  # a second, and what sending an INVITE may vary by
_LONGEST_WAIT_S = 10.0


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
        if found.calls_per_second is not None:
            pace = self._paces.setdefault(trunk, Pace())
            await pace.turn(found.calls_per_second)

    def _look(self, connection: Connection, trunk: Trunk) -> None:
        if find_lock(connection, LockKind.TRUNK, trunk.name, self._clock.now_ms()) is not None:
            raise EngineError(f"trunk {trunk.name} is locked")
        # the leg that asks is counted already
        if trunk.channels is not None and legs_on(connection, trunk.name) > trunk.channels:
            raise EngineError(f"trunk {trunk.name} is full")


class Pace:
    """Lets through at most so many in any window, in the order in which they come."""

    def __init__(self) -> None:
        self._went: deque[float] = deque()
        self._queue = asyncio.Lock()
        self._waiting = 0

    async def turn(self, per_second: int) -> None:
        """Wait for one's turn. Raises `EngineError` at once when it would be too long in coming."""
        if self._waiting >= per_second * _LONGEST_WAIT_S:
            raise EngineError("too many calls wait for this trunk")
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            async with self._queue:
                while len(self._went) >= per_second and (
                    (rest := self._went[-per_second] + _WINDOW_S - loop.time()) > 0
                ):
                    await asyncio.sleep(rest)
                self._went.append(loop.time())
                while len(self._went) > per_second:
                    self._went.popleft()
        finally:
            self._waiting -= 1
