"""Delivers the pushes that are owed: when, how often, how many at once.

At least once, and never lost: a push leaves the outbox's pending state only with a verdict. What is due is
the outbox's to say, and of what is handed over `chains`'; who may have a slot `slots`', which target is
spared `breaker`'s, what an attempt is `sender`'s.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress

import structlog

from huibo.clock import Clock
from huibo.config import PushSettings
from huibo.push.breaker import Breaker, Turn
from huibo.push.chains import Chain, Chains
from huibo.push.queue import Queue
from huibo.push.rounds import Done, Found, Judged, Look, Round, carry_out, disabled, settle
from huibo.push.schedule import wait_s
from huibo.push.sender import Outcome, Sender
from huibo.push.slots import Slots
from huibo.push.targets import Judge, News
from huibo.storage.database import Database
from huibo.storage.outbox import (
    DEAD,
    DELIVERED,
    HANDED_MS,
    PENDING,
    REPLAY_LANE,
    STATUS,
    Handed,
    Lease,
    OwedPush,
    Verdict,
    end_leases,
)
from huibo.storage.push_targets import Key, PushTarget, key_of, why_not_tried

log = structlog.get_logger()

_GAP_S = 0.025  # between two rounds: under load they serve several pushes each, and a round costs a commit
_MANY = 64  # attempts that are over: their round comes at once
_LOOK_S = 2.0  # look at least so often: another process may have put a push back
_DATABASE_RETRY_S = 1.0
_FINISH_S = 2.0  # what attempts under way get at the end
_STORE_S = 3.0  # and what storing gets
_LEASE_MARGIN_S = 30.0  # on top of an attempt, clocks that differ included
_TOO_LATE = "given up untried: the target fails all the time"


class Deliverer:
    """Delivers what is owed. Raises `ValueError` when the settings name no networks."""

    def __init__(self, database: Database, settings: PushSettings, clock: Clock, cell: str = "main") -> None:
        self._database = database
        self._cell = cell
        self._settings = settings
        self._clock = clock
        self._sender = Sender(settings, clock)
        self._slots = Slots(settings.concurrency, settings.concurrency_per_receiver)
        self._queue = Queue(self._slots)
        self._breaker = Breaker()
        self._judge_targets = Judge(settings.disable_after_s)
        self._lease_ms = round((settings.timeout_s + _LEASE_MARGIN_S) * 1000)
        self._targets: dict[Key, PushTarget] = {}
        self._targets_at = -math.inf
        self._burials: dict[Key, int] = {}
        self._chains = Chains()
        self._held: dict[str, set[int]] = {}  # by receiver: pushes of which nothing is stored yet
        self._left: list[int] = []  # leased pushes that others may have
        self._under_way: set[asyncio.Task[None]] = set()
        self._over: list[Judged] = []
        self._storing = False
        self._open = False  # pushes may be begun
        self._woken, self._soon = asyncio.Event(), asyncio.Event()
        self._wanted = True  # a look at the outbox
        self._look_at = 0  # it is wanted then (UNIX ms)
        self._short: set[str] = set()  # receivers with more in the outbox than they have slots for
        self._served = ""  # the receiver served last: the next look begins behind it

    def wake(self) -> None:
        """Pushes have been committed that nobody has in hand. Many calls cost as much as one."""
        self._wanted = True
        self._woken.set()

    def hand_over(self, handed: Handed) -> None:
        """Pushes have been committed for this process to deliver: at once, or else as any in the outbox."""
        if not handed.pushes:
            return
        new = [push for push in handed.pushes if push.id not in self._held.get(push.receiver, ())]
        looked = len(new) < len(handed.pushes)  # and a look at the outbox was faster
        chain = self._chains.take(handed) if self._open and not looked else None
        if chain is None:
            self._leave([*new, *self._chains.let_go(handed.pushes[0].call_id)])
            self.wake()
            return
        for push in new:
            self._hold(push)
        self._go_on(chain)

    async def run(self) -> None:
        """Deliver until cancelled. Attempts then under way may finish within 2 s, or stay pending."""
        async with self._sender:
            if self._database.shared:
                await self._end_leases()  # of the process that was this cell before
            self._open = True
            try:
                while True:
                    self._woken.clear()
                    self._soon.clear()
                    await self._round()
                    await _either(self._soon, _GAP_S)
                    await _either(self._woken, (self._look_at - self._clock.now_ms()) / 1000)
            finally:
                self._open = False
                await self._finish()

    async def _round(self) -> None:
        """Store what is over, start what is due and has a slot."""
        over, self._over = self._over, []
        left, self._left = self._left, []
        wanted, self._wanted = self._wanted, False
        now = self._clock.now_ms()
        news = self._news(over, now)
        look = wanted or bool(news) or now >= self._look_at or any(map(self._slots.room, self._short))
        if not (over or left or self._burials or look):
            return
        plan = self._plan(over, now) if look else None
        todo = Round(self._cell, over, news, left, self._burials, plan)
        self._storing = bool(over)
        try:
            done = await self._carry_out(todo, now)
        except Exception as error:
            self._over, self._left, self._wanted = over + self._over, left + self._left, True
            log.error("outbox out of reach, trying again", reason=_first_line(error))
            await asyncio.sleep(_DATABASE_RETRY_S)
            return
        self._storing = False
        for verdict, _ in over:
            self._let_go(verdict.push)
            self._chains.stored(verdict.push)
        self._learn(done)
        if done.found is not None:
            self._take(done.found)
        if self._burials:
            self._woken.set()

    async def _carry_out(self, todo: Round, now: int) -> Done:
        """One commit for all of it."""
        writes = todo.over or todo.left or todo.burials or self._database.shared
        database = self._database.write if writes else self._database.read
        return await database(lambda connection: carry_out(connection, todo, now))

    def _plan(self, over: list[Judged], now: int) -> Look:
        stored = {verdict.push.id for verdict, _ in over}
        self._short = set()
        return Look(
            slots=self._slots.copy(),
            held={receiver: ids - stored for receiver, ids in self._held.items()},
            after=self._served,
            lease=Lease(self._cell, now + self._lease_ms) if self._database.shared else None,
            known=self._targets,
            stale=now - self._targets_at >= _LOOK_S * 1000,
        )

    def _news(self, over: list[Judged], now: int) -> News:
        attempts = [(verdict.push, outcome) for verdict, outcome in over if outcome is not None]
        return self._judge_targets.news(self._targets, attempts, now)

    def _learn(self, done: Done) -> None:
        """What the database said of targets."""
        self._burials = done.burials
        if done.found is not None and done.found.targets is not None:
            self._targets, self._targets_at = done.found.targets, self._clock.now_ms()
        for target in done.disabled:
            self._burials[target.app_id, target.target] = 0
            log.error("push target disabled", app=target.app_id, target=target.target, reason=target.reason)

    def _take(self, found: Found) -> None:
        """Begin what a look has found."""
        due, next_at, short = found.claim
        self._short |= short  # beside those that have been turned away meanwhile
        in_time = self._clock.now_ms() + round(_LOOK_S * 1000)
        self._look_at = in_time if next_at is None else min(in_time, next_at)
        for push in due:
            if push.id in self._held.get(push.receiver, ()):  # handed over while this was looked for
                continue
            self._served = push.receiver
            self._hold(push)
            secrets = found.secrets.get(push.app_id, ())
            if not self._slots.room(push.receiver):  # taken meanwhile
                self._queue.put(push, secrets)
            elif withheld := self._withheld(push):
                self._over.append(Judged(withheld, None))
                self.wake()
            else:
                self._begin(push, secrets)

    def _withheld(self, push: OwedPush) -> Verdict | None:
        """What becomes of a push that must not be attempted now; None: it may be."""
        now, key = self._clock.now_ms(), key_of(push.app_id, push.url)
        if target := disabled(self._targets, push):
            return Verdict(push, DEAD, now, why_not_tried(target), tried=False)
        if self._breaker.may_go(key, push.id, now):
            return None
        owed_at = push.replayed_at or push.created_at
        again_at = self._breaker.again_at(key, push.kind == STATUS, owed_at, now)
        if again_at is not None:
            return Verdict(push, PENDING, again_at, tried=False)
        self._tell(push).error("push dead", attempt=push.attempts, error=_TOO_LATE)
        return Verdict(push, DEAD, now, _TOO_LATE, tried=False)

    def _go_on(self, chain: Chain) -> None:
        """Have those leave that need not wait for another. What finds no place rests in the outbox."""
        while (push := self._chains.next_of(chain)) is not None:
            receiver = push.receiver
            if receiver not in self._short and not self._queue.has_place(receiver):
                self._short.add(receiver)
            if receiver in self._short:  # there are older ones, and all are looked for once there are slots
                if behind := self._chains.let_go(push.call_id):
                    self.wake()
                self._leave([push, *behind])
                break
            self._queue.put(push, chain.secrets)
        self._serve()

    def _serve(self) -> None:
        """Begin what there is a slot for."""
        while (ready := self._queue.next()) is not None:
            push = ready.push
            if self._may_leave(push):
                self._begin(push, ready.secrets)
            else:
                self._leave([push, *self._chains.failed(push)])
                self.wake()

    def _may_leave(self, push: OwedPush) -> bool:
        """Whether it may at once; if so it must. Else the outbox is looked at, and all that it says of it."""
        now = self._clock.now_ms()
        if not self._open or (self._database.shared and now > push.created_at + HANDED_MS - self._lease_ms):
            return False
        if disabled(self._targets, push):
            return False
        return self._breaker.may_go(key_of(push.app_id, push.url), push.id, now)

    def _leave(self, pushes: Iterable[OwedPush]) -> None:
        """They are found in the outbox when their time has come."""
        for push in pushes:
            self._let_go(push)
            if self._database.shared:
                self._left.append(push.id)
                self._woken.set()

    def _hold(self, push: OwedPush) -> None:
        self._held.setdefault(push.receiver, set()).add(push.id)

    def _let_go(self, push: OwedPush) -> None:
        if (held := self._held.get(push.receiver)) is not None:
            held.discard(push.id)
            if not held:
                del self._held[push.receiver]

    def _begin(self, push: OwedPush, secrets: Sequence[str]) -> None:
        self._slots.take(push.receiver)
        task = asyncio.create_task(self._attempt(push, secrets), name="push")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _attempt(self, push: OwedPush, secrets: Sequence[str]) -> None:
        outcome = await self._sender.send(push, secrets)
        now, delivered = self._clock.now_ms(), outcome.error is None
        self._slots.give_back(push.receiver, outcome.answered)
        turn = self._breaker.over(key_of(push.app_id, push.url), push.id, delivered, now)
        if turn is Turn.SPARED:
            self._tell(push).warning("push target spared: it fails all the time", error=outcome.error)
        elif turn is Turn.BACK:
            self._tell(push).info("push target answers again")
        self._over.append(Judged(self._judge(push, outcome), outcome))
        self._woken.set()
        idle = push.receiver in self._short and not self._slots.under_way(push.receiver)
        if idle or len(self._over) >= _MANY:
            self._soon.set()
        if delivered and (chain := self._chains.delivered(push)) is not None:
            self._go_on(chain)
        elif not delivered or push.kind == STATUS:  # what it blocks is the outbox's
            self._leave(self._chains.failed(push))
            self.wake()
        self._serve()

    def _judge(self, push: OwedPush, outcome: Outcome) -> Verdict:
        now, made = self._clock.now_ms(), push.attempts + 1
        if outcome.error is None:
            return Verdict(push, DELIVERED, now)
        settings = self._settings
        waits = settings.status_retry_s if push.kind == STATUS else settings.cdr_retry_s
        wait = None if outcome.final else wait_s(waits, made, settings.retry_jitter, outcome.retry_after_s)
        told = self._tell(push).bind(attempt=made, error=outcome.error)
        if wait is None:
            told.error("push dead")
            return Verdict(push, DEAD, now, outcome.error)
        told.warning("push failed", retry_in_s=round(wait, 1))
        return Verdict(push, PENDING, now + round(wait * 1000), outcome.error)

    def _tell(self, push: OwedPush) -> structlog.typing.FilteringBoundLogger:
        receiver = push.receiver.removesuffix(REPLAY_LANE)
        told: structlog.typing.FilteringBoundLogger = log.bind(
            call=push.call_id, kind=push.kind, seq=push.seq, receiver=receiver
        )
        return told

    async def _finish(self) -> None:
        """Give the attempts under way their time, store what is over, drop the rest."""
        try:
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=_FINISH_S)
            over, now = self._over, self._clock.now_ms()
            news = self._news(over, now)
            if over or self._storing:  # a write waits for those before it
                async with asyncio.timeout(_STORE_S):
                    await self._database.write(lambda connection: settle(connection, over, news, now))
        except Exception as error:
            log.error("push results not stored, their pushes stay pending", reason=_first_line(error))
        finally:
            dropped = list(self._under_way)
            for task in dropped:
                task.cancel()
            await asyncio.gather(*dropped, return_exceptions=True)
            if self._database.shared:  # of those, and of a claim that was cancelled
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


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for what happens first."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0, seconds)):
            await event.wait()


def _first_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.partition("\n")[0]  # what follows is SQL and its values
