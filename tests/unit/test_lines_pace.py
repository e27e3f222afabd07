"""No more than so many in any second, whatever comes when; and nobody waits longer than is worth it."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huibo.errors import EngineError
from huibo.lines.pace import Pace


class Clock:
    """A clock that jumps to the end of each sleep; sleeping takes a little longer than asked for."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now_s = 1000.0
        self._late_s = late_s

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds + self._late_s


@settings(max_examples=60)
@given(
    waits=st.lists(st.floats(0, 3), max_size=60),
    per_second=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    late_s=st.floats(0, 0.3),
)
def test_never_more_in_any_second(waits: list[float], per_second: list[int], late_s: float) -> None:
    """Also while the limit is changed: what counts is the one of the moment."""
    clock = Clock(late_s)
    pace, went = Pace(clock.now, clock.sleep), []

    async def run() -> None:
        for turn, wait in enumerate(waits):
            clock.now_s += wait
            limit = per_second[turn * len(per_second) // len(waits)]
            await pace.turn(limit)
            went.append((clock.now_s, limit))

    asyncio.run(run())
    for at, limit in went:
        assert sum(at - 1 <= other <= at for other, _ in went[: went.index((at, limit)) + 1]) <= limit
    assert [at for at, _ in went] == sorted(at for at, _ in went)


@settings(max_examples=30)
@given(st.integers(1, 50), st.integers(1, 200))
def test_no_slower_than_it_must_be(per_second: int, count: int) -> None:
    clock = Clock()
    pace = Pace(clock.now, clock.sleep)

    async def run() -> None:
        for _ in range(count):
            await pace.turn(per_second)

    asyncio.run(run())
    assert clock.now_s - 1000 <= 1.06 * ((count - 1) // per_second)


async def test_on_the_loops_own_clock_many_at_once_go_in_their_order() -> None:
    pace, loop, went = Pace(), asyncio.get_running_loop(), list[tuple[int, float]]()

    async def one(number: int) -> None:
        await pace.turn(40)
        went.append((number, loop.time()))

    await asyncio.gather(*map(one, range(60)))
    assert [number for number, _ in went] == list(range(60))
    times = [at for _, at in went]
    assert all(later - first > 1 for first, later in zip(times, times[40:], strict=False))
    assert all(first <= later for first, later in pairwise(times))


async def test_who_would_wait_too_long_is_told_at_once_and_who_gives_up_makes_room() -> None:
    pace = Pace()
    waiting = [asyncio.create_task(pace.turn(1)) for _ in range(11)]  # one goes at once
    await asyncio.sleep(0)
    with pytest.raises(EngineError, match="too many"):
        await pace.turn(1)
    waiting[-1].cancel()
    await asyncio.wait([waiting[-1]])
    late = asyncio.create_task(pace.turn(1))
    await asyncio.sleep(0)
    assert not late.done()
    for task in (*waiting, late):
        task.cancel()
    await asyncio.gather(*waiting, late, return_exceptions=True)
