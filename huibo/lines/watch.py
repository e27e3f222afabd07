"""Notices trunks over which too few legs are answered, and locks them for a time.

Counts in memory, so that a restart forgives; a lock is in the database: it counts for every process, can be
seen, and can be lifted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import structlog

from huibo.clock import Clock
from huibo.config import TrunkSettings
from huibo.flow.state import CallState
from huibo.lines.book import TrunkBook
from huibo.model import EndReason, Leg, Trunk
from huibo.storage.database import Database
from huibo.storage.locks import Lock, LockKind, put_lock

log = structlog.get_logger()

# What says nothing of the carrier: we ended the leg, never sent it, or do not know.
_NOT_THE_CARRIER = frozenset(
    {
        EndReason.RELEASED,
        EndReason.CANCELLED,
        EndReason.WITHDRAWN,
        EndReason.NO_CREDIT,
        EndReason.MENU,
        EndReason.TRUNK_DOWN,
        EndReason.EXPIRED,
        EndReason.PROMPT_FAILED,
        EndReason.LOST,
    }
)


def outcomes(before: CallState, after: CallState) -> Iterator[tuple[str, bool]]:
    """The attempts that one step of a call has decided: over which trunk, and whether somebody answered."""
    for leg in Leg:
        was, now = before.leg(leg), after.leg(leg)
        if now.record == was.record and now.tried == was.tried:
            continue
        for attempt in now.tried[len(was.tried) :]:
            if attempt.reason not in _NOT_THE_CARRIER:
                yield attempt.trunk, False
        trunk, ended = after.trunk(leg), now.record.ended_at is not None and was.record.ended_at is None
        if trunk is None:
            continue
        if now.answered and not was.answered:
            yield trunk, True
        elif ended and not now.answered and now.record.reason not in _NOT_THE_CARRIER:
            yield trunk, False


class Watch:
    """What one process notices of its trunks."""

    def __init__(self, database: Database, book: TrunkBook, clock: Clock, settings: TrunkSettings) -> None:
        self._database = database
        self._book = book
        self._clock = clock
        self._settings = settings
        self._last: dict[str, deque[bool]] = {}
        self._locking: set[asyncio.Task[None]] = set()

    def on_step(self, before: CallState, after: CallState) -> None:
        """A call has gone a step further; never blocks."""
        for name, answered in outcomes(before, after):
            trunk = self._book.trunks.get(name)
            if trunk is not None and trunk.min_answered is not None:
                self._count(trunk, trunk.min_answered, answered)

    def _count(self, trunk: Trunk, least: int, answered: bool) -> None:
        last = self._last.setdefault(trunk.name, deque(maxlen=self._settings.watch_calls))
        last.append(answered)
        if len(last) < self._settings.watch_calls or sum(last) * 100 >= least * len(last):
            return
        reason = f"{sum(last)} of the last {len(last)} calls were answered, {least} % are asked for"
        last.clear()  # what it is worth after the lock is to be found out anew
        task = asyncio.create_task(self._lock(trunk.name, reason))
        self._locking.add(task)
        task.add_done_callback(self._locking.discard)

    async def _lock(self, trunk: str, reason: str) -> None:
        now, minutes = self._clock.now_ms(), self._settings.lock_min
        lock = Lock(LockKind.TRUNK, trunk, reason, now, now + minutes * 60_000)
        log.warning("trunk locked", trunk=trunk, reason=reason, minutes=minutes)
        try:
            await self._database.write(lambda connection: put_lock(connection, lock))
        except Exception as error:
            log.error("lock not stored", trunk=trunk, reason=str(error).partition("\n")[0])
