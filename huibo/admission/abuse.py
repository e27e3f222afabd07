"""Notices who misbehaves, and locks them for a time: addresses that are refused again and again, apps whose
calls nobody ever answers.

Counts in memory, so that a restart forgives; a lock is in the database: it counts for every process, can
be seen, and can be lifted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

import structlog

from huibo.clock import Clock
from huibo.config import AbuseSettings
from huibo.errors import Refusal, Refused
from huibo.model import Call, CallResult, Cdr, EndReason
from huibo.storage.database import Database
from huibo.storage.locks import Lock, LockKind, put_lock

log = structlog.get_logger()

_MOST_SUBJECTS = 10_000
_TELLING = frozenset({Refusal.APP, Refusal.URL_ID, Refusal.ADDRESS})
# What the person at the number did, or that there is none; the faults of carriers are nobody's abuse.
_UNANSWERED = frozenset(
    {
        EndReason.NO_ANSWER,
        EndReason.DECLINED,
        EndReason.BUSY,
        EndReason.UNAVAILABLE,
        EndReason.NOT_FOUND,
    }
)


class Bursts:
    """Counts what happens to a subject within the last `window_ms`; forgets the subject unseen longest."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._seen: OrderedDict[str, deque[int]] = OrderedDict()

    def add(self, subject: str, now: int) -> int:
        """Count one more at `now` (ms). Returns how many there are in the window."""
        times = self._seen.setdefault(subject, deque())
        self._seen.move_to_end(subject)
        times.append(now)
        while times[0] <= now - self._window_ms:
            times.popleft()
        if len(self._seen) > _MOST_SUBJECTS:
            self._seen.popitem(last=False)
        return len(times)

    def forget(self, subject: str) -> None:
        self._seen.pop(subject, None)


class Abuse:
    """What one process notices."""

    def __init__(self, database: Database, clock: Clock, settings: AbuseSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._refusals = Bursts(settings.refusals_s * 1000)
        self._unanswered = Bursts(settings.unanswered_s * 1000)
        self._locking: set[asyncio.Task[None]] = set()

    async def refused(self, address: str, refused: Refused) -> None:
        """A request was refused; the lock is in force when this returns."""
        if refused.refusal not in _TELLING or not self._settings.refusals:
            return
        if self._refusals.add(address, self._clock.now_ms()) >= self._settings.refusals:
            self._refusals.forget(address)
            await self._lock(LockKind.ADDRESS, address, "too many refused requests")

    def call_over(self, call: Call, cdr: Cdr) -> None:
        """A call has ended; never blocks."""
        if cdr.result is CallResult.TALKED:
            self._unanswered.forget(call.app_id)
        if not self._settings.unanswered or not {cdr.caller.reason, cdr.callee.reason} & _UNANSWERED:
            return
        if self._unanswered.add(call.app_id, self._clock.now_ms()) >= self._settings.unanswered:
            self._unanswered.forget(call.app_id)
            task = asyncio.create_task(
                self._lock(LockKind.APP, call.app_id, "too many calls that nobody answers")
            )
            self._locking.add(task)
            task.add_done_callback(self._locking.discard)

    async def _lock(self, kind: LockKind, subject: str, reason: str) -> None:
        now = self._clock.now_ms()
        lock = Lock(kind, subject, reason, now, now + self._settings.lock_min * 60_000)
        log.warning(
            "locked", kind=kind.value, subject=subject, reason=reason, minutes=self._settings.lock_min
        )
        try:
            await self._database.write(lambda connection: put_lock(connection, lock))
        except Exception as error:
            log.error("lock not stored", kind=kind.value, reason=str(error).partition("\n")[0])
