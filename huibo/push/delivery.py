"""Delivers the pushes that rest in the outbox: when, how often, how many at once.

At least once, and never lost: a push leaves the outbox's pending state only after its attempt. What is due is
the outbox's to say, who may have a slot `slots`', what an attempt is `sender`'s.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.config import PushSettings
from huibo.push.schedule import wait_s
from huibo.push.sender import Outcome, Sender
from huibo.push.slots import Slots
from huibo.storage.database import Database
from huibo.storage.outbox import (
    DEAD,
    DELIVERED,
    PENDING,
    REPLAY_LANE,
    STATUS,
    Lease,
    OwedPush,
    Verdict,
    due_pushes,
    end_leases,
    save_verdicts,
    waiting,
)
from huibo.storage.push_secrets import signing

log = structlog.get_logger()

_GAP_S = 0.01  # between two rounds: under load they serve several pushes each
_LOOK_S = 2.0  # look at least so often: another process may have put a push back
_DATABASE_RETRY_S = 1.0
_FINISH_S = 2.0  # what attempts under way get at the end
_STORE_S = 3.0  # and what storing gets
_LEASE_MARGIN_S = 30.0  # on top of an attempt, clocks that differ included

Claim = tuple[list[OwedPush], int | None]
Secrets = dict[str, tuple[str, ...]]  # what signs the pushes of an app


class Attempted(NamedTuple):
    """An attempt that is over and not stored yet; it keeps its slot until it is."""

    verdict: Verdict
    answered: bool


class Deliverer:
    """Delivers what is owed. Raises `ValueError` when the settings name no networks."""

    def __init__(self, database: Database, settings: PushSettings, clock: Clock, cell: str = "main") -> None:
        self._database = database
        self._cell = cell
        self._settings = settings
        self._clock = clock
        self._sender = Sender(settings, clock)
        self._slots = Slots(settings.concurrency, settings.concurrency_per_receiver)
        self._under_way: set[asyncio.Task[None]] = set()
        self._over: list[Attempted] = []
        self._woken = asyncio.Event()
        self._served = ""  # the receiver served last: the next round begins behind it

    def wake(self) -> None:
        """Pushes have been committed. Many calls cost as much as one."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled. Attempts then under way may finish within 2 s, or stay pending."""
        async with self._sender:
            if self._database.shared:
                await self._end_leases()  # of the process that was this cell before
            try:
                while True:
                    self._woken.clear()
                    rest_s = await self._round()
                    await asyncio.sleep(_GAP_S)
                    await self._rest(rest_s - _GAP_S)
            finally:
                await self._finish()

    async def _round(self) -> float:
        """Store what is over, start what is due and has a slot. Returns the seconds until more is due."""
        over, self._over = self._over, []
        try:
            (due, next_at), secrets = await self._settle_and_claim(over)
        except Exception as error:
            self._over = over + self._over
            log.error("outbox out of reach, trying again", reason=_first_line(error))
            await asyncio.sleep(_DATABASE_RETRY_S)
            return 0
        for verdict, answered in over:
            self._slots.give_back(verdict.push, answered)
        for push in due:
            self._slots.take(push)
            self._served = push.receiver
            attempt = self._attempt(push, secrets.get(push.app_id, ()))
            task = asyncio.create_task(attempt, name=f"push-{push.call_id}-{push.seq}")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return _LOOK_S if next_at is None else min(_LOOK_S, (next_at - self._clock.now_ms()) / 1000)

    async def _settle_and_claim(self, over: list[Attempted]) -> tuple[Claim, Secrets]:
        """One commit for all that is over, and the look at what may leave after it, and signed by what."""
        plan, now, served = self._slots.copy(), self._clock.now_ms(), self._served
        shared = self._database.shared
        until = now + round((self._settings.timeout_s + _LEASE_MARGIN_S) * 1000)
        lease = Lease(self._cell, until) if shared else None
        for verdict, answered in over:
            plan.give_back(verdict.push, answered)

        def work(connection: Connection) -> tuple[Claim, Secrets]:
            save_verdicts(connection, [each.verdict for each in over])
            claimed = claim(connection, now, plan, served, lease)
            return claimed, signing(connection, {push.app_id for push in claimed[0]}, now)

        return await (self._database.write(work) if over or shared else self._database.read(work))

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _attempt(self, push: OwedPush, secrets: tuple[str, ...]) -> None:
        outcome = await self._sender.send(push, secrets)
        self._over.append(Attempted(self._judge(push, outcome), outcome.answered))
        self.wake()

    def _judge(self, push: OwedPush, outcome: Outcome) -> Verdict:
        now, made = self._clock.now_ms(), push.attempts + 1
        if outcome.error is None:
            return Verdict(push, DELIVERED, now)
        settings = self._settings
        waits = settings.status_retry_s if push.kind == STATUS else settings.cdr_retry_s
        wait = None if outcome.final else wait_s(waits, made, settings.retry_jitter, outcome.retry_after_s)
        told = log.bind(
            call=push.call_id,
            kind=push.kind,
            seq=push.seq,
            receiver=push.receiver.removesuffix(REPLAY_LANE),
            attempt=made,
            error=outcome.error,
        )
        if wait is None:
            told.error("push dead")
            return Verdict(push, DEAD, now, outcome.error)
        told.warning("push failed", retry_in_s=round(wait, 1))
        return Verdict(push, PENDING, now + round(wait * 1000), outcome.error)

    async def _finish(self) -> None:
        """Give the attempts under way their time, store what is over, drop the rest."""
        try:
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=_FINISH_S)
            if verdicts := [each.verdict for each in self._over]:
                async with asyncio.timeout(_STORE_S):
                    await self._database.write(lambda connection: save_verdicts(connection, verdicts))
        except Exception as error:
            log.error("push results not stored, their pushes stay pending", reason=_first_line(error))
        finally:
            dropped = list(self._under_way)
            for task in dropped:
                task.cancel()
            await asyncio.gather(*dropped, return_exceptions=True)
            if dropped and self._database.shared:
                await self._end_leases()
            if dropped:
                log.info("push attempts dropped, their pushes stay pending", count=len(dropped))

    async def _end_leases(self) -> None:
        """Let others have what this process will not deliver any more."""
        try:
            async with asyncio.timeout(_STORE_S):
                await self._database.write(lambda connection: end_leases(connection, [self._cell]))
        except Exception as error:
            log.error("leases not ended, they run out", reason=_first_line(error))


def claim(connection: Connection, now: int, slots: Slots, after: str, lease: Lease | None = None) -> Claim:
    """The pushes to attempt now, and when (UNIX ms) the next one becomes due. A unit of work.

    Takes the slots from `slots`. Receivers get their turns one after the other, beginning behind `after`,
    those with nothing under way first.
    """
    receivers = waiting(connection, now)
    next_at = min((each.later_at for each in receivers if each.later_at is not None), default=None)
    names = sorted(each.receiver for each in receivers if each.first_at <= now)
    turns = [name for name in names if name > after] + [name for name in names if name <= after]
    claimed: list[OwedPush] = []
    for name in sorted(turns, key=lambda name: bool(slots.under_way(name))):
        if room := slots.room(name):
            busy = slots.under_way(name)
            due = due_pushes(connection, name, now, room + len(busy), lease)
            for push in [push for push in due if push.id not in busy][:room]:
                slots.take(push)
                claimed.append(push)
    return claimed, next_at


def _first_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.partition("\n")[0]  # what follows is SQL and its values
