"""The outbox on a real database: what may leave when, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError

from huibo.model import Push
from huibo.push.rounds import claim
from huibo.push.slots import Slots
from huibo.storage.database import Database
from huibo.storage.outbox import (
    DEAD,
    DELIVERED,
    PENDING,
    OwedPush,
    Verdict,
    Waiting,
    add_pushes,
    due_pushes,
    receiver_of,
    save_verdicts,
    waiting,
)
from huibo.storage.tables import pushes

HOOK = "https://hook.example:443"
NOW = 1_700_000_000_000


def owed(call: str, seq: int, kind: str = "status", url: str = "https://hook.example/in") -> Push:
    return Push(call, "1400000000", kind, seq, url, f'{{"seq":"{seq}"}}'.encode())


async def add(database: Database, *owing: Push, at: int = NOW) -> None:
    await database.write(lambda connection: add_pushes(connection, owing, at))


async def due(database: Database, now: int = NOW, receiver: str = HOOK, limit: int = 100) -> list[OwedPush]:
    return await database.read(lambda connection: due_pushes(connection, receiver, now, limit))


async def due_names(database: Database, now: int = NOW) -> list[tuple[str, int]]:
    return [(push.call_id, push.seq) for push in await due(database, now)]


async def settle(database: Database, push: OwedPush, state: str, at: int, error: str | None = None) -> None:
    await database.write(lambda connection: save_verdicts(connection, [Verdict(push, state, at, error)]))


async def row(database: Database, call: str, seq: int) -> dict[str, Any]:
    query = select(pushes).where(pushes.c.call_id == call, pushes.c.seq == seq)
    return await database.read(lambda connection: dict(connection.execute(query).mappings().one()))


async def look(database: Database, now: int = NOW) -> list[Waiting]:
    return await database.read(lambda connection: waiting(connection, now))


async def test_a_push_comes_back_as_it_was_owed(database: Database) -> None:
    body = '{"msg":"中文 \\u0000 ☎"}'.encode()
    await add(database, replace(owed("c1", 3, "cdr"), body=body))
    (push,) = await due(database)
    assert push == OwedPush(
        *(push.id, "c1", "1400000000", "cdr", 3, "https://hook.example/in", HOOK, body, 0), None, NOW
    )
    assert await row(database, "c1", 3) == {
        "id": push.id,
        "call_id": "c1",
        "app_id": "1400000000",
        "kind": "cdr",
        "seq": 3,
        "url": "https://hook.example/in",
        "receiver": HOOK,
        "body": body,
        "state": PENDING,
        "attempts": 0,
        "created_at": NOW,
        "next_at": NOW,
        "finished_at": None,
        "leased_until": None,
        "leased_by": None,
        "last_error": None,
        "replayed_at": None,
    }


async def test_pushes_share_the_fate_of_the_step_that_owes_them(database: Database) -> None:
    def step(connection: Any) -> None:
        add_pushes(connection, [owed("c1", 1)], NOW)
        raise RuntimeError("the step failed")

    with pytest.raises(RuntimeError):
        await database.write(step)
    assert await due(database) == []
    assert await look(database) == []


async def test_nothing_is_due_before_its_time(database: Database) -> None:
    await add(database, owed("c1", 1), at=NOW + 1)
    assert await due(database) == []
    assert await look(database) == [Waiting(HOOK, NOW + 1, NOW + 1)]
    assert await due_names(database, NOW + 1) == [("c1", 1)]
    assert await look(database, NOW + 1) == [Waiting(HOOK, NOW + 1, None)]


async def test_status_pushes_of_a_call_leave_one_by_one_and_before_its_cdr(database: Database) -> None:
    await add(database, *(owed("c1", seq) for seq in (3, 1, 2)), owed("c1", 4, "cdr"))
    order = []
    while ready := await due(database):
        (push,) = ready
        order.append(push.seq)
        await settle(database, push, DELIVERED, NOW)
    assert order == [1, 2, 3, 4]


async def test_order_holds_across_receivers(database: Database) -> None:
    await add(database, owed("c1", 1), owed("c1", 2, "cdr", "http://other.example/cdr"))
    assert await due(database, receiver="http://other.example:80") == []
    await settle(database, (await due(database))[0], DELIVERED, NOW)
    assert [push.seq for push in await due(database, receiver="http://other.example:80")] == [2]


async def test_calls_do_not_wait_for_each_other(database: Database) -> None:
    await add(database, *(owed(call, seq) for call in ("c1", "c2", "c3") for seq in (1, 2)))
    assert await due_names(database) == [("c1", 1), ("c2", 1), ("c3", 1)]


async def test_a_dead_status_push_blocks_no_longer(database: Database) -> None:
    await add(database, owed("c1", 1), owed("c1", 2))
    await settle(database, (await due(database))[0], DEAD, NOW, "HTTP 500")
    assert await due_names(database) == [("c1", 2)]


async def test_only_status_pushes_block(database: Database) -> None:
    await add(database, owed("c1", 1, "cdr"), owed("c1", 2, "recording"), owed("c1", 3))
    assert await due_names(database) == [("c1", 1), ("c1", 2), ("c1", 3)]
    await settle(database, (await due(database))[0], PENDING, NOW + 300_000, "HTTP 500")
    assert await due_names(database) == [("c1", 2), ("c1", 3)]


async def test_what_a_waiting_status_push_blocks_is_due_with_it(database: Database) -> None:
    """So that what a dead receiver piles up need not be gone through again and again."""
    await add(database, owed("c1", 1), owed("c1", 2), owed("c1", 3, "cdr"), owed("c2", 1))
    first = (await due(database))[0]
    await settle(database, first, PENDING, NOW + 5000, "HTTP 500")
    await add(database, owed("c1", 4), owed("c2", 2), at=NOW + 100)  # owed while the first one waits
    times = {
        name: (await row(database, *name))["next_at"] - NOW
        for name in (("c1", 1), ("c1", 2), ("c1", 3), ("c1", 4), ("c2", 1), ("c2", 2))
    }
    assert times == {
        ("c1", 1): 5000,
        ("c1", 2): 5000,
        ("c1", 3): 5000,
        ("c1", 4): 5000,
        ("c2", 1): 0,
        ("c2", 2): 100,
    }
    assert await due_names(database, NOW + 4999) == [("c2", 1)]
    assert await due_names(database, NOW + 5000) == [("c2", 1), ("c1", 1)]
    await settle(database, first._replace(attempts=1), DELIVERED, NOW + 5010)
    assert await due_names(database, NOW + 5010) == [("c2", 1), ("c1", 2)]


async def test_verdicts_are_kept(database: Database) -> None:
    await add(database, *(owed(call, 1) for call in ("c1", "c2", "c3")))
    first, second, third = await due(database)
    verdicts = [
        Verdict(first, DELIVERED, NOW + 1),
        Verdict(second, PENDING, NOW + 5000, "HTTP 500"),
        Verdict(third, DEAD, NOW + 2, "HTTP 410"),
    ]
    await database.write(lambda connection: save_verdicts(connection, verdicts))
    kept = [await row(database, call, 1) for call in ("c1", "c2", "c3")]
    fields = ("state", "attempts", "finished_at", "last_error")
    assert [tuple(each[field] for field in fields) for each in kept] == [
        (DELIVERED, 1, NOW + 1, None),
        (PENDING, 1, None, "HTTP 500"),
        (DEAD, 1, NOW + 2, "HTTP 410"),
    ]
    (again,) = await due(database, NOW + 5000)
    assert (again.call_id, again.attempts) == ("c2", 1)
    await settle(database, again, DELIVERED, NOW + 5001)
    assert (await row(database, "c2", 1))["last_error"] is None
    assert await look(database) == []


async def test_a_verdict_without_an_attempt_counts_none(database: Database) -> None:
    await add(database, *(owed(call, 1) for call in ("c1", "c2", "c3")))
    first, second, third = await due(database)
    await settle(database, first, PENDING, NOW, "HTTP 500")
    verdicts = [
        Verdict(first, PENDING, NOW + 15_000, tried=False),
        Verdict(second, PENDING, NOW + 15_000, tried=False),
        Verdict(third, DEAD, NOW + 1, "target disabled", tried=False),
    ]
    await database.write(lambda connection: save_verdicts(connection, verdicts))
    kept = [await row(database, call, 1) for call in ("c1", "c2", "c3")]
    assert [(each["state"], each["attempts"], each["last_error"]) for each in kept] == [
        (PENDING, 1, "HTTP 500"),
        (PENDING, 0, None),
        (DEAD, 0, "target disabled"),
    ]


async def test_the_longest_due_come_first_and_no_more_than_asked_for(database: Database) -> None:
    await add(database, *(owed(f"late{n}", 1) for n in range(5)), at=NOW)
    await add(database, owed("early", 1), at=NOW - 1)
    assert [push.call_id for push in await due(database, limit=3)] == ["early", "late0", "late1"]


async def test_every_receiver_that_waits_is_seen(database: Database) -> None:
    for number in range(50):
        await add(database, owed(f"c{number}", 1, url=f"http://r{number:02}.example/"), at=NOW + number)
        await add(database, owed(f"d{number}", 1, url=f"http://r{number:02}.example/"), at=NOW + 1000)
    seen = await look(database, NOW + 49)
    assert seen == [Waiting(f"http://r{n:02}.example:80", NOW + n, NOW + 1000) for n in range(50)]


async def test_looking_costs_the_same_however_much_waits(database: Database) -> None:
    """A pile behind a dead receiver must not be gone through: the look-ups use the index alone."""
    if database.engine.dialect.name != "sqlite":
        pytest.skip("reads SQLite's query plan")
    statements: list[str] = []  # as the driver has carried them out, values included
    trace = lambda connection, *_: connection.set_trace_callback(statements.append)  # noqa: E731
    event.listen(database.engine, "checkout", trace)
    await look(database)
    await due(database)
    event.remove(database.engine, "checkout", trace)
    selects = [each for each in statements if "pushes" in each]
    assert len(selects) == 2
    for statement in selects:

        def explain(connection: Any, query: str = f"EXPLAIN QUERY PLAN {statement}") -> Any:
            return [step[3] for step in connection.exec_driver_sql(query)]

        plan = await database.read(explain)
        assert [step for step in plan if "SCAN pushes" in step] == []
        assert any("ix_pushes_due (state=? AND receiver=?" in step for step in plan)


async def test_claiming_takes_turns_between_receivers(database: Database) -> None:
    for number in range(40):
        for name in "abc":
            await add(database, owed(f"{name}{number}", 1, url=f"http://{name}.example/"))
    slots = Slots(total=8, per_receiver=4)
    held: dict[str, set[int]] = {}

    def work(connection: Any) -> Any:
        return claim(connection, NOW, slots, "http://a.example:80", None, held)

    claimed, next_at, short = await database.read(work)
    assert [push.call_id for push in claimed] == ["b0", "c0", "a0"]
    assert next_at is None
    held |= {push.receiver: {push.id} for push in claimed}
    assert short == set(held)
    again, *_ = await database.read(work)
    assert again == [], "there is no slot left"
    for name in held:
        slots.give_back(name, answered=True)
    more, *_ = await database.read(work)
    assert {push.id for push in more}.isdisjoint({push.id for push in claimed}), "what is in hand"
    assert [push.call_id for push in more[:2]] == ["b1", "b2"]


async def test_claiming_says_when_to_come_again(database: Database) -> None:
    await add(database, owed("c1", 1), owed("c1", 2), owed("c2", 1), at=NOW + 700)
    await add(database, owed("c3", 1))
    slots = Slots(total=8, per_receiver=4)
    claimed, next_at, _ = await database.read(lambda c: claim(c, NOW, slots, "", None, {}))
    assert ([push.call_id for push in claimed], next_at) == (["c3"], NOW + 700)


async def test_a_pile_of_blocked_pushes_does_not_call_for_a_look(database: Database) -> None:
    await add(database, *(owed("c1", seq) for seq in range(1, 10)))
    await settle(database, (await due(database))[0], PENDING, NOW + 5000, "HTTP 500")
    slots = Slots(total=8, per_receiver=4)
    assert await database.read(lambda c: claim(c, NOW, slots, "", None, {})) == ([], NOW + 5000, set())


async def test_one_push_of_a_call_and_seq(database: Database) -> None:
    await add(database, owed("c1", 1))
    with pytest.raises(IntegrityError):
        await add(database, owed("c1", 1))
    count = await database.read(lambda c: c.execute(text("SELECT count(*) FROM pushes")).scalar_one())
    assert count == 1


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("http://Hook.Example/a?b", "http://hook.example:80"),
        ("https://hook.example/a", "https://hook.example:443"),
        ("HTTPS://user:secret@hook.example:8443/a", "https://hook.example:8443"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080"),
        ("http://127.0.0.1:99999/", "unusable"),
        ("http://[::1/", "unusable"),
    ],
)
def test_receivers(url: str, receiver: str) -> None:
    assert receiver_of(url) == receiver


async def test_a_url_that_is_none_does_not_stop_the_step(database: Database) -> None:
    await add(
        database, *(owed("c1", n, "cdr", url) for n, url in enumerate(["http://[", "", "x", "http://h:0/"]))
    )
    assert sum([len(await due(database, receiver=each.receiver)) for each in await look(database)]) == 4
