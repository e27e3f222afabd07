"""The waits between attempts, and what receivers may ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.push.schedule import retry_after_s, wait_s

NOW_S = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def test_one_wait_after_each_failure_then_none() -> None:
    assert [wait_s([5, 25], made, jitter=0) for made in (1, 2, 3, 4)] == [5, 25, None, None]
    assert wait_s([], 1, jitter=0) is None


@given(st.floats(0, 0.99), st.integers(1, 3))
def test_jitter_stays_within_its_share(jitter: float, made: int) -> None:
    waits = [5.0, 300.0, 1800.0]
    wait = wait_s(waits, made, jitter)
    assert wait is not None
    assert waits[made - 1] * (1 - jitter) <= wait <= waits[made - 1] * (1 + jitter)


def test_jitter_varies() -> None:
    assert len({wait_s([100], 1, 0.2) for _ in range(20)}) > 10


def test_what_the_receiver_asks_for_is_a_minimum_up_to_the_longest_wait() -> None:
    assert wait_s([5, 25], 1, 0, at_least_s=2) == 5
    assert wait_s([5, 25], 1, 0, at_least_s=10) == 10
    assert wait_s([5, 25], 1, 0, at_least_s=3600) == 25
    assert wait_s([5, 25], 3, 0, at_least_s=3600) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("Fri, 02 Jan 2026 03:06:05 GMT", 120),
        ("Friday, 02-Jan-26 03:06:05 GMT", 120),  # the form of RFC 850, still to be understood
        ("Fri, 02 Jan 2026 03:06:05 -0000", 120),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("", 0),
        ("١٢", 0),
        ("9" * 5000, float("inf")),
        ("Fri, 99 Jan 2026 03:06:05 GMT", 0),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert retry_after_s(value, NOW_S) == seconds


@given(st.text())
def test_retry_after_never_fails(value: str) -> None:
    assert retry_after_s(value, NOW_S) >= 0


@given(st.integers(0, 10**6))
def test_retry_after_as_a_date(ahead_s: int) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW_S + ahead_s, UTC), usegmt=True)
    assert retry_after_s(date, NOW_S) == ahead_s
