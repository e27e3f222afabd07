"""When events happened that were read late."""

from __future__ import annotations

from datetime import UTC, datetime

from huibo.engine.ari.stamps import Stamps

NOW = 1_795_374_324_000


def event(at: float) -> dict[str, str]:
    return {"timestamp": datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f%z")}


def test_what_is_read_soon_happens_now() -> None:
    stamps = Stamps()
    for n in range(100):
        assert stamps.moment(event(NOW + n * 7000 - n % 10), NOW + n * 7000) == NOW + n * 7000


def test_what_has_waited_happened_before() -> None:
    stamps = Stamps()
    stamps.moment(event(NOW - 5), NOW)
    found = [stamps.moment(event(NOW + ms), NOW + 28_000) for ms in (5_000, 26_000, 27_800)]
    assert [at - NOW for at in found] == [5_005, 26_005, 28_000]


def test_clocks_that_differ_make_no_difference() -> None:
    stamps, ahead = Stamps(), 3_600_000
    stamps.moment(event(NOW + ahead), NOW)
    assert stamps.moment(event(NOW + ahead + 1_000), NOW + 20_000) == NOW + 1_000


def test_a_clock_that_is_set_is_no_delay() -> None:
    for step in (-3_600_000, 3_600_000):
        stamps = Stamps()
        stamps.moment(event(NOW), NOW)
        assert stamps.moment(event(NOW + 100 + step), NOW + 100) == NOW + 100
        assert stamps.moment(event(NOW + 200 + step), NOW + 9_000) == NOW + 200


def test_a_clock_that_drifts_is_followed() -> None:
    stamps = Stamps()
    for second in range(7200):  # by a millisecond a second, which is more than any does
        now = NOW + second * 1000
        assert stamps.moment(event(now - second), now) == now


def test_an_event_without_a_stamp_happens_now() -> None:
    for nonsense in ({}, {"timestamp": None}, {"timestamp": "now"}):
        assert Stamps().moment(nonsense, NOW) == NOW
