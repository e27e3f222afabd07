"""Pushes that a step hands over: they leave without being looked for, in their order, and none is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from push_office import Journal, Office, cdr, ids, status
from push_receivers import Receiver, receiver
from sqlalchemy import update

from huibo.push import delivery
from huibo.storage.outbox import hand_over
from huibo.storage.tables import pushes

pytest_plugins = ["push_fixtures"]

HOUR_MS = 3_600_000


@pytest.fixture
async def begun(office: Office, monkeypatch: pytest.MonkeyPatch) -> Office:
    """Its deliverer has had its first look at the outbox, and will not soon look again by itself."""
    monkeypatch.setattr(delivery, "_LOOK_S", 3600)
    async with receiver() as first:
        office.open()
        await office.owe(status("c0", 1, first.url()))
        await office.until(lambda states: states == ["delivered"])
    async with receiver() as second:
        await office.hand(cdr("c0", 2, second.url()))
        await office.until(lambda states: states == ["delivered"] * 2)
    return office


async def test_they_leave_in_order_and_are_not_looked_for(begun: Office) -> None:
    office, counted = begun, begun.count()
    async with receiver() as customer:
        for call in ("c1", "c2", "c3"):
            url = customer.url(f"/{call}")
            await office.hand(*(status(call, seq, url) for seq in (2, 1, 3)))
            await office.hand(status(call, 4, url), cdr(call, 5, url), cdr(call, 6, url, "recording"))
        await customer.arrived(18)
        await office.stop()
    for call in ("c1", "c2", "c3"):
        order = [id for id in ids(customer) if id.startswith(call)]
        assert order[:4] == [f"{call}-{seq}" for seq in (1, 2, 3, 4)]
        assert set(order[4:]) == {f"{call}-5", f"{call}-6"}
    assert await office.rows("state", "attempts") == [("delivered", 1)] * 20
    assert [one for one in counted if one.startswith("WITH RECURSIVE")] == []


async def test_the_next_does_not_wait_until_the_last_is_stored(begun: Office, tmp_path: Path) -> None:
    office = begun
    async with receiver(Receiver.HANG, 200) as customer:
        await office.hand(*(status("c1", seq, customer.url()) for seq in (1, 2, 3)))
        await customer.arrived(1)
        with closing(sqlite3.connect(tmp_path / "outbox.sqlite3", isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            customer.let_go.set()
            await customer.arrived(3)
            states = "SELECT state FROM pushes WHERE call_id = 'c1'"
            assert [row[0] for row in lock.execute(states)] == ["pending"] * 3
        await office.until(lambda states: states == ["delivered"] * 5)
    assert ids(customer) == ["c1-1", "c1-2", "c1-3"]


async def test_one_that_fails_holds_back_those_behind_it(office: Office) -> None:
    async with receiver(500, 200) as flaky, receiver() as fine:
        office.open()
        await office.hand(status("c1", 1, flaky.url()), status("c1", 2, fine.url()))
        await flaky.arrived(1)
        await office.hand(status("c1", 3, fine.url()), cdr("c1", 4, fine.url()))
        await office.hand(status("c2", 1, fine.url()))
        await fine.arrived(4)
        await office.stop()
    assert [id for id in ids(fine) if id != "c2-1"] == ["c1-2", "c1-3", "c1-4"]
    assert await office.rows("state", "attempts") == [("delivered", n) for n in (2, 1, 1, 1, 1)]


async def test_one_that_is_given_up_lets_the_next_pass(office: Office, journal: Journal) -> None:
    async with receiver(500) as broken, receiver() as fine:
        office.open(status_retry_s=[])
        await office.hand(status("c1", 1, broken.url()), status("c1", 2, fine.url()))
        await fine.arrived(1)
        await office.stop()
    assert await office.rows("state") == [("dead",), ("delivered",)]


async def test_what_rests_in_the_outbox_is_not_overtaken(office: Office) -> None:
    async with receiver() as customer:
        await office.owe(status("c1", 1, customer.url()), wake=False)
        later = update(pushes).values(next_at=pushes.c.next_at + HOUR_MS)
        await office.database.write(lambda connection: connection.execute(later))
        office.open()
        await office.hand(status("c1", 2, customer.url()))
        await office.hand(status("c2", 1, customer.url()))
        await customer.arrived(1)
        earlier = update(pushes).values(next_at=pushes.c.created_at)
        await office.database.write(lambda connection: connection.execute(earlier))
        office.deliverer.wake()
        await customer.arrived(3)
        await office.stop()
    assert ids(customer) == ["c2-1", "c1-1", "c1-2"]


async def test_what_is_handed_over_too_early_is_found_later(office: Office) -> None:
    async with receiver() as customer:
        await office.hand(status("c1", 1, customer.url()), status("c1", 2, customer.url()))
        office.open()
        await customer.arrived(2)
        await office.stop()
    assert ids(customer) == ["c1-1", "c1-2"]


async def test_what_a_look_has_found_before_is_not_sent_twice(office: Office) -> None:
    async with receiver(Receiver.HANG, 200) as customer:
        office.open()
        owing, at = [status("c1", seq, customer.url()) for seq in (1, 2)], office.clock.now_ms()
        handed = await office.database.write(lambda connection: hand_over(connection, owing, "main", at))
        office.deliverer.wake()
        await customer.arrived(1)
        office.deliverer.hand_over(handed)
        await office.hand(status("c1", 3, customer.url()))
        customer.let_go.set()
        await customer.arrived(3)
        await office.stop()
    assert ids(customer) == ["c1-1", "c1-2", "c1-3"]
    assert await office.rows("state", "attempts") == [("delivered", 1)] * 3


async def test_more_than_there_is_room_for(office: Office) -> None:
    """Some wait for a slot, some in the outbox; nobody else waits for them, and each leaves once."""
    async with receiver(Receiver.HANG) as slow, receiver() as fine:
        office.open(concurrency_per_receiver=4, timeout_s=300)
        for number in range(100):
            url = slow.url(f"/{number}")
            await office.hand(status(f"c{number:02}", 1, url), status(f"c{number:02}", 2, url))
        await slow.arrived(1)
        for number in range(20):
            await office.hand(status("f", number, fine.url()))
        await fine.arrived(20)
        slow.let_go.set()
        await slow.arrived(200)
        await office.stop()
    assert slow.most_at_once <= 4
    assert sorted(ids(slow)) == sorted({f"c{number:02}-{seq}" for number in range(100) for seq in (1, 2)})
    assert slow.crowded == set(), "one after the other within a call"
    for number in range(100):
        own = [id for id in ids(slow) if id.startswith(f"c{number:02}")]
        assert own == sorted(own)
    assert await office.rows("state", "attempts") == [("delivered", 1)] * 220


async def test_a_disabled_target_gets_none(office: Office, journal: Journal) -> None:
    async with receiver(410) as customer, receiver() as fine:
        office.open()
        await office.hand(status("c1", 1, customer.url()))
        await journal.heard("push target disabled")
        await office.hand(status("c2", 1, customer.url()), status("c2", 2, fine.url()))
        await fine.arrived(1)
        await office.stop()
    assert ids(customer) == ["c1-1"]
    assert await office.rows("state", "attempts", "last_error") == [
        ("dead", 1, "HTTP 410"),
        ("dead", 0, "target disabled: HTTP 410"),
        ("delivered", 1, None),
    ]


async def test_what_is_not_attempted_at_the_end_stays_pending(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_FINISH_S", 0.1)
    async with receiver(Receiver.HANG) as customer:
        office.open()
        await office.hand(status("c1", 1, customer.url()), status("c1", 2, customer.url()))
        await customer.arrived(1)
        await office.stop()
        await office.hand(cdr("c2", 1, customer.url()))
    assert await office.rows("state", "attempts") == [("pending", 0)] * 3
