"""This process among the others on its database: says that it lives, does what they ask, and closes the calls
of those that are dead.

Never touches a call that a living cell carries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.config import CellSettings
from huibo.flow.live import LiveCalls
from huibo.flow.state import CallState
from huibo.model import Call, CancelUnless
from huibo.storage import cells
from huibo.storage.cells import Answer, Cell, Wish
from huibo.storage.database import PATIENCE_S, TROUBLE, Database
from huibo.storage.notices import Listener
from huibo.storage.tenure import Taken, Tenure

log = structlog.get_logger()

_LOOK_S = 0.25  # for wishes, while nobody tells of them: somebody waits for the answer
_ANSWER_S = 5.0
_OUT_OF_TOUCH_S = 5.0  # so long after a beat is due there is no database
_SHARP_MS = 100  # a look at the database's clock that took longer says too little
_CLOSE_S = 2.0
_HEED_S = 0.5
_UNHEARD_MS = 10_000  # a call so old that nobody carries has been stored without our hearing of it
_AT_ONCE = 200  # calls taken over in one transaction

Time = tuple[int, float] | None  # the database's clock, and ours at that moment


class Cells:
    """`run` it; `cancel` ends calls of other cells."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: CellSettings,
        live: LiveCalls,
        about: Callable[[], Cell],
        listener: Listener | None = None,
    ) -> None:
        """`about`: what this process says of itself. `listener`: hears what others wish."""
        self._database = database
        self._clock = clock
        self._settings = settings
        self._live = live
        self._about = about
        self._tenure = Tenure(database.engine, settings.name)
        self.draining = False  # no more calls are to be taken
        self._listener = listener or Listener(database.engine)
        self._woken, self._to_heed, self._asking = asyncio.Event(), asyncio.Event(), set[asyncio.Event]()
        self._listener.on(cells.WISHED, self._woken.set, settings.name)
        self._listener.on(cells.DRAINED, self._to_heed.set, settings.name)
        self._listener.on(cells.ANSWERED, self._wake_askers)
        self._beaten = float("-inf")

    @property
    def in_touch(self) -> bool:
        """Whether the database takes what is written."""
        return time.monotonic() - self._beaten < self._settings.beat_s + _OUT_OF_TOUCH_S

    def enter(self) -> None:
        """Be this cell. Raises `Taken` when another process is."""
        self._tenure.take(self._settings.patience_s)

    async def inherit(self) -> None:
        """Before calls are taken up: where there can be no other process, all of them are this one's.

        A start ends the draining that came before it.
        """
        name = self._settings.name
        await self._database.write(lambda connection: cells.drain(connection, name, False))
        if self._database.shared:
            self._follow(await self._database.read(self._time))
        else:
            await self._database.write(lambda connection: cells.inherit(connection, name))
        self._beaten = time.monotonic()

    async def run(self) -> None:
        """Until cancelled. Raises `Taken` when another process became this cell meanwhile."""
        beats = 0.0
        while True:
            self._woken.clear()
            try:
                if time.monotonic() >= beats:
                    beats = time.monotonic() + self._settings.beat_s
                    await self._beat()
                    self._beaten = time.monotonic()
                if self._database.shared:
                    await self._grant()
            except Taken:
                raise
            except Exception as error:
                log.error("cell out of touch, trying again", reason=str(error).partition("\n")[0])
            until_beat_s = max(_LOOK_S / 2, beats - time.monotonic())
            await _rest(self._woken, min(_LOOK_S, until_beat_s) if self._must_look else until_beat_s)

    async def heed(self) -> None:
        """See in good time whether more calls are to be taken. Until cancelled."""
        name = self._settings.name
        while True:
            self._to_heed.clear()
            try:
                draining = await self._database.read(lambda connection: cells.is_draining(connection, name))
            except Exception as error:
                log.error("cell out of touch, trying again", reason=str(error).partition("\n")[0])
            else:
                if draining is not self.draining:
                    log.info("cell takes no more calls" if draining else "cell takes calls again")
                self.draining = draining
            told = self._listener.listening
            await _rest(self._to_heed, self._settings.beat_s if told else _HEED_S)

    async def cancel(self, call_id: str, unless: CancelUnless) -> bool | None:
        """Have a call ended that another cell carries: whether it is being ended, None: it is over."""
        me, now = self._settings.name, self._clock.now_ms()

        def ask(connection: Connection) -> int | None:
            carrier = cells.carrier_of(connection, call_id)
            return (
                None if carrier in (None, me) else cells.wish(connection, str(carrier), call_id, unless, now)
            )

        wish = await self._database.write(ask, PATIENCE_S)
        if wish is None:
            return None
        heard = asyncio.Event()
        self._asking.add(heard)
        try:
            async with asyncio.timeout(_ANSWER_S):
                while True:
                    heard.clear()
                    found = await self._database.read(lambda connection: cells.answer_to(connection, wish))
                    if found is not None:
                        return None if found is Answer.OVER else found is Answer.ENDING
                    await _rest(heard, _LOOK_S / 2 if self._must_look else _ANSWER_S)
        finally:
            self._asking.discard(heard)
            with suppress(*TROUBLE):  # what stays is removed with a later one
                await self._database.write(
                    lambda connection: cells.withdraw(connection, wish, now - 60_000), PATIENCE_S
                )

    async def close(self) -> None:
        with suppress(*TROUBLE):
            await self._database.aside(self._tenure.end, _CLOSE_S)

    async def _beat(self) -> None:
        await self._database.aside(self._tenure.renew)
        about, settings = self._about(), self._settings

        def work(connection: Connection) -> tuple[list[tuple[Call, CallState]], Time]:
            cells.beat(connection, about)
            if not self._database.shared:
                return [], None
            silent_ms = round(settings.lost_after_s * 1000)
            return cells.take_over(connection, about.name, silent_ms, _AT_ONCE), self._time(connection)

        orphans, theirs = await self._database.write(work)
        self._follow(theirs)
        for call, state in orphans:
            self._live.close_orphan(call, state)
        await self._live.find_lost(_UNHEARD_MS)

    async def _grant(self) -> None:
        me = self._settings.name
        for wish in await self._database.read(lambda connection: cells.wishes_of(connection, me)):
            await self._answer(wish)

    @property
    def _must_look(self) -> bool:
        """Nobody tells of wishes, and there may be some."""
        return self._database.shared and not self._listener.listening

    def _wake_askers(self) -> None:
        for heard in self._asking:
            heard.set()

    def _time(self, connection: Connection) -> Time:
        """None: it took too long to tell."""
        before = self._clock.steady_ms()
        theirs = cells.now_of(connection)
        took = self._clock.steady_ms() - before
        return (theirs, before + took / 2) if took <= _SHARP_MS else None

    def _follow(self, theirs: Time) -> None:
        if theirs is not None:
            self._clock.follow(*theirs)

    async def _answer(self, wish: Wish) -> None:
        async with asyncio.timeout(_ANSWER_S):
            ending = await self._live.cancel(wish.call_id, wish.unless)
        what = Answer.OVER if ending is None else Answer.ENDING if ending else Answer.KEPT
        await self._database.write(lambda connection: cells.answer(connection, wish.id, what))


async def _rest(until: asyncio.Event, at_most_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await until.wait()
