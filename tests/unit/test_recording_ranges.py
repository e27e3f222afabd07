"""Range, If-Range and If-None-Match as RFC 9110 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.recording.ranges import Part, Unsatisfiable, is_current, is_known, part_of

SIZE = 1000
ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", Part(0, 1)),
        ("bytes=0-499", Part(0, 500)),
        ("bytes=500-", Part(500, 1000)),
        ("bytes=999-999", Part(999, 1000)),
        ("bytes=500-5000", Part(500, 1000)),
        ("bytes=-1", Part(999, 1000)),
        ("bytes=-1000", Part(0, 1000)),
        ("bytes=-99999999999999999999", Part(0, 1000)),
        ("BYTES=0-1", Part(0, 2)),
        ("bytes= 0-1 ", Part(0, 2)),
        ("bytes=000-0001", Part(0, 2)),
    ],
)
def test_one_range(header: str, part: Part) -> None:
    assert part_of(header, SIZE) == part


@pytest.mark.parametrize(
    "header",
    [
        *(
            None,
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=1 -2",
        ),
        *("bytes=5-4", "lines=0-1", "bytes 0-1", "=0-1", "bytes=0x1-2", "bytes=+1-2", "bytes=1.0-2"),
        *("bytes=٠-١", "bytes=0-1,4-5", "bytes=0-1, 4-5", "bytes=,", "bytes=0-1,"),
    ],
)
def test_what_is_no_range_is_ignored_and_several_are_answered_with_the_whole(header: str | None) -> None:
    assert part_of(header, SIZE) is None


@pytest.mark.parametrize(
    "header", ["bytes=1000-", "bytes=1000-1001", "bytes=99999999999999999999-", "bytes=-0"]
)
def test_a_range_behind_the_end_cannot_be_served(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        part_of(header, SIZE)


@given(
    st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,25}-[0-9]{0,25}", fullmatch=True), st.integers(0, 50)
)
def test_whatever_is_asked_the_part_lies_in_the_file(header: str, size: int) -> None:
    try:
        part = part_of(header, size)
    except Unsatisfiable:
        return
    assert part is None or 0 <= part.start < part.end <= size


def test_a_range_needs_exactly_this_file() -> None:
    assert is_current(None, ETAG)
    assert is_current(ETAG, ETAG)
    for other in ('"abd"', 'W/"abc"', "abc", "*", "", '"abc", "x"', "Sat, 22 Nov 2025 13:22:18 GMT"):
        assert not is_current(other, ETAG)


def test_a_client_that_has_the_file_is_known() -> None:
    for known in (ETAG, 'W/"abc"', '"x", "abc"', '"x","abc" , "y"', "*", " * "):
        assert is_known(known, ETAG)
    for other in (None, "", '"abd"', "abc", '"x, abc"'):
        assert not is_known(other, ETAG)
