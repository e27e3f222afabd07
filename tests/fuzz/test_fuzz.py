"""The short form of the fuzzers, some seconds; `python -m tests.fuzz` is the long one."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.source import Source
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_by_chance(name: str) -> None:
    chance = random.Random(20261122)
    for _ in range(1500):
        TARGETS[name](chance.randbytes(chance.randrange(200)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200))
def test_nothing_is_found_by_hypothesis(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_a_source_that_is_empty_goes_on_with_the_first_choice() -> None:
    source = Source(b"\x02")
    assert source.one_of("abc") == "c"
    assert not source
    assert (source.one_of("abc"), source.below(1000), source.text()) == ("a", 0, "")
