"""A deliverer at work on an outbox of its own, and what it logs: for the push tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

import structlog
from push_receivers import PATIENCE_S, Receiver
from sqlalchemy import event, select

from huibo.clock import Clock
from huibo.config import PushSettings
from huibo.model import Push
from huibo.push.delivery import Deliverer
from huibo.storage.database import Database
from huibo.storage.outbox import add_pushes, hand_over
from huibo.storage.tables import pushes

QUICK = PushSettings(
    connect_timeout_s=5,
    timeout_s=10,
    status_retry_s=[0.05, 0.1],
    cdr_retry_s=[0.05, 0.05, 0.05],
    retry_jitter=0,
    disable_after_s=432000,
    concurrency=256,
    concurrency_per_receiver=16,
    keep_old_secret_s=86400,
    allowed_networks=["127.0.0.0/8"],
)


PHONE = "008613800138000"


class Office:
    """A database with an outbox, and at most one deliverer at work on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = Clock()
        self.database = Database(url)
        self.deliverer = Deliverer(self.database, QUICK, self.clock)
        self._run: asyncio.Task[None] | None = None

    def open(self, **settings: Any) -> None:
        self.deliverer = Deliverer(self.database, QUICK.model_copy(update=settings), self.clock)
        self._run = asyncio.create_task(self.deliverer.run())

    async def stop(self) -> None:
        """End the deliverer; what it has delivered is stored then."""
        if self._run is not None:
            self._run.cancel()
            with suppress(asyncio.CancelledError):
                await self._run
            self._run = None

    async def owe(self, *owing: Push, wake: bool = True) -> None:
        at = self.clock.now_ms()
        await self.database.write(lambda connection: add_pushes(connection, owing, at))
        if wake:
            self.deliverer.wake()

    async def hand(self, *owing: Push) -> None:
        """As a step does it: the pushes of a call are handed over once they are committed."""
        at = self.clock.now_ms()
        handed = await self.database.write(lambda connection: hand_over(connection, owing, "main", at))
        self.deliverer.hand_over(handed)

    async def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        query = select(*(pushes.c[name] for name in columns)).order_by(pushes.c.call_id, pushes.c.seq)
        return await self.database.read(lambda connection: [tuple(row) for row in connection.execute(query)])

    async def until(self, fits: Callable[[list[str]], bool]) -> None:
        """Waits until the states of the pushes, by call and number, fit: nobody is told when they change."""
        async with asyncio.timeout(PATIENCE_S):
            while not fits([state for (state,) in await self.rows("state")]):
                await asyncio.sleep(0.01)

    def count(self) -> list[str]:
        """The statements that SQLite carries out from the next transaction on, but those that frame one."""
        counted: list[str] = []

        def note(statement: str) -> None:
            if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
                counted.append(statement)

        trace = lambda connection, *_: connection.set_trace_callback(note)  # noqa: E731
        event.listen(self.database.engine, "checkout", trace)
        return counted

    async def outcome(self) -> tuple[Any, ...]:
        """State, attempts and last error of the only push."""
        (only,) = await self.rows("state", "attempts", "last_error")
        return only


class Journal:
    """What has been logged, as it is logged."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def __call__(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> Any:
        self.entries.append(dict(entry))
        self._news.set()
        raise structlog.DropEvent

    def of(self, event_text: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["event"] == event_text]

    async def heard(self, event_text: str, count: int = 1) -> list[dict[str, Any]]:
        """Waits until something has been logged so often."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(event_text)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(event_text)


def status(call: str, seq: int, url: str) -> Push:
    body = f'{{"callId":"{call}","src":"{PHONE}","seq":"{seq}"}}'
    return Push(call, "1400000000", "status", seq, url, body.encode())


def cdr(call: str, seq: int, url: str, kind: str = "cdr") -> Push:
    return Push(call, "1400000000", kind, seq, url, f'{{"dst":"{PHONE}"}}'.encode())


def ids(customer: Receiver) -> list[str]:
    return [each.id for each in customer.got]
