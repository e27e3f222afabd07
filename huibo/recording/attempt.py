"""One attempt at one recording: from taking hold of it to the verdict.

A recording ends as ready, with its push owed in the same transaction, or as failed, with a reason. The raw
files go only after that. What is in the files is `finish`'s business, in a process of its own (`helpers`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex

import structlog
from sqlalchemy import Connection

from huibo.clock import Clock
from huibo.config import RecordingSettings
from huibo.ports import Notifier
from huibo.recording.helpers import Helpers
from huibo.recording.job import Job, Made, Unfinished, not_written
from huibo.recording.links import LINK_SECRET, link
from huibo.recording.raw import RawRecordings
from huibo.recording.store import Store, key_of
from huibo.storage.catalog import find_app
from huibo.storage.database import Database
from huibo.storage.outbox import add_pushes
from huibo.storage.recordings import (
    Held,
    Kept,
    call_and_seq,
    hold_on,
    mark_failed,
    mark_ready,
    mark_retry,
)
from huibo.storage.secrets import secret

log = structlog.get_logger()

_SHARE = 0.1  # of the talk time, on top of what an attempt may take
_BLAMELESS_FOR_MS = 86_400_000  # how long a full disk may last
_BLAMELESS_WAIT_MS = 10_000, 900_000  # the shortest wait, and the longest
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Means:
    """What recordings are finished with.

    `base_url`: what download links begin with. `pushes_owed`: tells the deliverer that there is something to
    do. `cell`: whose recordings. `hold_s`: so long after a process died its recordings are due again.
    """

    database: Database
    settings: RecordingSettings
    clock: Clock
    raw: RawRecordings
    store: Store
    notifier: Notifier
    base_url: str
    pushes_owed: Callable[[], None]
    cell: str = "main"
    helpers: Helpers = field(default_factory=Helpers)
    hold_s: float = 30.0

    def hold_until(self) -> int:
        return self.clock.now_ms() + round(self.hold_s * 1000)


def making_folder(settings: RecordingSettings) -> Path:
    """Where files are made before the store gets them; on its file system, so that this is a renaming."""
    return settings.folder / ".making"


class Attempt:
    """An attempt at a recording that this process holds."""

    def __init__(self, means: Means, held: Held) -> None:
        self._means = means
        self._held = held
        self._log = log.bind(call=held.call_id)
        # a name that nobody else uses, not even the helper of a server that has died
        name = f"{held.call_id}-{token_hex(4)}.{means.settings.format}"
        self._into = making_folder(means.settings) / name

    async def run(self) -> None:
        """Never fails: whatever goes wrong with the verdict, the recording falls due again."""
        try:
            try:
                made = await self._make()
                await self._renew()  # to be sure that nobody else puts a file under the same key
                kept = await self._keep(made)
            except Unfinished as error:
                await self._put_off(error)
            else:
                await self._done(kept, made)
        except _Lost:
            self._log.warning("recording fell to another process")
        except Exception as error:
            self._log.error("recording's result not stored", reason=_first_line(error))
        finally:
            with suppress(OSError):
                self._into.unlink(missing_ok=True)

    async def _make(self) -> Made:
        """The finished file under a name of its own; the recording stays held meanwhile."""
        means, settings, held = self._means, self._means.settings, self._held
        job = Job(
            said=means.raw.said(held.call_id),
            heard=means.raw.heard(held.call_id),
            into=self._into,
            talk_ms=held.talk_ms,
            format=settings.format,
            last=held.attempts >= len(settings.retry_s),
        )
        try:
            for folder in (settings.folder, self._into.parent):  # a mode is not for the parents made with it
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(error) from error
        limit_s = settings.time_limit_s + held.talk_ms / 1000 * _SHARE
        helper = asyncio.create_task(means.helpers.finish(job, limit_s))
        try:
            while not (await asyncio.wait({helper}, timeout=means.hold_s / 3))[0]:
                await self._renew()
            return await helper
        finally:
            if helper.cancel():
                await asyncio.gather(helper, return_exceptions=True)

    async def _keep(self, made: Made) -> Kept:
        ending = self._means.settings.format
        key = key_of(self._held.call_id, self._held.created_at, ending)
        try:
            await self._means.store.put(self._into, key)
        except OSError as error:
            raise not_written(error) from error
        return Kept(key, ending, made.bytes, made.sha256, made.duration_ms)

    async def _renew(self) -> None:
        held, until = self._held, self._means.hold_until()
        renewed = await self._means.database.write(lambda connection: hold_on(connection, held, until))
        if renewed is None:
            raise _Lost
        self._held = renewed

    async def _done(self, kept: Kept, made: Made) -> None:
        means, held, now = self._means, self._held, self._means.clock.now_ms()
        if not await means.database.write(lambda connection: self._save(connection, kept, made.lacks, now)):
            raise _Lost
        means.pushes_owed()
        try:
            await asyncio.to_thread(means.raw.remove, held.call_id)
        except OSError as error:  # the sweep will try again
            self._log.warning("raw files not deleted", reason=str(error))
        told = self._log.bind(talk_ms=held.talk_ms, bytes=kept.bytes, attempts=held.attempts + 1)
        told.info("recording ready", silent=list(made.silent))
        if made.lacks is not None:
            told.warning("recording incomplete", reason=made.lacks)

    def _save(self, connection: Connection, kept: Kept, lacks: str | None, now: int) -> bool:
        """A unit of work: the recording is ready, and its push is owed."""
        means, held = self._means, self._held
        app = find_app(connection, held.app_id)
        own_days = app.settings.keep_days if app else None
        expires_at = now + (own_days or means.settings.keep_days) * _DAY_MS
        if not mark_ready(connection, held, kept, now, expires_at, lacks):
            return False
        if found := call_and_seq(connection, held):
            call, seq = found
            signed = secret(connection, LINK_SECRET)
            url = link(means.base_url, signed, call.call_id, expires_at, kept.format)
            add_pushes(connection, means.notifier.on_recording(call, seq, url), now)
        return True

    async def _put_off(self, error: Unfinished) -> None:
        """Try again later, or give up."""
        held, now = self._held, self._means.clock.now_ms()
        attempts = held.attempts if error.blameless else held.attempts + 1
        wait_ms = self._wait_ms(error, attempts, now)
        told = self._log.bind(reason=error.reason, attempts=attempts)
        if wait_ms is None:
            work = partial(mark_failed, held=held, reason=error.reason, at=now)
        else:
            next_at = now + wait_ms
            work = partial(mark_retry, held=held, reason=error.reason, next_at=next_at, attempts=attempts)
        if not await self._means.database.write(work):
            raise _Lost
        if wait_ms is None:
            told.error("recording failed")
        else:
            told.warning("recording not finished", retry_in_s=wait_ms / 1000)

    def _wait_ms(self, error: Unfinished, attempts: int, now: int) -> int | None:
        """How long until the next attempt; None: there is none."""
        if not error.blameless:
            waits = self._means.settings.retry_s
            return round(waits[attempts - 1] * 1000) if attempts <= len(waits) else None
        age = now - self._held.created_at
        shortest, longest = _BLAMELESS_WAIT_MS
        return max(shortest, min(longest, age // 4)) if age < _BLAMELESS_FOR_MS else None


class _Lost(Exception):
    """The recording is no more ours to finish."""


def _first_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.partition("\n")[0]  # what follows is SQL and its values
