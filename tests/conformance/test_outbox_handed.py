"""Pushes that are written to be delivered by the process that writes them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, update

from huibo.model import App, Push
from huibo.push.rounds import claim
from huibo.push.slots import Slots
from huibo.storage.catalog import add_app
from huibo.storage.database import Database
from huibo.storage.outbox import (
    DELIVERED,
    HANDED_MS,
    REPLAY_LANE,
    Handed,
    Lease,
    OwedPush,
    Verdict,
    add_pushes,
    due_pushes,
    end_leases,
    hand_over,
    release,
    save_verdicts,
)
from huibo.storage.push_secrets import add_secret
from huibo.storage.tables import pushes

HOOK = "https://hook.example:443"
NOW = 1_700_000_000_000


def owed(call: str, seq: int, kind: str = "status") -> Push:
    return Push(call, "app", kind, seq, "https://hook.example/in", f'{{"seq":"{seq}"}}'.encode())


async def hand(database: Database, *owing: Push, at: int = NOW) -> Handed:
    return await database.write(lambda connection: hand_over(connection, owing, "one", at))


async def due(database: Database, now: int = NOW, cell: str = "two") -> list[OwedPush]:
    lease = Lease(cell, now + 1000) if database.shared else None
    return await database.write(lambda connection: due_pushes(connection, HOOK, now, 100, lease))


async def test_they_are_what_the_outbox_would_give(database: Database) -> None:
    def furnish(connection: Any) -> None:
        add_app(connection, App("app", "id"), 1)
        for secret in ("whsec_1", "whsec_2"):
            add_secret(connection, "app", secret, NOW)

    await database.write(furnish)
    handed = await hand(database, owed("c1", 5, "cdr"), owed("c1", 3, "key"))
    assert [push.seq for push in handed.pushes] == [3, 5]
    assert handed.secrets == ("whsec_2", "whsec_1")
    assert not handed.behind
    await database.write(lambda connection: end_leases(connection, ["one"]))
    assert sorted(await due(database)) == sorted(handed.pushes)


async def test_who_owes_nothing_hands_nothing_over(database: Database) -> None:
    assert await hand(database) == Handed((), False, ())


async def test_they_know_whether_they_have_to_wait(database: Database) -> None:
    (first,) = (await hand(database, owed("c1", 1))).pushes
    assert (await hand(database, owed("c1", 2))).behind
    await hand(database, owed("c2", 1, "cdr"))
    assert not (await hand(database, owed("c2", 2))).behind, "a CDR blocks nothing"
    assert not (await hand(database, owed("c3", 1), owed("c3", 2))).behind, "of each other they know"
    aside = update(pushes).where(pushes.c.call_id == "c3").values(receiver=HOOK + REPLAY_LANE)
    await database.write(lambda connection: connection.execute(aside))
    assert not (await hand(database, owed("c3", 3))).behind, "what is sent once more is out of the way"
    await database.write(lambda c: save_verdicts(c, [Verdict(first, DELIVERED, NOW)]))
    assert (await hand(database, owed("c1", 3))).behind, "of the second"


async def test_they_share_the_fate_of_the_step(database: Database) -> None:
    def step(connection: Any) -> None:
        hand_over(connection, [owed("c1", 1)], "one", NOW)
        raise RuntimeError("the step failed")

    with pytest.raises(RuntimeError):
        await database.write(step)
    assert await due(database) == []
    assert not (await hand(database, owed("c1", 2))).behind


async def test_they_are_nobody_elses_for_a_while(database: Database) -> None:
    if not database.shared:
        pytest.skip("there is one process, and no lease")
    handed = await hand(database, *(owed("c1", seq, "cdr") for seq in (1, 2, 3)))
    first, second, third = handed.pushes
    assert await due(database, NOW + HANDED_MS - 1) == []
    await database.write(lambda connection: release(connection, "two", [first.id]))
    assert await due(database) == [], "it is not for two to release"
    await database.write(lambda connection: release(connection, "one", [first.id]))
    assert await due(database) == [first]
    await database.write(lambda connection: release(connection, "one", [first.id]))
    assert await due(database, cell="one") == [], "nor for one any more"
    await database.write(lambda c: save_verdicts(c, [Verdict(second, DELIVERED, NOW)]))
    assert await due(database, NOW + HANDED_MS) == [first, third], "whoever was to deliver it is gone"


async def test_a_claim_leases_no_more_than_it_takes(database: Database) -> None:
    if not database.shared:
        pytest.skip("there is one process, and no lease")
    await database.write(lambda c: add_pushes(c, [owed(f"c{n}", 1, "cdr") for n in range(9)], NOW))
    slots, held = Slots(total=256, per_receiver=16), {HOOK: {-1, -2, -3}}
    lease = Lease("one", NOW + 1000)
    claimed, _, short = await database.write(lambda c: claim(c, NOW, slots, "", lease, held))
    assert (len(claimed), short) == (4, {HOOK})
    assert len(await due(database)) == 5


async def test_what_is_pending_of_a_call_is_found_by_the_call(database: Database) -> None:
    """However much is pending of others."""
    if database.engine.dialect.name != "sqlite":
        pytest.skip("reads SQLite's query plan")
    statements: list[str] = []
    trace = lambda connection, *_: connection.set_trace_callback(statements.append)  # noqa: E731
    event.listen(database.engine, "checkout", trace)
    await hand(database, owed("c1", 1))
    event.remove(database.engine, "checkout", trace)
    (select,) = [each for each in statements if each.startswith("SELECT pushes.id, pushes.seq")]
    plan = await database.read(
        lambda c: [step[3] for step in c.exec_driver_sql(f"EXPLAIN QUERY PLAN {select}")]
    )
    assert plan == ["SEARCH pushes USING INDEX ix_pushes_call (call_id=? AND seq<?)"]
