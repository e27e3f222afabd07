"""Deletes recordings when their time is over, and whatever was left behind on the way.

Left behind are raw files that no call needs any more (a recording that failed, a process that died) and files
that were never finished; a day old, so that an operator can still look at them.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import structlog

from huibo.clock import Clock
from huibo.config import RecordingSettings
from huibo.recording.attempt import making_folder
from huibo.recording.raw import RawRecordings
from huibo.recording.store import Store
from huibo.storage.database import Database
from huibo.storage.recordings import expired, mark_purged, owners

log = structlog.get_logger()

_EVERY_S = 3600.0
_BATCH = 100
_LEFT_BEHIND_S = 86_400


class Retention:
    """Clears away for one installation. Several at the same time do no harm."""

    def __init__(
        self, database: Database, settings: RecordingSettings, clock: Clock, raw: RawRecordings, store: Store
    ) -> None:
        self._database = database
        self._clock = clock
        self._raw = raw
        self._store = store
        self._making = making_folder(settings)

    async def run(self) -> None:
        """Clear away every hour until cancelled."""
        while True:
            for work in (self.purge, self.sweep):
                try:
                    await work()
                except Exception as error:
                    log.error("recordings not cleared away, trying again in an hour", reason=str(error))
            await asyncio.sleep(_EVERY_S)

    async def purge(self) -> None:
        """Delete what has expired: the file first, then its row says so."""
        while over := await self._database.read(partial(expired, now=self._clock.now_ms(), limit=_BATCH)):
            for recording in over:
                if recording.key is not None:
                    await self._store.delete(recording.key)
                await self._database.write(partial(mark_purged, call_id=recording.call_id))
                log.info("recording purged", call=recording.call_id)

    async def sweep(self) -> None:
        """Delete what was left behind."""
        until = time.time() - _LEFT_BEHIND_S  # the files' own times are those of the system's clock
        left = await asyncio.to_thread(self._left_behind, until)
        for first in range(0, len(left), _BATCH):
            batch = left[first : first + _BATCH]
            needed = await self._database.read(partial(owners, call_ids=batch))
            for call_id in set(batch) - needed:
                await asyncio.to_thread(self._raw.remove, call_id)
                log.info("raw files purged", call=call_id)
        await asyncio.to_thread(_delete_older, self._making, until)

    def _left_behind(self, until: float) -> list[str]:
        return [call_id for call_id, changed in self._raw.last_changed() if changed < until]


def _delete_older(folder: Path, until: float) -> None:
    for path in folder.glob("*"):
        try:
            if path.stat().st_mtime < until:
                path.unlink()
        except FileNotFoundError:  # finished meanwhile
            continue
