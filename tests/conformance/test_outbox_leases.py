"""Leases of pushes: a process that ends keeps none, not even of a claim that it did not wait for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select, text

from huibo import config
from huibo.clock import Clock
from huibo.model import Push
from huibo.push.delivery import Deliverer
from huibo.push.sender import Outcome
from huibo.storage.database import Database
from huibo.storage.outbox import OwedPush, add_pushes
from huibo.storage.tables import pushes

PATIENCE_S = 20


def owed(call: str) -> Push:
    return Push(call, "app", "cdr", 1, "http://hook.example/", b"{}")


async def test_a_claim_that_is_cancelled_leaves_no_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.shared:
        pytest.skip("there is one process, and no lease")

    async def send(_self: Any, push: OwedPush, _secrets: Any) -> Outcome:
        assert push.call_id == "c0", "of the other nothing is heard in time"
        return Outcome(answered=True)

    monkeypatch.setattr("huibo.push.sender.Sender.send", send)
    clock = Clock()
    deliverer = Deliverer(database, config.load().push, clock, "a")

    async def rows() -> list[tuple[Any, ...]]:
        query = select(pushes.c.state, pushes.c.leased_by).order_by(pushes.c.id)
        return await database.read(lambda connection: [tuple(row) for row in connection.execute(query)])

    await database.write(lambda connection: add_pushes(connection, [owed("c0")], clock.now_ms()))
    running = asyncio.create_task(deliverer.run())
    async with asyncio.timeout(PATIENCE_S):
        while await rows() != [("delivered", None)]:
            await asyncio.sleep(0.01)
        with database.engine.connect() as other:
            other.execute(text("LOCK TABLE pushes IN ACCESS EXCLUSIVE MODE"))
            add_pushes(other, [owed("c1")], clock.now_ms() - 1000)
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not await asyncio.to_thread(lambda: other.execute(waiting).scalar_one()):
                await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.sleep(0)
            other.commit()
        with suppress(asyncio.CancelledError):
            await running
    await database.write(lambda _: None)  # behind the claim
    assert await rows() == [("delivered", None), ("pending", None)]
