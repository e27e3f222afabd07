"""Which attempts count, and when a trunk is locked for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from huibo.clock import Clock
from huibo.config import load
from huibo.flow.state import CallState, LegState, Plan
from huibo.lines.book import TrunkBook
from huibo.lines.watch import Watch, outcomes
from huibo.model import Attempt, EndReason, LegRecord, Trunk
from huibo.storage import catalog
from huibo.storage.database import Database
from huibo.storage.locks import Lock, LockKind, find_lock
from huibo.storage.migrate import migrate

PLAN = Plan(30, 60, 60, 1800, caller_route=("a", "b"), callee_route=("b", "a"))
BEFORE = CallState(1000, PLAN)
DIALLED = LegState(dialled_at=1000)
GAVE_UP = Attempt("a", 2000, EndReason.CARRIER_FAULT, 503)


def ended(reason: EndReason, leg: LegState = DIALLED) -> LegState:
    return replace(leg, record=replace(leg.record, ended_at=3000, reason=reason))


ANSWERED = replace(DIALLED, record=LegRecord(answered_at=2000))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (DIALLED, ANSWERED, [("a", True)]),
        (ANSWERED, ended(EndReason.HUNG_UP, ANSWERED), []),  # counted before
        (ANSWERED, ended(EndReason.NO_AUDIO, ANSWERED), []),
        (DIALLED, ended(EndReason.BUSY), [("a", False)]),
        (DIALLED, ended(EndReason.NO_ANSWER), [("a", False)]),
        (DIALLED, ended(EndReason.CARRIER_FAULT), [("a", False)]),
        (DIALLED, ended(EndReason.CANCELLED), []),
        (DIALLED, ended(EndReason.WITHDRAWN), []),
        (DIALLED, ended(EndReason.LOST), []),
        (DIALLED, ended(EndReason.TRUNK_DOWN), []),
        (LegState(), DIALLED, []),
        (DIALLED, replace(DIALLED, tried=(GAVE_UP,)), [("a", False)]),
        (DIALLED, replace(DIALLED, tried=(replace(GAVE_UP, reason=EndReason.TRUNK_DOWN),)), []),
        (replace(DIALLED, tried=(GAVE_UP,)), replace(ANSWERED, tried=(GAVE_UP,)), [("b", True)]),
        (
            replace(DIALLED, tried=(GAVE_UP,)),
            ended(EndReason.BUSY, replace(DIALLED, tried=(GAVE_UP,))),
            [("b", False)],
        ),
    ],
)
def test_what_a_step_decides(before: LegState, after: LegState, found: list[tuple[str, bool]]) -> None:
    assert list(outcomes(replace(BEFORE, caller=before), replace(BEFORE, caller=after))) == found


def test_each_leg_has_its_own_route() -> None:
    after = replace(BEFORE, caller=ended(EndReason.BUSY), callee=ANSWERED)
    assert list(outcomes(replace(BEFORE, caller=DIALLED, callee=DIALLED), after)) == [
        ("a", False),
        ("b", True),
    ]


def test_a_call_of_an_older_version_has_no_route() -> None:
    before = CallState(1000, replace(PLAN, caller_route=()), caller=DIALLED)
    assert list(outcomes(before, replace(before, caller=ANSWERED))) == []


Watched = tuple[Watch, Database]


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    database = Database(f"sqlite:///{tmp_path}/huibo.sqlite3")
    migrate(database.engine)
    trunks = [Trunk("a", "192.0.2.1", min_answered=50), Trunk("b", "192.0.2.1")]
    for trunk in trunks:
        await database.write(lambda connection, trunk=trunk: catalog.add_trunk(connection, trunk, 1))
    book = TrunkBook(database, 60)
    await book.refresh()
    settings = load().trunks.model_copy(update={"watch_calls": 4, "lock_min": 5})
    yield Watch(database, book, Clock(), settings), database
    await database.close()


async def lock_of(database: Database, trunk: str) -> Lock | None:
    return await database.read(
        lambda connection: find_lock(connection, LockKind.TRUNK, trunk, Clock().now_ms())
    )


async def settled(database: Database) -> None:
    """Whatever was to be written before is there now."""
    await asyncio.sleep(0)  # who locks gets its turn first
    await database.write(lambda connection: None)


async def until_locked(database: Database) -> Lock:
    async with asyncio.timeout(10):
        while (lock := await lock_of(database, "a")) is None:
            await asyncio.sleep(0.01)
    return lock


def tell(watch: Watch, *answered: bool) -> None:
    before = replace(BEFORE, caller=DIALLED, callee=DIALLED)
    for one in answered:
        watch.on_step(before, replace(before, caller=ANSWERED if one else ended(EndReason.BUSY)))


async def test_a_trunk_is_locked_when_too_few_of_its_last_calls_were_answered(watched: Watched) -> None:
    watch, database = watched
    tell(watch, True, True, False, False)  # half of the last four
    await settled(database)
    assert await lock_of(database, "a") is None
    tell(watch, False)
    lock = await until_locked(database)
    assert lock.reason == "1 of the last 4 calls were answered, 50 % are asked for"
    assert lock.until - lock.since == 5 * 60_000


async def test_after_the_lock_it_is_judged_anew(watched: Watched) -> None:
    watch, database = watched
    tell(watch, False, False, False, False)
    first = await until_locked(database)
    tell(watch, False, False, False)  # too few to judge by
    await settled(database)
    assert await lock_of(database, "a") == first


async def test_a_trunk_without_such_a_rule_is_never_locked(watched: Watched) -> None:
    watch, database = watched
    before = replace(BEFORE, callee=DIALLED)
    for _ in range(9):
        watch.on_step(before, replace(before, callee=ended(EndReason.BUSY)))
    await settled(database)
    assert await lock_of(database, "b") is None
