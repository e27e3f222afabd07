"""Leases of pushes: a process that ends keeps none, not even of a claim that it did not wait for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text

from huibo import config
from huibo.clock import Clock
from huibo.model import Push
from huibo.push.delivery import Deliverer
from huibo.push.sender import Outcome
from huibo.storage.database import Database
from huibo.storage.outbox import Handed, OwedPush, add_pushes, hand_over
from huibo.storage.tables import pushes

PATIENCE_S = 20


def owed(call: str) -> Push:
    return Push(call, "app", "cdr", 1, "http://hook.example/", b"{}")


async def until(database: Database, expected: list[tuple[str, str | None]]) -> None:
    """Wait for the pushes to be in these states, leased by these processes."""
    while await states(database) != expected:
        await asyncio.sleep(0.01)


async def states(database: Database) -> list[tuple[str, str | None]]:
    query = select(pushes.c.state, pushes.c.leased_by).order_by(pushes.c.id)
    return await database.read(lambda connection: [tuple(row) for row in connection.execute(query)])


class Receiver:
    """Takes the pushes of one call; of any other it must hear nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call_id: str) -> None:
        self._call_id = call_id
        monkeypatch.setattr("huibo.push.sender.Sender.send", self._send)

    async def _send(self, push: OwedPush, _secrets: Any) -> Outcome:
        assert push.call_id == self._call_id
        return Outcome(answered=True)


async def test_a_claim_that_is_cancelled_leaves_no_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.shared:
        pytest.skip("there is one process, and no lease")

    Receiver(monkeypatch, "c0")  # of the other nothing is heard in time
    clock = Clock()
    deliverer = Deliverer(database, config.load().push, clock, "a")
    await database.write(lambda connection: add_pushes(connection, [owed("c0")], clock.now_ms()))
    running = asyncio.create_task(deliverer.run())
    async with asyncio.timeout(PATIENCE_S):
        await until(database, [("delivered", None)])
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
    assert await states(database) == [("delivered", None), ("pending", None)]


async def test_what_is_handed_over_keeps_no_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is delivered, nor what cannot leave yet: whoever looks first may have that."""
    if not database.shared:
        pytest.skip("there is one process, and no lease")

    Receiver(monkeypatch, "c2")
    clock = Clock()
    deliverer = Deliverer(database, config.load().push, clock, "a")

    async def hand(push: Push) -> Handed:
        return await database.write(lambda connection: hand_over(connection, [push], "a", clock.now_ms()))

    earlier = replace(owed("c1"), kind="status", seq=0)
    await database.write(lambda c: add_pushes(c, [earlier], clock.now_ms() + 3_600_000))
    running = asyncio.create_task(deliverer.run())
    await asyncio.sleep(0)
    await database.write(lambda _: None)  # behind the end of the leases of the process before
    blocked, free = await hand(owed("c1")), await hand(owed("c2"))
    assert await states(database) == [("pending", None), ("pending", "a"), ("pending", "a")]
    deliverer.hand_over(blocked)
    deliverer.hand_over(free)
    async with asyncio.timeout(PATIENCE_S):
        await until(database, [("pending", None), ("pending", None), ("delivered", None)])
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
