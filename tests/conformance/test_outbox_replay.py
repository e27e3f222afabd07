"""Pushes that are sent once more: in which order, and that they hold up nothing that is new."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, select

from huibo.model import Push
from huibo.push.rounds import claim
from huibo.push.slots import Slots
from huibo.storage.database import Database
from huibo.storage.outbox import (
    DEAD,
    DELIVERED,
    PENDING,
    REPLAY_LANE,
    OwedPush,
    Verdict,
    add_pushes,
    due_pushes,
    save_verdicts,
    waiting,
)
from huibo.storage.pushes import Wanted, find_push, ids_of, list_pushes, replay
from huibo.storage.tables import pushes

HOOK = "https://hook.example:443"
NOW = 1_700_000_000_000
LATER = NOW + 1_000_000


def owed(
    call: str, seq: int, kind: str = "status", url: str = "https://hook.example/in", app: str = "app"
) -> Push:
    return Push(call, app, kind, seq, url, f'{{"seq":"{seq}"}}'.encode())


async def add(database: Database, *owing: Push, at: int = NOW) -> None:
    await database.write(lambda connection: add_pushes(connection, owing, at))


async def due(database: Database, now: int = LATER) -> list[OwedPush]:
    """What may leave, in every lane of every receiver."""

    def work(connection: Any) -> list[OwedPush]:
        lanes = [each.receiver for each in waiting(connection, now)]
        return [push for lane in lanes for push in due_pushes(connection, lane, now, 100)]

    return await database.read(work)


async def due_names(database: Database, now: int = LATER) -> list[tuple[str, int]]:
    return [(push.call_id, push.seq) for push in await due(database, now)]


async def settle(database: Database, push: OwedPush, state: str, at: int, error: str | None = None) -> None:
    await database.write(lambda connection: save_verdicts(connection, [Verdict(push, state, at, error)]))


async def end(database: Database, *owing: Push, state: str = DEAD) -> None:
    """Owe pushes that have come to their end."""
    await add(database, *owing)
    while ready := await due(database, NOW):
        for push in ready:
            await settle(database, push, state, NOW, None if state == DELIVERED else "HTTP 500")


async def again(database: Database, *names: tuple[str, int], at: int = LATER) -> None:
    found = await ids(database, *names)
    await database.write(lambda connection: replay(connection, found, at))


async def ids(database: Database, *names: tuple[str, int]) -> list[int]:
    def work(connection: Any) -> list[int]:
        query = select(pushes.c.id)
        return [
            connection.scalars(query.where(pushes.c.call_id == call, pushes.c.seq == seq)).one()
            for call, seq in names
        ]

    return await database.read(work)


async def row(database: Database, call: str, seq: int, *columns: str) -> tuple[Any, ...]:
    query = select(*(pushes.c[name] for name in columns)).where(pushes.c.call_id == call, pushes.c.seq == seq)
    return await database.read(lambda connection: tuple(connection.execute(query).one()))


async def test_it_is_due_at_once_with_all_its_attempts(database: Database) -> None:
    await end(database, owed("c1", 1, "cdr"))
    await again(database, ("c1", 1))
    (push,) = await due(database)
    assert (push.call_id, push.attempts, push.body) == ("c1", 0, b'{"seq":"1"}')
    columns = ("state", "attempts", "next_at", "finished_at", "last_error", "replayed_at")
    assert await row(database, "c1", 1, *columns) == (PENDING, 0, LATER, None, "HTTP 500", LATER)
    await settle(database, push, DELIVERED, LATER + 5)
    assert await row(database, "c1", 1, *columns) == (DELIVERED, 1, LATER + 5, LATER + 5, None, LATER)


async def test_what_was_delivered_may_be_sent_again(database: Database) -> None:
    await end(database, owed("c1", 1), state=DELIVERED)
    assert await due_names(database) == []
    for _ in range(2):
        await again(database, ("c1", 1))
        (push,) = await due(database)
        await settle(database, push, DELIVERED, LATER)


async def test_what_is_sent_again_keeps_its_order_within_a_call(database: Database) -> None:
    await end(database, *(owed("c1", seq) for seq in (1, 2, 3)), owed("c1", 4, "cdr"))
    await again(database, ("c1", 4), ("c1", 3), ("c1", 1))
    order = []
    while ready := await due(database):
        (push,) = ready
        order.append(push.seq)
        await settle(database, push, DELIVERED, LATER)
    assert order == [1, 3, 4]


async def test_a_failing_one_holds_up_those_sent_again_and_nothing_new(database: Database) -> None:
    """Calls that go on do not wait for what had been given up of them."""
    await end(database, owed("c1", 1), owed("c1", 2))
    await again(database, ("c1", 1), ("c1", 2))
    await add(database, owed("c1", 3), owed("c1", 4, "cdr"), at=LATER)
    assert await due_names(database) == [("c1", 3), ("c1", 1)]
    first = next(push for push in await due(database) if push.seq == 1)
    await settle(database, first, PENDING, LATER + 25_000, "HTTP 500")
    assert await due_names(database) == [("c1", 3)]
    times = [(await row(database, "c1", seq, "next_at"))[0] - LATER for seq in (1, 2, 3, 4)]
    assert times == [25_000, 25_000, 0, 0]
    await settle(database, (await due(database))[0], DELIVERED, LATER)
    assert await due_names(database) == [("c1", 4)], "the CDR waits for its own status pushes only"
    await add(database, owed("c1", 5), at=LATER + 1)
    assert (await row(database, "c1", 5, "next_at"))[0] == LATER + 1, "nor does what is owed meanwhile"


async def test_what_is_new_is_not_overtaken(database: Database) -> None:
    """A CDR that was given up and is sent again waits for a status push that is still being tried."""
    await end(database, owed("c1", 1, "cdr"))
    await end(database, owed("c2", 2, "cdr"))
    await add(database, owed("c2", 1))
    await again(database, ("c1", 1), ("c2", 2))
    assert await due_names(database) == [("c2", 1), ("c1", 1)]
    status = next(push for push in await due(database) if push.call_id == "c2")
    await settle(database, status, DEAD, LATER, "HTTP 500")
    assert await due_names(database) == [("c1", 1), ("c2", 2)]


async def test_a_status_push_that_was_not_given_up_keeps_its_place(database: Database) -> None:
    """It was pending: what follows it must not pass just because somebody was impatient."""
    await add(database, owed("c1", 1), owed("c1", 2))
    await settle(database, (await due(database))[0], PENDING, LATER + 25_000, "HTTP 500")
    await again(database, ("c1", 1))
    assert await due_names(database) == [("c1", 1)]
    assert await row(database, "c1", 1, "replayed_at", "receiver", "attempts") == (LATER, HOOK, 0)
    await settle(database, (await due(database))[0], DELIVERED, LATER)
    assert await due_names(database, LATER + 25_000) == [("c1", 2)]


async def test_a_pending_cdr_makes_room_for_what_is_new(database: Database) -> None:
    await add(database, owed("c1", 1, "cdr"))
    await settle(database, (await due(database))[0], PENDING, LATER + 7_200_000, "HTTP 500")
    for at in (LATER, LATER + 1):
        await again(database, ("c1", 1), at=at)
        (push,) = await due(database, at)
        assert (push.receiver, push.attempts) == (HOOK + REPLAY_LANE, 0)


async def test_an_attempt_under_way_does_not_undo_it(database: Database) -> None:
    await add(database, owed("c1", 1, "cdr"))
    (push,) = await due(database, NOW)
    await again(database, ("c1", 1))
    await settle(database, push, DEAD, LATER + 10, "HTTP 410")
    assert await due_names(database) == [("c1", 1)]
    (again_due,) = await due(database)
    await settle(database, again_due, DELIVERED, LATER + 20)
    assert await row(database, "c1", 1, "state", "attempts") == (DELIVERED, 1)


async def test_the_last_attempt_under_way_does_not_undo_it(database: Database) -> None:
    """It fails after the operator has asked for more."""
    await add(database, owed("c1", 1), owed("c1", 2))
    (push,) = await due(database, NOW)
    for made in range(2):
        await settle(database, push._replace(attempts=made), PENDING, NOW, "HTTP 500")
    (last,) = await due(database)
    assert last.attempts == 2
    await again(database, ("c1", 1))
    await settle(database, last, DEAD, LATER + 10, "HTTP 500")
    assert await row(database, "c1", 1, "state", "attempts") == (PENDING, 0)
    await settle(database, last, PENDING, LATER + 60_000, "HTTP 500")
    assert await row(database, "c1", 2, "next_at") == (NOW,), "nor does it hold up what follows"
    assert await due_names(database) == [("c1", 1)]


async def test_a_pile_of_them_leaves_the_way_to_what_is_new(database: Database) -> None:
    """An hour of a receiver's dead pushes is sent again while calls go on."""
    old = [owed(f"old{number}", 1, "cdr") for number in range(500)]
    await end(database, *old)
    await again(database, *((push.call_id, 1) for push in old))
    await add(database, owed("new", 1), at=LATER)
    slots = Slots(total=256, per_receiver=16)
    slots.take(HOOK)
    slots.give_back(HOOK, answered=True)
    claimed, *_ = await database.read(lambda c: claim(c, LATER, slots, "", None, {}))
    lanes = [push.receiver for push in claimed]
    assert [push.call_id for push in claimed if push.receiver == HOOK] == ["new"]
    assert lanes.count(HOOK + REPLAY_LANE) == 4
    assert [push.call_id for push in claimed][1:] == ["old0", "old1", "old2", "old3"]


async def test_searching(database: Database) -> None:
    await end(database, owed("c1", 1), owed("c1", 2, "cdr", app="other"))
    await add(database, owed("c2", 1, "cdr"), at=NOW + 10)
    first, second, third = await ids(database, ("c1", 1), ("c1", 2), ("c2", 1))

    async def found(before: int | None = None, limit: int = 10, **wanted: Any) -> list[int]:
        asked = Wanted(**wanted)
        listed = await database.read(lambda connection: list_pushes(connection, asked, before, limit))
        oldest_first = await database.read(lambda connection: ids_of(connection, asked, 0, 100))
        if before is None and limit == 10:
            assert oldest_first == sorted(push.id for push in listed)
        return [push.id for push in listed]

    assert await found() == [third, second, first]
    assert await found(limit=2) == [third, second]
    assert await found(before=second) == [first]
    assert await found(app_id="app") == [third, first]
    assert await found(call_id="c1") == [second, first]
    assert await found(kind="cdr") == [third, second]
    assert await found(state=DEAD) == [second, first]
    assert await found(state=DEAD, app_id="app", kind="status") == [first]
    assert await found(since=NOW + 10) == [third]
    assert await found(until=NOW + 10) == [second, first]
    assert await found(app_id="nobody") == []
    stored = await database.read(lambda connection: find_push(connection, second))
    assert stored is not None
    assert (stored[0].id, stored[0].state, stored[0].last_error) == (second, DEAD, "HTTP 500")
    assert stored[1] == b'{"seq":"2"}'
    assert await database.read(lambda connection: find_push(connection, 10**9)) is None


async def test_searching_by_app_or_call_goes_through_no_others(database: Database) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("reads SQLite's query plan")
    statements: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def keep(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        statements.append((statement, values))

    for wanted in (Wanted(), Wanted(app_id="a"), Wanted(call_id="c"), Wanted(state=DEAD)):
        await database.read(lambda connection, wanted=wanted: list_pushes(connection, wanted, None, 50))
    plans = [
        await database.read(
            lambda connection, one=one: " ".join(
                step[3] for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one[0]}", one[1])
            )
        )
        for one in [each for each in statements if each[0].startswith("SELECT")]
    ]
    assert plans[0] == "SCAN pushes", "from the newest on, as far as it needs"
    assert [plan.split("INDEX ")[1].split(" ")[0] for plan in plans[1:]] == [
        "ix_pushes_app",
        "ix_pushes_call",
        "ix_pushes_due",
    ]
