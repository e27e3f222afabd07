"""Finishes the recordings that are owed: when, and how many at once.

What is due is the table's to say, how one is finished `attempt`'s. Two of these at the same time, in one
process or in several, do not take the same recording.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import structlog
from sqlalchemy import Connection

from huibo.recording.attempt import Attempt, Means
from huibo.storage.recordings import Held, due_recordings, next_due

log = structlog.get_logger()

_LOOK_S = 60.0  # look at least so often: another process may have left something
_DATABASE_RETRY_S = 1.0


class Finisher:
    """Finishes recordings, at most `recording.concurrency` at once."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """A recording has been owed. Many calls cost as much as one."""
        self._woken.set()

    async def run(self) -> None:
        """Finish until cancelled. Attempts then under way are broken off, to be made again later."""
        self._make_raw_folder()
        try:
            while True:
                self._woken.clear()
                rest_s = await self._round()
                with suppress(TimeoutError):
                    async with asyncio.timeout(rest_s):
                        await self._woken.wait()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._means.helpers.close()

    async def _round(self) -> float:
        """Start what is due, as far as there is room. Returns the seconds until there is more to do."""
        means = self._means
        room = means.settings.concurrency - len(self._under_way)
        if room <= 0:
            return _LOOK_S
        now, until = means.clock.now_ms(), means.hold_until()

        def work(connection: Connection) -> tuple[list[Held], int | None]:
            due = due_recordings(connection, now, until, room, means.cell)
            return due, next_due(connection, now, means.cell)

        try:
            due, next_at = await means.database.write(work)
        except Exception as error:
            log.error("recordings out of reach, trying again", reason=type(error).__name__)
            return _DATABASE_RETRY_S
        for held in due:
            if held.call_id not in self._under_way:  # else this process was asleep, and let go of it
                task = asyncio.create_task(Attempt(means, held).run(), name=f"recording-{held.call_id}")
                self._under_way[held.call_id] = task
                task.add_done_callback(partial(self._over, held.call_id))
        return _LOOK_S if next_at is None else min(_LOOK_S, max(0, next_at - means.clock.now_ms()) / 1000)

    def _over(self, call_id: str, _task: asyncio.Task[None]) -> None:
        del self._under_way[call_id]
        self.wake()

    def _make_raw_folder(self) -> None:
        folder = self._means.raw.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            log.error("no folder for raw recordings", folder=str(folder), reason=error.strerror)
