"""Delivers the pushes that rest in the outbox: when, how often, how many at once.

At least once, and never lost: a push leaves the outbox's pending state only with a verdict. What is due is
the outbox's to say, who may have a slot `slots`', which target is spared `breaker`'s, what an attempt is
`sender`'s.
"""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.config import PushSettings
from huibo.push.breaker import Breaker, Turn
from huibo.push.schedule import wait_s
from huibo.push.sender import Outcome, Sender
from huibo.push.slots import Slots
from huibo.push.targets import STALE_MS, Judge, News
from huibo.storage import push_targets
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
from huibo.storage.push_targets import Key, PushTarget, key_of, why_not_tried

log = structlog.get_logger()

_GAP_S = 0.025  # between two rounds: under load they serve several pushes each, and a round costs a commit
_LOOK_S = 2.0  # look at least so often: another process may have put a push back
_DATABASE_RETRY_S = 1.0
_FINISH_S = 2.0  # what attempts under way get at the end
_STORE_S = 3.0  # and what storing gets
_LEASE_MARGIN_S = 30.0  # on top of an attempt, clocks that differ included
_TOO_LATE = "given up untried: the target fails all the time"
_BURIED_AT_ONCE = 1000  # pushes to a disabled target, so that calls do not wait for it

Claim = tuple[list[OwedPush], int | None]
Secrets = dict[str, tuple[str, ...]]  # what signs the pushes of an app
Known = dict[Key, PushTarget]


class Judged(NamedTuple):
    """A push whose verdict is not stored yet. `outcome`: its attempt's, which keeps its slot until then."""

    verdict: Verdict
    outcome: Outcome | None


class Found(NamedTuple):
    """What a look at the outbox has found: `due` may leave, more is due at `next_at` (UNIX ms)."""

    due: list[OwedPush]
    next_at: int | None
    secrets: Secrets
    targets: Known | None  # None: not looked at again
    disabled: list[PushTarget]
    burials: dict[Key, int]  # pushes behind this id are still to be given up


class Deliverer:
    """Delivers what is owed. Raises `ValueError` when the settings name no networks."""

    def __init__(self, database: Database, settings: PushSettings, clock: Clock, cell: str = "main") -> None:
        self._database = database
        self._cell = cell
        self._settings = settings
        self._clock = clock
        self._sender = Sender(settings, clock)
        self._slots = Slots(settings.concurrency, settings.concurrency_per_receiver)
        self._breaker = Breaker()
        self._judge_targets = Judge(settings.disable_after_s)
        self._targets: Known = {}
        self._targets_at = -math.inf
        self._burials: dict[Key, int] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._over: list[Judged] = []
        self._storing = False
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
        self._storing = bool(over)
        try:
            found = await self._settle_and_claim(over)
        except Exception as error:
            self._over = over + self._over
            log.error("outbox out of reach, trying again", reason=_first_line(error))
            await asyncio.sleep(_DATABASE_RETRY_S)
            return 0
        self._storing = False
        for verdict, outcome in over:
            if outcome is not None:
                self._slots.give_back(verdict.push, outcome.answered)
        self._learn(found)
        for push in found.due:
            self._served = push.receiver
            if withheld := self._withheld(push):
                self._over.append(Judged(withheld, None))
            else:
                self._begin(push, found.secrets.get(push.app_id, ()))
        if self._over or self._burials:
            self.wake()
        return (
            _LOOK_S if found.next_at is None else min(_LOOK_S, (found.next_at - self._clock.now_ms()) / 1000)
        )

    async def _settle_and_claim(self, over: list[Judged]) -> Found:
        """One commit for all that is over, and the look at what may leave after it, and signed by what."""
        plan, now, served = self._slots.copy(), self._clock.now_ms(), self._served
        shared, known, burials = self._database.shared, self._targets, self._burials
        until = now + round((self._settings.timeout_s + _LEASE_MARGIN_S) * 1000)
        lease = Lease(self._cell, until) if shared else None
        stale = now - self._targets_at >= _LOOK_S * 1000
        for verdict, outcome in over:
            if outcome is not None:
                plan.give_back(verdict.push, outcome.answered)
        news = self._news(over, now)

        def work(connection: Connection) -> Found:
            disabled = _settle(connection, over, news, now)
            left = _bury(connection, burials, now)
            due, next_at = claim(connection, now, plan.copy(), served, lease)  # this may be run again
            look = news or stale or any(_disabled(known, push) for push in due)
            targets = push_targets.load(connection) if look else None
            secrets = signing(connection, {push.app_id for push in due}, now)
            return Found(due, next_at, secrets, targets, disabled, left)

        return await (self._database.write(work) if over or burials or shared else self._database.read(work))

    def _news(self, over: list[Judged], now: int) -> News:
        attempts = [(verdict.push, outcome) for verdict, outcome in over if outcome is not None]
        return self._judge_targets.news(self._targets, attempts, now)

    def _learn(self, found: Found) -> None:
        """What the look said of targets."""
        self._burials = found.burials
        if found.targets is not None:
            self._targets, self._targets_at = found.targets, self._clock.now_ms()
        for target in found.disabled:
            self._burials[target.app_id, target.target] = 0
            log.error("push target disabled", app=target.app_id, target=target.target, reason=target.reason)

    def _withheld(self, push: OwedPush) -> Verdict | None:
        """What becomes of a push that must not be attempted now; None: it may be."""
        now, key = self._clock.now_ms(), key_of(push.app_id, push.url)
        if target := _disabled(self._targets, push):
            return Verdict(push, DEAD, now, why_not_tried(target), tried=False)
        if self._breaker.may_go(key, push.id, now):
            return None
        owed_at = push.replayed_at or push.created_at
        again_at = self._breaker.again_at(key, push.kind == STATUS, owed_at, now)
        if again_at is not None:
            return Verdict(push, PENDING, again_at, tried=False)
        self._tell(push).error("push dead", attempt=push.attempts, error=_TOO_LATE)
        return Verdict(push, DEAD, now, _TOO_LATE, tried=False)

    def _begin(self, push: OwedPush, secrets: tuple[str, ...]) -> None:
        self._slots.take(push)
        task = asyncio.create_task(self._attempt(push, secrets), name=f"push-{push.call_id}-{push.seq}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _attempt(self, push: OwedPush, secrets: tuple[str, ...]) -> None:
        outcome = await self._sender.send(push, secrets)
        turn = self._breaker.over(
            key_of(push.app_id, push.url), push.id, outcome.error is None, self._clock.now_ms()
        )
        if turn is Turn.SPARED:
            self._tell(push).warning("push target spared: it fails all the time", error=outcome.error)
        elif turn is Turn.BACK:
            self._tell(push).info("push target answers again")
        self._over.append(Judged(self._judge(push, outcome), outcome))
        self.wake()

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
                    await self._database.write(lambda connection: _settle(connection, over, news, now))
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


def _disabled(known: Known, push: OwedPush) -> PushTarget | None:
    """The target of a push, if it is known to be disabled."""
    if not known:
        return None
    target = known.get(key_of(push.app_id, push.url))
    return target if target is not None and target.disabled_at is not None else None


def _settle(connection: Connection, over: list[Judged], news: News, now: int) -> list[PushTarget]:
    """Store what came of pushes, and what that says of their targets; returns those disabled by it."""
    save_verdicts(connection, [each.verdict for each in over])
    push_targets.forget(connection, news.works)
    return push_targets.fail(connection, news.failed, now - STALE_MS) if news.failed else []


def _bury(connection: Connection, burials: dict[Key, int], now: int) -> dict[Key, int]:
    """Give up some of what is owed to disabled targets; returns what is left to do."""
    left = {}
    for key, after in burials.items():
        last = push_targets.bury(connection, key, now, after, _BURIED_AT_ONCE)
        if last is not None:
            left[key] = last
    return left


def _first_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.partition("\n")[0]  # what follows is SQL and its values
