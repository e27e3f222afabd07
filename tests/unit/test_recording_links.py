"""Download links: good for one recording until a moment, and nothing else is."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from huibo.recording.links import check, link, sign

SECRET = bytes(range(32))
call_ids = st.text("0123456789abcdef-", min_size=1, max_size=64)
moments = st.integers(1, 2**48)


@given(call_ids, moments, st.data())
def test_a_link_is_good_until_its_moment_and_not_in_it(
    call_id: str, expires_at: int, data: st.DataObject
) -> None:
    token = sign(SECRET, call_id, expires_at)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    now = data.draw(st.integers(0, 2 * expires_at))
    assert check(SECRET, token, now) == (call_id if now < expires_at else None)


def test_no_single_bit_of_a_token_can_be_changed() -> None:
    for call_id in ("12-251122-7f1020da3bf94e19b324a613ccf3e96d", "1", "12", "123"):  # all lengths of base64
        token = sign(SECRET, call_id, 1_763_817_738_000)
        for at in range(len(token)):
            for bit in range(8):
                other = token[:at] + chr(ord(token[at]) ^ (1 << bit)) + token[at + 1 :]
                assert check(SECRET, other, 0) is None


@given(call_ids, moments, st.text(max_size=3), st.integers(0, 200))
def test_nothing_can_be_put_into_a_token_or_taken_from_it(
    call_id: str, expires_at: int, more: str, at: int
) -> None:
    token = sign(SECRET, call_id, expires_at)
    longer = token[:at] + more + token[at:]
    assert check(SECRET, longer, 0) == (call_id if longer == token else None)
    if at < len(token):
        assert check(SECRET, token[:at] + token[at + 1 :], 0) is None
        assert check(SECRET, token[:at], 0) is None
    assert check(SECRET, token + "=" * (-len(token) % 4), 0) == (None if len(token) % 4 else call_id)


@given(st.text(max_size=150))
def test_any_other_text_is_refused(text: str) -> None:
    assert check(SECRET, text, 0) is None


@given(call_ids, moments, st.binary(min_size=32, max_size=32))
def test_another_installations_link_is_refused(call_id: str, expires_at: int, other: bytes) -> None:
    token = sign(other, call_id, expires_at)
    assert check(SECRET, token, 0) == (call_id if other == SECRET else None)


def test_a_link_as_it_is_pushed() -> None:
    url = link("https://call.example.com", SECRET, "12-251122-7f", 1_763_817_738_000, "mp3")
    assert url == f"https://call.example.com/recordings/{sign(SECRET, '12-251122-7f', 1_763_817_738_000)}.mp3"
