"""How one call is run: what is taken when, what its deadlines do, how it is let go of. On a real database."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from huibo.clock import Clock
from huibo.engine.events import LegAnswered, LegEnded, LegEvent, LegInvited, LegRinging
from huibo.flow.runner import CallRunner, Services
from huibo.flow.state import CallState, LegState, Plan, Resumed, Start
from huibo.model import Call, CallResult, CancelUnless, EndReason, Leg
from huibo.storage.calls import add_call, find_cdr, unfinished
from huibo.storage.database import Database
from huibo.storage.migrate import migrate
from huibo.wire.notifier import WireNotifier
from tests.unit.test_machine import PLAN, A, B

BRISK = Plan(30, 1, 1, 1800, caller_route=("t",), callee_route=("t",))


class Switch:
    """An engine without telephones: it keeps what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._news = asyncio.Event()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(*_: object) -> None:
            self.asked.append(name)
            self._news.set()

        return ask

    async def until(self, name: str) -> None:
        """It has been asked for this."""
        async with asyncio.timeout(10):
            while name not in self.asked:
                self._news.clear()
                await self._news.wait()


class Line:
    """One call and whoever runs it."""

    def __init__(self, database: Database) -> None:
        self.switch, self.clock, self.database = Switch(), Clock(), database
        self.steps: list[CallState] = []

    def take_up(self, state: CallState, *, resumed: bool = False) -> CallRunner:
        engine = cast(Any, self.switch)
        services = Services(
            engine,
            self.database,
            self.clock,
            lines=engine,
            notifier=WireNotifier(),
            prompts=engine,
            pushes_owed=lambda handed: None,
            recording_owed=lambda: None,
            stepped=lambda _, after: self.steps.append(after),
            call_over=lambda *_: None,
        )
        facts = ("c", "app", "r", "+8613800138000", "+867558601388", "02131264133", "4001360123", "t", "t")
        call = Call(*facts, max_talk_s=1800, accepted_at=state.accepted_at)
        self.database.write_now(lambda connection: add_call(connection, call, state))
        self.runner = CallRunner(call, state, services, resumed)
        self.run = asyncio.create_task(self.runner.run())
        return self.runner

    def place(self, plan: Plan = PLAN) -> CallRunner:
        runner = self.take_up(CallState(self.clock.now_ms(), plan))
        runner.post(Start(self.clock.now_ms()))
        return runner

    def tell(self, leg: Leg, *kinds: type[LegEvent]) -> None:
        for kind in kinds:
            self.runner.post(kind("c", leg, self.clock.now_ms()))

    async def until_seen(self, wanted: Callable[[CallState], bool]) -> None:
        async with asyncio.timeout(10):
            while not (self.steps and wanted(self.steps[-1])):
                await asyncio.sleep(0)

    def count_writes(self) -> list[object]:
        """Grows with each unit of work that is written from now on."""
        written: list[object] = []
        write = self.database.write

        async def counted(*args: Any, **kwargs: Any) -> Any:
            written.append(args)
            return await write(*args, **kwargs)

        self.database.write = counted  # type: ignore[method-assign]
        return written

    async def over(self) -> None:
        async with asyncio.timeout(10):
            await self.run


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    line = Line(Database(f"sqlite:///{tmp_path}/huibo.sqlite3"))
    migrate(line.database.engine)
    yield line
    line.run.cancel()
    await asyncio.gather(line.run, return_exceptions=True)
    await line.database.close()


async def test_what_has_come_together_is_one_step(line: Line) -> None:
    line.place()
    await line.switch.until("dial_caller")
    line.tell(A, LegInvited, LegRinging, LegAnswered)
    await line.switch.until("dial_callee")
    line.tell(B, LegInvited, LegRinging, LegAnswered)
    await line.switch.until("guard_talk")
    line.tell(B, LegEnded)
    line.tell(A, LegEnded)
    await line.over()
    assert len(line.steps) == 4
    assert line.switch.asked == [
        *("dial_caller", "dial_callee", "start_ringback", "stop_ringback", "guard_talk", "shorten_path"),
        *("hang_up", "release"),
    ]
    cdr = line.database.read_now(lambda connection: find_cdr(connection, "c"))
    assert cdr is not None
    assert cdr.result is CallResult.TALKED


def stored(line: Line) -> CallState:
    ((_, state),) = line.database.read_now(unfinished)
    return state


async def until_stored(line: Line, wanted: Callable[[CallState], bool]) -> None:
    async with asyncio.timeout(10):
        while not wanted(stored(line)):
            await asyncio.sleep(0.02)


async def test_that_a_phone_rings_is_stored_with_what_follows_it(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huibo.flow.runner._LINGER_MS", 60_000)
    line.place()
    await line.switch.until("dial_caller")
    writes = line.count_writes()
    line.tell(A, LegInvited)
    await line.until_seen(lambda state: state.caller.record.invited_at is not None)
    line.tell(A, LegRinging)
    await line.until_seen(lambda state: state.caller.record.ringing_at is not None)
    assert stored(line).caller.record.invited_at is None
    line.tell(A, LegAnswered)
    await line.switch.until("dial_callee")
    assert len(writes) == 1
    record = stored(line).caller.record
    assert record == line.runner.state.caller.record
    assert None not in (record.invited_at, record.ringing_at, record.answered_at)


async def test_that_a_phone_rings_is_stored_soon_in_any_case(line: Line) -> None:
    line.place()
    await line.switch.until("dial_caller")
    line.tell(A, LegInvited, LegRinging)
    await until_stored(line, lambda state: state.caller.record.ringing_at is not None)
    assert not line.run.done()


async def test_what_is_told_is_stored_at_once(line: Line) -> None:
    runner = line.place()
    runner.call = replace(runner.call, status_mask=0xFFFF, status_url="http://192.0.2.9/s")
    await line.switch.until("dial_caller")
    line.tell(A, LegRinging)
    await line.until_seen(lambda state: state.caller.record.ringing_at is not None)
    assert stored(line) == runner.state


async def test_who_hands_over_keeps_nothing_to_himself(line: Line) -> None:
    runner = line.place()
    await line.switch.until("dial_caller")
    line.tell(A, LegRinging)
    runner.hand_over()
    await line.over()
    assert stored(line) == runner.state
    assert runner.state.caller.record.ringing_at is not None


async def test_an_event_that_means_nothing_is_no_step(line: Line) -> None:
    line.place()
    await line.switch.until("dial_caller")
    line.tell(A, LegInvited)
    line.tell(A, LegInvited)
    line.tell(B, LegAnswered)
    assert await line.runner.cancel(CancelUnless.NEVER) is True
    steps = len(line.steps)
    line.tell(A, LegInvited)
    line.tell(A, LegEnded)
    await line.over()
    assert len(line.steps) == steps + 1


@pytest.mark.parametrize("caller_ring_s", [1, 60], ids=["further off", "nearer"])
async def test_a_deadline_moves_with_the_call(line: Line, caller_ring_s: int) -> None:
    """The caller's phone rings for half a second: the callee's has a whole one from then on."""
    line.place(replace(BRISK, caller_ring_s=caller_ring_s))
    await line.switch.until("dial_caller")
    line.tell(A, LegRinging)
    await asyncio.wait([line.run], timeout=0.5)
    line.tell(A, LegAnswered)
    await line.switch.until("hang_up")
    state = line.runner.state
    assert state.caller.leaving is None
    assert state.callee.leaving is EndReason.NO_ANSWER
    assert state.callee.dialled_at is not None
    assert state.callee.leaving_at is not None
    assert 1000 <= state.callee.leaving_at - state.callee.dialled_at < 5000


async def test_a_deadline_does_not_overtake_what_came_while_a_step_was_stored(line: Line) -> None:
    line.place(BRISK)
    await line.switch.until("dial_caller")
    line.tell(A, LegAnswered)
    await line.switch.until("start_ringback")
    free = threading.Event()
    stuck = asyncio.create_task(line.database.write(lambda _: free.wait(10)))
    line.tell(B, LegInvited, LegRinging)
    await asyncio.wait([line.run], timeout=1.5)  # longer than the callee's phone may ring
    line.tell(B, LegAnswered)
    free.set()
    await stuck
    await line.switch.until("guard_talk")
    assert line.runner.state.talking
    assert "hang_up" not in line.switch.asked


async def test_no_deadline_ends_a_call_whose_legs_have_not_been_asked_for(line: Line) -> None:
    long_ago = line.clock.now_ms() - 3_600_000
    runner = line.take_up(CallState(long_ago, PLAN, caller=LegState(dialled_at=long_ago)), resumed=True)
    await asyncio.wait([line.run], timeout=0.2)
    assert line.steps == []
    line.tell(A, LegAnswered)
    runner.post(Resumed(line.clock.now_ms()))
    await line.switch.until("dial_callee")
    assert "hang_up" not in line.switch.asked


async def test_a_deadline_that_has_passed_is_due_once_the_legs_have_been_asked_for(line: Line) -> None:
    long_ago = line.clock.now_ms() - 3_600_000
    runner = line.take_up(CallState(long_ago, PLAN, caller=LegState(dialled_at=long_ago)), resumed=True)
    runner.post(Resumed(line.clock.now_ms()))
    await line.switch.until("hang_up")
    assert runner.state.caller.leaving is EndReason.NO_ANSWER


async def test_a_call_that_is_handed_over_ends_its_steps_and_begins_none(line: Line) -> None:
    runner = line.place()
    runner.hand_over()
    line.tell(A, LegEnded)
    assert await runner.cancel(CancelUnless.NEVER) is None
    await line.over()
    assert line.switch.asked == ["dial_caller"]
    ((_, state),) = line.database.read_now(unfinished)
    assert state == runner.state
    assert state.caller.dialled_at is not None


async def test_a_call_that_waits_is_handed_over_at_once(line: Line) -> None:
    runner = line.place()
    await line.switch.until("dial_caller")
    runner.hand_over()
    await line.over()
    assert not runner.state.over


async def test_nothing_of_a_call_stays_when_it_is_over(line: Line) -> None:
    runner = weakref.ref(line.place())
    await line.switch.until("dial_caller")
    line.tell(A, LegAnswered)
    await line.switch.until("dial_callee")
    line.tell(B, LegAnswered)
    await line.switch.until("guard_talk")  # from here on a timer runs for half an hour
    line.tell(A, LegEnded)
    line.tell(B, LegEnded)
    await line.over()
    del line.runner
    line.run = asyncio.create_task(asyncio.sleep(0))
    await line.run
    await line.database.write(lambda _: None)  # the writer keeps its last unit until the next
    gc.collect()
    assert runner() is None


async def test_a_call_costs_little_memory(line: Line) -> None:
    """What runs one, its state aside; 2 KB on CPython 3.11."""
    services = line.place()._services
    state, count = line.runner.state, 500
    gc.collect()
    tracemalloc.start()
    try:
        runners = (CallRunner(line.runner.call, state, services) for _ in range(count))
        tasks = [asyncio.create_task(runner.run()) for runner in runners]
        await asyncio.sleep(0)  # each has come to wait for its first event
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert used / count < 3_000
