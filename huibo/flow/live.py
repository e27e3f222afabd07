"""All calls that are going on in this process: finds the runner of an event, starts and recovers runners.

The only holder of live state. What it holds can be lost at any moment: the database and the engine know the
rest (see `recover` and `on_engine_back`).
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog
from sqlalchemy import Connection

from huibo.engine.events import LegAnswered, LegEnded, LegEvent, LegRinging
from huibo.errors import EngineError
from huibo.flow.runner import CallRunner, Services
from huibo.flow.state import CallState, Cancel, EngineGone, Resumed, Start
from huibo.model import Call, CancelUnless, EndReason, Leg
from huibo.storage.calls import NotOurs, unfinished, unfinished_ids
from huibo.storage.cells import seen_at

log = structlog.get_logger()

_HAND_OVER_S = 5.0  # for the steps under way when the process is to end


class LiveCalls:
    """The live calls of one process; listens to the engine."""

    def __init__(self, services: Services, cell: str = "main") -> None:
        """`cell`: the name under which this process owns calls."""
        self._services = services
        self._cell = cell
        self._runners: dict[str, CallRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._before: int | None = None  # when the process before this one said last that it lived

    def __len__(self) -> int:
        return len(self._runners)

    def adopt(self, call: Call, state: CallState, resumed: bool = False) -> None:
        """Own a call from now on. It is not dialled before `dispatch`, and fails in time without it.

        `resumed`: another process carried it; its timers wait until the engine has been asked.
        """
        if call.call_id in self._runners or self._closing:
            return  # what is stored is the next process's, too
        runner = self._runners[call.call_id] = CallRunner(call, state, self._services, resumed)
        task = asyncio.create_task(self._run(runner), name=f"call-{call.call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def dispatch(self, call_id: str) -> None:
        """The answer to the request has left: dial now."""
        if (runner := self._runners.get(call_id)) is not None:
            runner.post(Start(self._services.clock.now_ms()))

    async def cancel(self, call_id: str, unless: CancelUnless) -> bool | None:
        """End a call unless it has come too far: whether it is being ended; None: it is over or not here."""
        runner = self._runners.get(call_id)
        return None if runner is None else await runner.cancel(unless)

    async def recover(self) -> None:
        """Own every call that the database knows as unfinished; what they are worth the engine will tell."""

        def work(connection: Connection) -> tuple[list[tuple[Call, CallState]], int | None]:
            return unfinished(connection, self._cell), seen_at(connection, self._cell)

        owned, self._before = await self._services.database.read(work)
        for call, state in owned:
            if call.call_id not in self._runners:
                log.info("call taken up again", call=call.call_id)
                self.adopt(call, state, resumed=True)

    def disown(self, call: Call, state: CallState) -> None:
        """End a call undialled, should it be stored after all: whoever asked was told that it is not."""
        self.adopt(call, state)
        if (runner := self._runners.get(call.call_id)) is not None:
            runner.post(Cancel(self._services.clock.now_ms()))

    async def find_lost(self, older_than_ms: int) -> None:
        """End the calls of this cell that were stored without our hearing of it; nobody was promised them."""
        before, known = self._services.clock.now_ms() - older_than_ms, set(self._runners)

        def lost(connection: Connection) -> list[tuple[Call, CallState]]:
            unknown = set(unfinished_ids(connection, self._cell, before)) - known
            return (
                [one for one in unfinished(connection, self._cell) if one[0].call_id in unknown]
                if unknown
                else []
            )

        for call, state in await self._services.database.read(lost):
            if call.call_id not in self._runners:
                log.warning("call found that nobody carried", call=call.call_id)
                self.disown(call, state)

    def close_orphan(self, call: Call, state: CallState) -> None:
        """A call of a cell that is dead: its legs are out of reach, it ends with what is known."""
        log.warning("call of a dead cell closed", call=call.call_id)
        self.adopt(call, state)
        if (runner := self._runners.get(call.call_id)) is not None:
            runner.post(EngineGone(self._services.clock.now_ms()))

    async def close(self) -> None:
        """Let go of all calls without touching a conversation. What has begun is brought to its end.

        While the engine and the database are still there.
        """
        self._closing = True
        for runner in self._runners.values():
            runner.hand_over()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_HAND_OVER_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_leg_event(self, event: LegEvent) -> None:
        if (runner := self._runners.get(event.call_id)) is not None:
            runner.post(event)

    async def on_engine_back(self) -> None:
        """Compare what should be with what is. Events that were missed are made up for; nothing is redialled.

        There is no await after the stock-taking, so that the engine is ready before any runner goes on. A leg
        that is being dialled meanwhile is not judged: whether the list has it already is chance.
        """
        engine, now = self._services.engine, self._services.clock.now_ms
        expected = {
            (call_id, leg): since
            for call_id, runner in self._runners.items()
            for leg in Leg
            if (since := runner.held(leg)) is not None
        }
        found = {(leg.call_id, leg.leg): leg for leg in await engine.take_stock(self._runners)}
        for call_id, runner in self._runners.items():
            known_until = self._known_until(runner.call)
            if runner.state.caller.dialled_at is None or runner.state.callee.waiting:
                runner.post(Start(now()))
            for leg in Leg:
                if (since := expected.get((call_id, leg))) is None or runner.held(leg) != since:
                    continue
                here = found.get((call_id, leg))
                if here is None:
                    runner.post(LegEnded(call_id, leg, now(), why=EndReason.LOST, known_until=known_until))
                elif here.answered:
                    runner.post(LegAnswered(call_id, leg, now()))
                elif here.ringing:
                    runner.post(LegRinging(call_id, leg, now()))
            runner.post(Resumed(now()))

    def on_engine_lost(self) -> None:
        now = self._services.clock.now_ms()
        for runner in self._runners.values():
            runner.post(EngineGone(now, self._known_until(runner.call)))

    def _known_until(self, call: Call) -> int | None:
        engine = self._services.engine
        return known_until(call.accepted_at, engine.heard_at, self._before, engine.began_at)

    async def _run(self, runner: CallRunner) -> None:
        try:
            await runner.run()
        except NotOurs:
            log.warning("call taken over by another cell", call=runner.call.call_id)
            await self._let_go(runner.call.call_id)
        except Exception:
            log.exception("call runner failed", call=runner.call.call_id)
            raise
        finally:
            del self._runners[runner.call.call_id]

    async def _let_go(self, call_id: str) -> None:
        """What this cell's engine still holds of a call that is another's now."""
        engine = self._services.engine
        for what in (
            *(partial(engine.hang_up, call_id, leg) for leg in Leg),
            partial(engine.release, call_id),
        ):
            try:
                await what()
            except EngineError as error:  # it goes on trying
                log.warning("not let go of at once", call=call_id, reason=str(error))


def known_until(
    accepted_at: int, heard_at: int | None, lived_at: int | None, engine_began_at: int | None
) -> int | None:
    """Until when a leg that is gone was there for certain (UNIX ms): nobody pays for what came after.

    `heard_at`: of the engine, by this process; `lived_at`: the last beat of the process before it. An engine
    that was started in the middle of the call has held nothing of it since.
    """
    if heard_at is not None:
        return heard_at
    moments = [lived_at]
    if engine_began_at is not None and engine_began_at > accepted_at:
        moments.append(engine_began_at)
    return min((at for at in moments if at is not None), default=None)
