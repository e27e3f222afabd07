"""A receiver that hangs, drips or is dead costs the others nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from push_office import QUICK, Journal, Office, cdr, status
from push_receivers import NameServer, Receiver, raw_receiver, receiver

pytest_plugins = ["push_fixtures"]


async def drip_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_receivers_that_hang_or_drip_delay_nobody_else(office: Office, journal: Journal) -> None:
    async with receiver(Receiver.HANG) as hanging, raw_receiver(drip_head) as dripping, receiver() as fine:
        office.open(timeout_s=300)
        owing = [status(f"h{n}", 1, hanging.url()) for n in range(50)]
        owing += [status(f"d{n}", 1, dripping.url) for n in range(50)]
        await office.owe(*owing)
        await hanging.arrived(1)
        await dripping.arrived(1)
        for n in range(30):
            await office.owe(status(f"f{n}", 1, fine.url()))
        await fine.arrived(30)
        assert 1 <= hanging.at_once <= QUICK.concurrency_per_receiver
        assert 1 <= len(dripping.tasks) <= QUICK.concurrency_per_receiver


async def test_receivers_that_hang_or_drip_are_given_up(office: Office, journal: Journal) -> None:
    async with receiver(Receiver.HANG) as hanging, raw_receiver(drip_head) as dripping:
        office.open(timeout_s=0.2)
        await office.owe(status("c1", 1, hanging.url()), status("c2", 1, dripping.url))
        await journal.heard("push dead", 2)
        await office.stop()
    assert (len(hanging.got), dripping.requests) == (3, 3)
    rows = await office.rows("state", "attempts", "last_error")
    assert rows == [("dead", 3, "timed out after 0.2 s")] * 2


async def test_never_more_attempts_at_once_than_set(office: Office) -> None:
    async with receiver() as customer:
        office.open(concurrency_per_receiver=3)
        await office.owe(*(cdr(f"c{n}", 1, customer.url()) for n in range(60)))
        await customer.arrived(60)
        assert customer.most_at_once <= 3


async def test_names_that_take_forever_delay_nobody_else(
    office: Office, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = NameServer({f"slow{n}.example": ["127.0.0.1"] for n in range(50)}, monkeypatch)
    async with receiver() as fine:
        office.open(connect_timeout_s=0.3, cdr_retry_s=[])
        await office.owe(*(cdr(name, 1, f"http://{name}/") for name in names.names))
        for n in range(10):
            await office.owe(status(f"f{n}", 1, fine.url()))
        await fine.arrived(10)
        (entry, *_) = await journal.heard("push dead")
        names.awake.set()
    assert entry["error"] == "no connection within 0.3 s"


async def test_a_flood_of_dead_receivers_starves_nobody(office: Office) -> None:
    """More hanging receivers than there are slots, each with more pushes than its share."""
    async with AsyncExitStack() as exits:
        fine = await exits.enter_async_context(receiver())
        dead = [await exits.enter_async_context(receiver(Receiver.HANG)) for _ in range(12)]
        office.open(concurrency=8, concurrency_per_receiver=4, timeout_s=300)
        await office.owe(cdr("f", 0, fine.url()))
        await fine.arrived(1)
        await office.owe(*(cdr(f"d{n}-{m}", 1, each.url()) for n, each in enumerate(dead) for m in range(10)))
        for n in range(20):
            await office.owe(cdr("f", n + 1, fine.url()))
        await fine.arrived(21)
        assert sum(each.at_once for each in dead) <= 4


async def test_a_new_receiver_gets_its_turn_among_dead_ones(office: Office) -> None:
    async with AsyncExitStack() as exits:
        fine = await exits.enter_async_context(receiver())
        dead = [await exits.enter_async_context(receiver(Receiver.HANG)) for _ in range(6)]
        office.open(concurrency=8, concurrency_per_receiver=4, timeout_s=0.1, cdr_retry_s=[0.01] * 1000)
        await office.owe(*(cdr(f"d{n}-{m}", 1, each.url()) for n, each in enumerate(dead) for m in range(20)))
        await dead[0].arrived(1)
        await office.owe(cdr("f", 1, fine.url()))
        await fine.arrived(1)
