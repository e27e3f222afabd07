"""Sparing a target that fails all the time: no push is lost by it, and nobody else notices."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from push_office import Journal, Office, cdr, ids, status
from push_receivers import receiver

from huibo.push import breaker
from huibo.push.breaker import FAILURES, Breaker, Turn

pytest_plugins = ["push_fixtures"]

SICK, FINE = ("app", "http://sick/"), ("app", "http://fine/")
NOW = 1_700_000_000_000


def spared(now: int = NOW) -> Breaker:
    """One that spares a target since `now`."""
    of = Breaker()
    for number in range(FAILURES):
        assert of.may_go(SICK, number, now)
        turn = of.over(SICK, number, False, now)
    assert turn is Turn.SPARED
    return of


def test_it_takes_several_failures_in_a_row() -> None:
    of = Breaker()
    for number in range(10 * FAILURES):
        assert of.may_go(SICK, number, NOW)
        of.over(SICK, number, number % FAILURES == 0, NOW)
    assert len(of) == 1


def test_one_attempt_at_a_time_after_pauses_that_grow() -> None:
    of, now, gaps = spared(), NOW, []
    for number in itertools.count(100):
        began = now
        while not of.may_go(SICK, number, now):
            now += 10
        gaps.append(now - began)
        assert not of.may_go(SICK, number + 1, now + 3_600_000), "while it is under way"
        assert of.over(SICK, number, False, now) is None
        if len(gaps) == 8:
            break
    assert gaps == [1000, 1000, 2000, 4000, 8000, 15000, 15000, 15000]


def test_a_success_ends_it_at_once() -> None:
    of = spared()
    assert of.may_go(SICK, 100, NOW + 1000)
    assert of.over(SICK, 100, True, NOW + 1010) is Turn.BACK
    assert of.may_go(SICK, 101, NOW + 1010)
    assert len(of) == 0


def test_so_does_that_of_an_attempt_that_was_already_under_way() -> None:
    of = spared()
    assert of.over(SICK, 5, True, NOW) is Turn.BACK


def test_how_long_what_is_owed_waits() -> None:
    of = spared()
    assert not of.may_go(SICK, 100, NOW)
    later = of.again_at(SICK, True, NOW, NOW)
    assert later is not None
    assert NOW + 1000 <= later <= NOW + 3000
    assert of.again_at(SICK, True, NOW, NOW + 59_999) is not None
    assert of.again_at(SICK, True, NOW, NOW + 60_000) is None
    for gone_on_s, least, most in ((0, 4, 6), (40, 8, 12), (7200, 1440, 2160), (86400, 1440, 2160)):
        at = of.again_at(SICK, False, NOW, NOW + gone_on_s * 1000)
        assert at is not None
        assert least <= (at - NOW) / 1000 - gone_on_s <= most


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_REMEMBERED", 20)
    of = Breaker()
    for number in range(100):
        of.over(("app", f"http://{number}/"), number, False, NOW)
    assert len(of) == 20


@dataclass
class World:
    """Targets that are down at times, pushes owed to them, and a deliverer without a network."""

    down: dict[tuple[str, str], list[tuple[int, int]]]
    breaker: Breaker = field(default_factory=Breaker)
    attempts: Counter[int] = field(default_factory=Counter)
    fates: dict[int, str] = field(default_factory=dict)
    times: dict[int, list[int]] = field(default_factory=dict)
    events: list[tuple[int, int, str]] = field(default_factory=list)

    def is_down(self, key: tuple[str, str], at: int) -> bool:
        return any(begin <= at < end for begin, end in self.down.get(key, []))

    def deliver(self, owed: list[tuple[int, tuple[str, str], bool, int]], takes: int) -> None:
        """`owed`: (when, to whom, a status push or not, id). Each attempt takes so many ms."""
        due = [(at, 1, number, key, is_status, at) for at, key, is_status, number in owed]
        heapq.heapify(due)
        under_way: Counter[tuple[str, str]] = Counter()
        while due:
            now, what, number, key, is_status, owed_at = heapq.heappop(due)
            if what == 0:
                under_way[key] -= 1
                succeeded = not self.is_down(key, now)
                self.breaker.over(key, number, succeeded, now)
                waits = [5000, 25000] if is_status else [5000, 300_000, 1_800_000]
                if succeeded:
                    self.fates[number] = "delivered"
                elif self.attempts[number] > len(waits):
                    self.fates[number] = "dead"
                else:
                    then = now + waits[self.attempts[number] - 1]
                    heapq.heappush(due, (then, 1, number, key, is_status, owed_at))
            elif self.breaker.may_go(key, number, now):
                self.attempts[number] += 1
                under_way[key] += 1
                self.times.setdefault(number, []).append(now)
                heapq.heappush(due, (now + takes, 0, number, key, is_status, owed_at))
            elif (then := self.breaker.again_at(key, is_status, owed_at, now)) is None:  # type: ignore[assignment]
                self.fates[number] = "dead"
            else:
                assert then > now
                heapq.heappush(due, (then, 1, number, key, is_status, owed_at))


MINUTE = 60_000


@given(
    owed=st.lists(
        st.tuples(st.integers(0, 20 * MINUTE), st.sampled_from([SICK, FINE]), st.booleans()), max_size=120
    ),
    down=st.lists(st.tuples(st.integers(0, 20 * MINUTE), st.integers(0, 20 * MINUTE)), max_size=3),
    takes=st.sampled_from([1, 200, 15_000]),
)
def test_no_push_is_lost_and_a_target_that_works_is_never_slowed(
    owed: list[tuple[int, tuple[str, str], bool]], down: list[tuple[int, int]], takes: int
) -> None:
    world = World({SICK: [(begin, begin + length) for begin, length in down]})
    numbered = [(at, key, is_status, number) for number, (at, key, is_status) in enumerate(owed)]
    world.deliver(numbered, takes)
    assert set(world.fates) == set(range(len(owed)))
    for at, key, is_status, number in numbered:
        tries = world.times.get(number, [])
        assert len(tries) <= (3 if is_status else 4)
        if key == FINE:
            assert (tries, world.fates[number]) == ([at], "delivered")
        elif not is_status:
            assert tries, "what has days is tried"
        if is_status:
            assert all(each - at <= 60_000 + 2 * MINUTE for each in tries)


async def test_a_target_that_fails_is_hit_seldom_and_loses_nothing(office: Office, journal: Journal) -> None:
    """A whole crowd of calls for a receiver that comes back; its calls' pushes arrive in order."""
    answers = [500] * (FAILURES + 2)
    async with receiver(*answers, 200) as customer, receiver() as fine:
        office.open(concurrency_per_receiver=1, status_retry_s=[0.3] * 40)
        for n in range(20):
            await office.owe(*(status(f"c{n}", seq, customer.url()) for seq in (1, 2, 3)), wake=False)
        await office.owe(cdr("f1", 1, fine.url()))
        await fine.arrived(1)
        await journal.heard("push target spared: it fails all the time")
        hits = len(customer.got)
        await office.owe(*(cdr(f"f{n}", 1, fine.url()) for n in range(2, 12)))
        await fine.arrived(11)
        assert len(customer.got) <= hits + 1
        await journal.heard("push target answers again")
        await customer.arrived(len(answers) + 60)
        await office.stop()
    assert {state for (state,) in await office.rows("state")} == {"delivered"}
    assert sum(made for (made,) in await office.rows("attempts")) == len(answers) + 60 + 11
    for n in range(20):
        seen = [int(each[-1]) for each in ids(customer) if each.startswith(f"c{n}-")]
        assert seen == sorted(seen)


async def test_a_status_push_does_not_wait_for_longer_than_a_minute(
    office: Office, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "_STATUS_LIFE_MS", 0)
    monkeypatch.setattr(breaker, "FAILURES", 1)
    async with receiver(500) as customer, receiver() as fine:
        office.open(status_retry_s=[], cdr_retry_s=[3600])
        await office.owe(status("c1", 1, customer.url()))
        await journal.heard("push dead")
        url = customer.url()
        await office.owe(
            status("c2", 1, url), status("c2", 2, url), cdr("c2", 3, fine.url()), cdr("c2", 4, url)
        )
        await fine.arrived(1)
        await office.stop()
    assert len(customer.got) == 1
    given_up = ("dead", 0, "given up untried: the target fails all the time")
    rows = await office.rows("state", "attempts", "last_error")
    assert rows[1:] == [given_up, given_up, ("delivered", 1, None), ("pending", 0, None)]
