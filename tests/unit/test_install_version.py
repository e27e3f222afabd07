"""Which versions of Asterisk are accepted, by table and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.engine.install.version import UnsuitableAsterisk, check, parse

Number = tuple[int, int, int]
numbers = st.tuples(st.integers(18, 25), st.integers(0, 30), st.integers(0, 9))


def shown(number: Number) -> str:
    return ".".join(map(str, number))


def accepted(version: str) -> bool:
    try:
        check(version)
    except UnsuitableAsterisk:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Asterisk 22.10.1+dfsg+~cs6.17.60671434-1\n", "22.10.1"),
        ("Asterisk 20.6.0~dfsg+~cs6.13.40431414-2build5", "20.6.0"),
        ("Asterisk certified/20.7-cert2", "20.7.0"),
        ("Asterisk certified-22.8-cert1", "22.8.0"),
        ("Asterisk 22.4.0-rc1", "22.4.0"),
        ("22.10.1+dfsg+~cs6.17.60671434-1", "22.10.1"),
        ("23.1", "23.1.0"),
    ],
)
def test_the_number_is_read_out_of_what_asterisk_says(text: str, version: str) -> None:
    assert parse(text) == version


@pytest.mark.parametrize("text", ["", "Asterisk GIT-22-fb2d0b1a4d", "Asterisk SVN-trunk-r12345", "ls 9"])
def test_what_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(UnsuitableAsterisk, match="no version number"):
        check(text)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("16.28.0", False),
        ("19.8.1", False),
        ("20.6.0", False),
        ("20.13.9", False),
        ("20.14.0", True),
        ("20.20.1", True),
        ("21.8.0", False),
        ("21.9.0", True),
        ("22.2.0", False),
        ("22.3.9", False),
        ("22.4.0", True),
        ("22.8.2", True),
        ("22.9.0", False),
        ("22.9.1", False),
        ("22.10.0", False),
        ("22.10.1", True),
        ("22.11.0", True),
        ("23.0.0", True),
        ("24.1.0", True),
    ],
)
def test_accepted_versions(version: str, good: bool) -> None:
    assert accepted(version) is good


@pytest.mark.parametrize(("version", "why"), [("22.9.0", "deadlock"), ("20.6.0~dfsg", "too old")])
def test_a_refusal_names_the_version_the_reason_and_the_way_out(version: str, why: str) -> None:
    with pytest.raises(UnsuitableAsterisk) as refused:
        check(version)
    message = str(refused.value)
    assert version.partition("~")[0] in message
    assert why in message
    assert "unset HUIBO_ASTERISK" in message
    assert "22.10.1 or newer" in message
    assert "\n" not in message


@given(numbers, numbers)
def test_a_newer_release_of_an_accepted_branch_is_accepted_but_for_the_known_bad(
    a: Number, b: Number
) -> None:
    older, newer = sorted([a, b])
    known_bad = (22, 9, 0) <= newer <= (22, 10, 0)
    if older[0] == newer[0] and accepted(shown(older)):
        assert accepted(shown(newer)) is not known_bad


@given(numbers, st.sampled_from(["", "+dfsg-1", "~rc1", "-rc2", "~dfsg+~cs6.13.40431414-2"]))
def test_packaging_words_change_nothing(number: Number, suffix: str) -> None:
    assert parse(f"Asterisk {shown(number)}{suffix}") == shown(number)
    assert accepted(shown(number) + suffix) is accepted(shown(number))
