"""Who is locked, and who is not: refused requests from an address, calls of an app that nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.admission.abuse import Abuse, Bursts
from huibo.config import AbuseSettings
from huibo.errors import Refusal, Refused
from huibo.model import Call, CallResult, Cdr, EndReason, LegRecord
from huibo.storage.database import Database
from huibo.storage.locks import Lock, LockKind, find_lock, list_locks
from huibo.storage.migrate import migrate
from tests.unit.test_limits import Watch

SETTINGS = AbuseSettings(refusals=3, refusals_s=10, unanswered=4, unanswered_s=60, lock_min=15)
ADDRESS = "192.0.2.7"
CALL = Call("c", "shop", "", "+8613800138000", "+8613900139000", "1", "2", "t", "t", 60, 1)


class Guarded:
    """An `Abuse` on a database, with a clock that the test sets."""

    def __init__(self, database: Database, settings: AbuseSettings = SETTINGS) -> None:
        self.clock = Watch()
        self.database = database
        self.abuse = Abuse(database, self.clock, settings)

    async def refuse(self, times: int, refusal: Refusal = Refusal.URL_ID, address: str = ADDRESS) -> None:
        for _ in range(times):
            await self.abuse.refused(address, Refused(refusal))

    def ended(self, reason: EndReason, times: int = 1, app_id: str = "shop") -> None:
        talked = reason is EndReason.HUNG_UP
        result = CallResult.TALKED if talked else CallResult.CALLEE_NO_ANSWER
        cdr = Cdr("c", LegRecord(reason=EndReason.RELEASED), LegRecord(reason=reason), 1, result, 0, 0)
        call = CALL if app_id == "shop" else Call(**{**_fields(CALL), "app_id": app_id})
        for _ in range(times):
            self.abuse.call_over(call, cdr)

    def locked(self, kind: LockKind = LockKind.ADDRESS, subject: str = ADDRESS) -> Lock | None:
        return self.database.read_now(lambda c: find_lock(c, kind, subject, self.clock.ms))

    async def until_locked(self) -> None:
        async with asyncio.timeout(20):
            while not self.database.read_now(lambda c: list_locks(c, self.clock.ms)):
                await asyncio.sleep(0.01)


def _fields(call: Call) -> dict[str, object]:
    return {name: getattr(call, name) for name in Call.__dataclass_fields__}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    database = Database(f"sqlite:///{tmp_path}/huibo.sqlite3")
    migrate(database.engine)
    yield Guarded(database)
    await database.close()


@pytest.mark.parametrize("refusal", [Refusal.APP, Refusal.URL_ID, Refusal.ADDRESS])
async def test_an_address_that_is_refused_again_and_again_is_locked_for_a_time(
    guarded: Guarded, refusal: Refusal
) -> None:
    await guarded.refuse(2, refusal)
    assert guarded.locked() is None
    await guarded.refuse(1, refusal)
    lock = guarded.locked()
    assert lock is not None
    assert lock.until - lock.since == 15 * 60_000
    assert guarded.locked(subject="192.0.2.8") is None
    guarded.clock.ms = lock.until
    assert guarded.locked() is None


async def test_slow_refusals_and_other_mistakes_lock_nobody(guarded: Guarded) -> None:
    for _ in range(10):
        guarded.clock.ms += 5_001
        await guarded.refuse(1)
    await guarded.refuse(50, Refusal.NUMBER)
    await guarded.refuse(50, Refusal.BALANCE)
    for n in range(50):
        await guarded.refuse(1, address=f"198.51.100.{n}")
    assert guarded.database.read_now(lambda c: list_locks(c, guarded.clock.ms)) == []


async def test_an_app_whose_calls_nobody_answers_is_locked(guarded: Guarded) -> None:
    for reason in (EndReason.NO_ANSWER, EndReason.BUSY, EndReason.DECLINED, EndReason.NOT_FOUND):
        assert guarded.locked(LockKind.APP, "shop") is None
        guarded.ended(reason)
    await guarded.until_locked()
    assert guarded.locked(LockKind.APP, "shop") is not None
    assert guarded.locked(LockKind.APP, "other") is None


async def test_a_conversation_and_the_faults_of_carriers_speak_for_an_app(guarded: Guarded) -> None:
    guarded.ended(EndReason.NO_ANSWER, 3)
    guarded.ended(EndReason.HUNG_UP)
    guarded.ended(EndReason.NO_ANSWER, 3)
    guarded.ended(EndReason.CARRIER_FAULT, 20)
    guarded.ended(EndReason.NO_ANSWER, 3, app_id="another")
    guarded.clock.ms += 60_000
    guarded.ended(EndReason.NO_ANSWER, 3)
    await asyncio.sleep(0)
    assert guarded.database.read_now(lambda c: list_locks(c, guarded.clock.ms)) == []
    guarded.ended(EndReason.NO_ANSWER)
    await guarded.until_locked()


async def test_both_can_be_switched_off(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/huibo.sqlite3")
    migrate(database.engine)
    off = SETTINGS.model_copy(update={"refusals": 0, "unanswered": 0})
    guarded = Guarded(database, off)
    await guarded.refuse(100)
    guarded.ended(EndReason.NO_ANSWER, 100)
    await asyncio.sleep(0)
    assert database.read_now(lambda c: list_locks(c, guarded.clock.ms)) == []
    await database.close()


@given(gaps=st.lists(st.integers(0, 20), max_size=60), window=st.integers(1, 40))
def test_a_burst_is_what_happened_within_the_window(gaps: list[int], window: int) -> None:
    bursts, now, times = Bursts(window), 0, []
    for gap in gaps:
        now += gap
        times.append(now)
        assert bursts.add("x", now) == sum(1 for at in times if at > now - window)


def test_what_is_remembered_is_bounded() -> None:
    bursts = Bursts(10**9)
    bursts.add("first", 0)
    for n in range(10_000):
        bursts.add(str(n), n)
    assert bursts.add("first", 10_000) == 1
    assert bursts.add("9999", 10_000) == 2
