"""This process among the others on its database: says that it lives, does what they ask, and closes the calls
of those that are dead.

Never touches a call that a living cell carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.config import CellSettings
from huibo.flow.live import LiveCalls
from huibo.flow.state import CallState
from huibo.model import Call, CancelUnless
from huibo.storage import cells
from huibo.storage.cells import Answer, Cell, Wish
from huibo.storage.database import Database
from huibo.storage.tenure import Taken, Tenure

log = structlog.get_logger()

_LOOK_S = 0.25  # for wishes: somebody waits for the answer
_ANSWER_S = 5.0
_UNHEARD_MS = 10_000  # a call so old that nobody carries has been stored without our hearing of it
_AT_ONCE = 200  # calls taken over in one transaction


class Cells:
    """`run` it; `cancel` ends calls of other cells."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: CellSettings,
        live: LiveCalls,
        about: Callable[[], Cell],
    ) -> None:
        """`about`: what this process says of itself."""
        self._database = database
        self._clock = clock
        self._settings = settings
        self._live = live
        self._about = about
        self._tenure = Tenure(database.engine, settings.name)

    def enter(self) -> None:
        """Be this cell. Raises `Taken` when another process is."""
        self._tenure.take(self._settings.patience_s)

    async def inherit(self) -> None:
        """Before calls are taken up: where there can be no other process, all of them are this one's."""
        if not self._database.shared:
            name = self._settings.name
            await self._database.write(lambda connection: cells.inherit(connection, name))

    async def run(self) -> None:
        """Until cancelled. Raises `Taken` when another process became this cell meanwhile."""
        beats = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() >= beats:
                    beats = loop.time() + self._settings.beat_s
                    await self._beat()
                if self._database.shared:
                    await self._grant()
            except Taken:
                raise
            except Exception as error:
                log.error("cell out of touch, trying again", reason=str(error).partition("\n")[0])
            await asyncio.sleep(_LOOK_S if self._database.shared else self._settings.beat_s)

    async def cancel(self, call_id: str, unless: CancelUnless) -> bool | None:
        """Have a call ended that another cell carries: whether it is being ended, None: it is over."""
        me, now = self._settings.name, self._clock.now_ms()

        def ask(connection: Connection) -> int | None:
            carrier = cells.carrier_of(connection, call_id)
            return (
                None if carrier in (None, me) else cells.wish(connection, str(carrier), call_id, unless, now)
            )

        wish = await self._database.write(ask)
        if wish is None:
            return None
        try:
            async with asyncio.timeout(_ANSWER_S):
                while True:
                    found = await self._database.read(lambda connection: cells.answer_to(connection, wish))
                    if found is not None:
                        return None if found is Answer.OVER else found is Answer.ENDING
                    await asyncio.sleep(_LOOK_S / 2)
        finally:
            await self._database.write(lambda connection: cells.withdraw(connection, wish, now - 60_000))

    async def close(self) -> None:
        await asyncio.to_thread(self._tenure.end)

    async def _beat(self) -> None:
        await asyncio.to_thread(self._tenure.renew)
        about, settings = self._about(), self._settings

        def work(connection: Connection) -> list[tuple[Call, CallState]]:
            cells.beat(connection, about)
            if not self._database.shared:
                return []
            return cells.take_over(connection, about.name, round(settings.lost_after_s * 1000), _AT_ONCE)

        for call, state in await self._database.write(work):
            self._live.close_orphan(call, state)
        await self._live.find_lost(_UNHEARD_MS)

    async def _grant(self) -> None:
        me = self._settings.name
        for wish in await self._database.read(lambda connection: cells.wishes_of(connection, me)):
            await self._answer(wish)

    async def _answer(self, wish: Wish) -> None:
        ending = await self._live.cancel(wish.call_id, wish.unless)
        what = Answer.OVER if ending is None else Answer.ENDING if ending else Answer.KEPT
        await self._database.write(lambda connection: cells.answer(connection, wish.id, what))
