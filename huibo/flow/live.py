"""All calls that are going on in this process: finds the runner of an event, starts and recovers runners.

The only holder of live state. What it holds can be lost at any moment: the database and the engine know the
rest (see `recover` and `on_engine_back`).
"""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import Connection

from huibo.engine.events import LegAnswered, LegEnded, LegEvent
from huibo.errors import EngineError
from huibo.flow.runner import CallRunner, Services
from huibo.flow.state import CallState, EngineGone, Start
from huibo.model import Call, CancelUnless, EndReason, Leg
from huibo.storage.calls import NotOurs, unfinished, unfinished_ids

log = structlog.get_logger()


class LiveCalls:
    """The live calls of one process; listens to the engine."""

    def __init__(self, services: Services, cell: str = "main") -> None:
        """`cell`: the name under which this process owns calls."""
        self._services = services
        self._cell = cell
        self._runners: dict[str, CallRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._runners)

    def adopt(self, call: Call, state: CallState) -> None:
        """Own a call from now on. It is not dialled before `dispatch`, and fails in time without it."""
        if call.call_id in self._runners:
            return
        runner = self._runners[call.call_id] = CallRunner(call, state, self._services)
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
        owned = await self._services.database.read(lambda connection: unfinished(connection, self._cell))
        for call, state in owned:
            if call.call_id not in self._runners:
                log.info("call taken up again", call=call.call_id)
                self.adopt(call, state)

    async def find_lost(self, older_than_ms: int) -> None:
        """Own the calls of this cell that were stored without our hearing of it. They end undialled."""
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
                self.adopt(call, state)

    def close_orphan(self, call: Call, state: CallState) -> None:
        """A call of a cell that is dead: its legs are out of reach, it ends with what is known."""
        log.warning("call of a dead cell closed", call=call.call_id)
        self.adopt(call, state)
        self._runners[call.call_id].post(EngineGone(self._services.clock.now_ms()))

    async def close(self) -> None:
        """Let go of all calls without touching a conversation."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_leg_event(self, event: LegEvent) -> None:
        if (runner := self._runners.get(event.call_id)) is not None:
            runner.post(event)

    async def on_engine_back(self) -> None:
        """Compare what should be with what is. Events that were missed are made up for; nothing is redialled.

        There is no await after the stock-taking, so that the engine is ready before any runner goes on.
        """
        held = {(leg.call_id, leg.leg): leg for leg in await self._services.engine.take_stock(self._runners)}
        now = self._services.clock.now_ms()
        for call_id, runner in self._runners.items():
            if runner.state.caller.dialled_at is None:
                runner.post(Start(now))
                continue
            for leg in Leg:
                if not runner.state.leg(leg).alive:
                    continue
                found = held.get((call_id, leg))
                if found is None:
                    runner.post(LegEnded(call_id, leg, now, why=EndReason.LOST))
                elif found.answered:
                    runner.post(LegAnswered(call_id, leg, now))

    def on_engine_lost(self) -> None:
        for runner in self._runners.values():
            runner.post(EngineGone(self._services.clock.now_ms()))

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
        for leg in Leg:
            try:
                await self._services.engine.hang_up(call_id, leg)
            except EngineError as error:
                log.warning("leg not ended", call=call_id, leg=leg.name.lower(), reason=str(error))
