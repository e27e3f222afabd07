"""The clock: follows small corrections of the system's time, no steps, and never runs backwards."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.clock import Clock

BORN = 1_763_817_738_000.0


class Hands(Clock):
    """A clock whose two sources are moved by hand; milliseconds."""

    def __init__(self) -> None:
        self.wall, self.steady = BORN, 5_000.0
        super().__init__()

    def pass_ms(self, ms: float, *, wall_ms: float | None = None) -> int:
        """Time passes; the wall clock counts it differently when it is being corrected."""
        self.steady += ms
        self.wall += ms if wall_ms is None else wall_ms
        return self.now_ms()

    def _wall(self) -> float:
        return self.wall

    def _steady(self) -> float:
        return self.steady


def test_it_tells_the_time_of_day() -> None:
    before = time.time() * 1000
    now = Clock().now_ms()
    assert isinstance(now, int)
    assert before - 1 <= now <= time.time() * 1000


def test_it_goes_with_the_time_that_passes() -> None:
    clock = Hands()
    assert clock.now_ms() == BORN
    assert clock.pass_ms(1500) == BORN + 1500
    assert clock.pass_ms(0.4) == BORN + 1500
    assert clock.pass_ms(0.6) == BORN + 1501


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 1_000, -1_000])
def test_a_step_of_the_wall_clock_is_not_followed(step_ms: float) -> None:
    clock = Hands()
    clock.now_ms()
    clock.wall += step_ms
    assert clock.now_ms() == BORN
    assert clock.pass_ms(60_000) == BORN + 60_000
    clock.wall -= step_ms
    assert clock.pass_ms(1) == BORN + 60_001


@pytest.mark.parametrize("per_minute_ms", [30, -30])
def test_a_drift_is_followed(per_minute_ms: float) -> None:
    """NTP slews by at most 500 ppm: 30 ms a minute; over a day more than any step that is followed."""
    clock = Hands()
    for _ in range(24 * 60):
        now = clock.pass_ms(60_000, wall_ms=60_000 + per_minute_ms)
    assert now == BORN + 24 * 60 * (60_000 + per_minute_ms)
    assert now == clock.wall


def test_it_stands_still_rather_than_run_backwards() -> None:
    clock = Hands()
    assert clock.pass_ms(1_000) == BORN + 1_000
    assert clock.pass_ms(100, wall_ms=-400) == BORN + 1_000
    assert clock.pass_ms(300) == BORN + 1_000
    assert clock.pass_ms(200) == BORN + 1_100


moves = st.tuples(st.floats(0, 100_000), st.floats(-1_000_000, 1_000_000))


@given(st.lists(moves))
def test_it_never_runs_backwards_and_is_never_far_from_the_time_that_passed(
    story: list[tuple[float, float]],
) -> None:
    clock = Hands()
    last = clock.now_ms()
    for passed, wall in story:
        now = clock.pass_ms(passed, wall_ms=wall)
        assert now >= last
        assert now - last <= passed + 2 * 1_000 + 1  # back by a correction, forth by another
        last = now
