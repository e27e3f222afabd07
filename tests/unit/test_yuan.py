"""Money as people write it: nothing is rounded, nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.yuan import parse, shown


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 100_000),
        ("0.00001", 1),
        ("1.5", 150_000),
        ("-0.1", -10_000),
        ("+12.34567", 1_234_567),
        ("0", 0),
        (" 100 ", 10_000_000),
        ("999999999.99999", 99_999_999_999_999),
    ],
)
def test_an_amount_is_read_exactly(text: str, amount: int) -> None:
    assert parse(text) == amount


@pytest.mark.parametrize(
    "text", ["", "1,5", "1.", ".5", "1e3", "¥1", "1 000", "--1", "NaN", "１", "1.123456", "9" * 10]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an amount"):
        parse(text)


@given(st.integers(min_value=-(10**14) + 1, max_value=10**14 - 1))
def test_what_is_shown_is_read_as_the_same(amount: int) -> None:
    assert parse(shown(amount)) == amount
    assert len(shown(amount).partition(".")[2]) == 5
