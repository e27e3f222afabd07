"""What an app may spend and how much it may call: admission's rules one by one, then under fire."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from huibo.admission.admit import Admission, Admitted
from huibo.admission.hours import is_within, read_window
from huibo.admission.routing import in_order
from huibo.clock import Clock
from huibo.config import load
from huibo.engine.events import LegAnswered, LegEnded
from huibo.errors import Refusal, Refused
from huibo.flow.machine import step
from huibo.flow.state import CallState, Cancel, Event, Finish, Start
from huibo.model import (
    App,
    AppSettings,
    Call,
    CallRequest,
    DisplayMode,
    DisplayNumber,
    Leg,
    Trunk,
    TrunkState,
)
from huibo.ports import Engine
from huibo.rating import Budget, Rate
from huibo.storage import accounts, blacklist, catalog, locks, rates
from huibo.storage.calls import save_step, unfinished
from huibo.storage.database import Database
from huibo.storage.migrate import migrate
from huibo.storage.tables import calls, ledger
from tests.unit.test_admission import Switch

MOBILE, CALLEE = "+8613800138000", "+8675586013388"
APP = App("shop", "u", allowed_ips=("192.0.2.0/24",))
REQUEST = CallRequest("shop", "u", "192.0.2.7", caller=MOBILE, callee=CALLEE, max_talk_s=600)
PRICE = Rate("86", per_minute=6000)  # 6 fen a minute
MINUTE = 2 * 6000  # of both legs
FULL = (11 + 10) * 6000  # ten minutes of both, and the ringing of the callee


class Watch(Clock):
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.ms = 1_763_817_738_000

    def now_ms(self) -> int:
        return self.ms


class Desk:
    """Admission over a database that holds one app with a number, and one trunk."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Watch()
        self.switch = Switch()
        self.admission = Admission(database, cast(Engine, self.switch), self.clock, load().calls)

    def has(self, **own: Any) -> None:
        """Give the app settings of its own."""
        app = replace(APP, settings=AppSettings(**own))
        self.database.write_now(lambda connection: catalog.change_app(connection, app))

    def enter(self, work: Any) -> Any:
        return self.database.write_now(work)

    def pay(self, amount: int) -> None:
        self.enter(lambda c: accounts.pay_in(c, "shop", amount, "test", "", self.clock.ms))

    @property
    def account(self) -> accounts.Account:
        return self.database.read_now(lambda connection: accounts.find_account(connection, "shop"))

    async def accept(self, **changes: Any) -> tuple[Call, CallState]:
        admitted = await self.admission.accept(replace(REQUEST, **changes))
        return admitted.call, admitted.state

    async def refused(self, **changes: Any) -> tuple[Refusal, str]:
        with pytest.raises(Refused) as refused:
            await self.accept(**changes)
        return refused.value.refusal, refused.value.rule

    def end(self, call: Call, state: CallState, *events: Event) -> CallState:
        """Take the call through these events and store each step as a runner does."""

        def story(connection: Connection) -> CallState:
            now = state
            for event in events:
                now, commands = step(call.call_id, now, event)
                cdr = next((c.cdr for c in commands if isinstance(c, Finish)), None)
                save_step(connection, call, now, [], cdr, self.clock.ms)
            return now

        return cast(CallState, self.enter(story))

    def talked(self, call: Call, state: CallState, seconds: int) -> None:
        at = self.clock.ms
        answers = [LegAnswered(call.call_id, leg, at) for leg in Leg]
        self.clock.ms += seconds * 1000
        ends = [LegEnded(call.call_id, leg, self.clock.ms) for leg in (Leg.CALLEE, Leg.CALLER)]
        assert self.end(call, state, Start(at), *answers, *ends).over


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    database = Database(f"sqlite:///{tmp_path}/huibo.sqlite3")
    migrate(database.engine)

    def furnish(connection: Connection) -> None:
        catalog.add_app(connection, APP, 1)
        catalog.add_number(connection, DisplayNumber("02131264133", apps=("shop",)), 1)
        catalog.add_trunk(connection, Trunk("line", "192.0.2.1"), 1)
        rates.put_rate(connection, "plan", PRICE, "", 1)

    database.write_now(furnish)
    yield Desk(database)
    await database.close()


# Money


async def test_a_call_of_a_prepaid_app_holds_both_legs_and_is_charged_once(desk: Desk) -> None:
    desk.has(rate_plan="plan", prepaid=True)
    desk.pay(10 * FULL)
    call, state = await desk.accept()
    assert desk.account == accounts.Account("shop", 10 * FULL, held=FULL)
    desk.talked(call, state, 61)
    assert desk.account == accounts.Account("shop", 10 * FULL - 2 * MINUTE, held=0)
    entries = desk.database.read_now(lambda c: accounts.list_entries(c, "shop"))
    assert [(e.kind.value, e.amount, e.call_id) for e in entries] == [
        ("charge", 2 * MINUTE, call.call_id),
        ("release", FULL, call.call_id),
        ("hold", FULL, call.call_id),
        ("credit", 10 * FULL, None),
    ]


async def test_less_than_the_first_interval_of_both_legs_is_too_little(desk: Desk) -> None:
    desk.has(rate_plan="plan", prepaid=True)
    assert await desk.refused() == (Refusal.BALANCE, "balance")
    desk.pay(MINUTE - 1)
    assert await desk.refused() == (Refusal.BALANCE, "balance")
    desk.pay(1)
    _, state = await desk.accept()
    assert state.plan.budget is not None
    assert state.plan.budget.hold == MINUTE == desk.account.held
    assert await desk.refused() == (Refusal.BALANCE, "balance")  # it is held for the call under way


async def test_what_was_held_for_a_call_without_a_conversation_is_free_again(desk: Desk) -> None:
    desk.has(rate_plan="plan", prepaid=True)
    desk.pay(MINUTE)
    call, state = await desk.accept()
    assert desk.end(call, state, Cancel(desk.clock.ms)).over
    assert desk.account == accounts.Account("shop", MINUTE, held=0)


async def test_a_postpaid_app_holds_nothing_and_owes(desk: Desk) -> None:
    desk.has(rate_plan="plan")
    call, state = await desk.accept()
    assert desk.account.held == 0
    desk.talked(call, state, 30)
    assert desk.account.balance == -MINUTE


async def test_an_app_without_rates_moves_no_money(desk: Desk) -> None:
    desk.talked(*await desk.accept(), 30)
    assert desk.database.read_now(lambda c: c.scalar(select(func.count()).select_from(ledger))) == 0


async def test_a_number_without_a_price_is_not_called(desk: Desk) -> None:
    desk.has(rate_plan="plan")
    desk.enter(lambda c: rates.remove_rate(c, "plan", "86"))
    desk.enter(lambda c: rates.put_rate(c, "plan", replace(PRICE, prefix="86138"), "", 1))
    assert await desk.refused() == (Refusal.UNAVAILABLE, "rates")


async def test_the_longest_prefix_is_the_price(desk: Desk) -> None:
    desk.has(rate_plan="plan")
    for prefix, price in (("8675", 7), ("86755", 8), ("861", 9), ("867558601338801", 10)):
        desk.enter(lambda c, p=prefix, m=price: rates.put_rate(c, "plan", Rate(p, m), "", 1))
    _, state = await desk.accept()
    budget = state.plan.budget
    assert budget is not None
    assert (budget.caller.per_minute, budget.callee.per_minute) == (9, 8)


async def test_hundreds_of_requests_at_once_spend_no_more_than_there_is(desk: Desk) -> None:
    desk.has(rate_plan="plan", prepaid=True)
    desk.pay(7 * FULL + MINUTE + 5)
    results = await asyncio.gather(
        *(desk.admission.accept(REQUEST) for _ in range(300)), return_exceptions=True
    )
    accepted = [result for result in results if isinstance(result, Admitted)]
    refused = {result.refusal for result in results if isinstance(result, Refused)}
    assert (len(accepted), refused) == (8, {Refusal.BALANCE})
    assert desk.account == accounts.Account("shop", 7 * FULL + MINUTE + 5, held=7 * FULL + MINUTE + 5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    paid=st.integers(0, 4 * FULL),
    moves=st.lists(st.sampled_from(["accept", "end", "kill"]), min_size=5, max_size=40),
)
def test_no_interleaving_of_calls_and_kills_overdraws(
    tmp_path_factory: pytest.TempPathFactory, seed: int, paid: int, moves: list[str]
) -> None:
    """A kill: the process goes with all that it had in memory, and another takes up what is stored."""
    chance = random.Random(seed)
    url = f"sqlite:///{tmp_path_factory.mktemp('money')}/huibo.sqlite3"

    async def story() -> None:
        desk = Desk(Database(url))
        migrate(desk.database.engine)
        desk.enter(lambda c: catalog.add_app(c, APP, 1))
        desk.has(rate_plan="plan", prepaid=True)
        desk.enter(lambda c: catalog.add_number(c, DisplayNumber("02131264133", apps=("shop",)), 1))
        desk.enter(lambda c: catalog.add_trunk(c, Trunk("line", "192.0.2.1"), 1))
        desk.enter(lambda c: rates.put_rate(c, "plan", Rate("86", 6000, first_s=6, next_s=6), "", 1))
        if paid:
            desk.pay(paid)
        for move in moves:
            if move == "accept":
                wanted = [replace(REQUEST, max_talk_s=chance.randint(1, 900)) for _ in range(4)]
                await asyncio.gather(*map(desk.admission.accept, wanted), return_exceptions=True)
            elif move == "kill":
                await desk.database.close()
                clock, desk = desk.clock, Desk(Database(url))
                desk.clock.ms = clock.ms
            elif live := desk.database.read_now(unfinished):
                call, state = chance.choice(live)
                if chance.random() < 0.3:
                    desk.end(call, state, Cancel(desk.clock.ms))
                else:
                    desk.talked(call, state, chance.randint(0, 1200))
            account, live = desk.account, desk.database.read_now(unfinished)
            budgets = [state.plan.budget for _, state in live]
            assert account.held == sum(budget.hold or 0 for budget in budgets if budget)
            assert account.balance >= account.held >= 0
        for call, state in desk.database.read_now(unfinished):
            desk.talked(call, state, 10_000)
        charged = select(func.coalesce(func.sum(ledger.c.amount), 0)).where(ledger.c.kind == "charge")
        charges = desk.database.read_now(lambda c: c.scalar(charged))
        assert desk.account == accounts.Account("shop", paid - charges, 0)
        assert desk.account.balance >= 0
        await desk.database.close()

    asyncio.run(story())


# Limits


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 5), gaps=st.lists(st.integers(0, 700), min_size=10, max_size=40))
def test_calls_per_second_hold_in_any_second(
    tmp_path_factory: pytest.TempPathFactory, limit: int, gaps: list[int]
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('pace')}/huibo.sqlite3"

    async def story() -> None:
        desk = Desk(Database(url))
        migrate(desk.database.engine)
        desk.enter(lambda c: catalog.add_app(c, APP, 1))
        desk.has(calls_per_second=limit)
        desk.enter(lambda c: catalog.add_number(c, DisplayNumber("02131264133", apps=("shop",)), 1))
        desk.enter(lambda c: catalog.add_trunk(c, Trunk("line", "192.0.2.1"), 1))
        for gap in gaps:
            desk.clock.ms += gap
            two = [desk.admission.accept(REQUEST) for _ in range(2)]
            await asyncio.gather(*two, return_exceptions=True)
        query = select(calls.c.accepted_at).order_by(calls.c.accepted_at)
        times = desk.database.read_now(lambda c: c.scalars(query).all())
        for n, at in enumerate(times):
            assert sum(1 for other in times[n:] if other - at <= 1000) <= limit
        assert len(times) >= min(limit, 2 * len(gaps))
        await desk.database.close()

    asyncio.run(story())


async def test_calls_at_once(desk: Desk) -> None:
    desk.has(calls_at_once=2)
    first = await desk.accept()
    await desk.accept()
    assert await desk.refused() == (Refusal.BLOCKED, "calls_at_once")
    desk.talked(*first, 5)
    await desk.accept()
    results = await asyncio.gather(*[desk.refused() for _ in range(20)])
    assert set(results) == {(Refusal.BLOCKED, "calls_at_once")}


@pytest.mark.parametrize(("limit", "window_s"), [("callee_per_hour", 3600), ("callee_per_day", 86_400)])
async def test_calls_to_one_callee(desk: Desk, limit: str, window_s: int) -> None:
    desk.has(**{limit: 2})
    await desk.accept()
    desk.clock.ms += 1000
    await desk.accept()
    assert await desk.refused() == (Refusal.BLOCKED, "callee_calls")
    await desk.accept(callee="+8613900000000")
    desk.clock.ms += (window_s - 1) * 1000
    await desk.accept()  # the first of them is so long ago
    assert await desk.refused() == (Refusal.BLOCKED, "callee_calls")


@pytest.mark.parametrize(
    ("window", "local", "within"),
    [
        ("09:00-21:00", "2026-11-23 08:59", False),
        ("09:00-21:00", "2026-11-23 09:00", True),
        ("09:00-21:00", "2026-11-23 20:59", True),
        ("09:00-21:00", "2026-11-23 21:00", False),
        ("mon-fri 09:00-12:00", "2026-11-22 10:00", False),  # a Sunday
        ("mon-fri 09:00-12:00", "2026-11-23 10:00", True),
        ("sat-mon 09:00-12:00", "2026-11-22 10:00", True),
        ("sun 00:00-24:00", "2026-11-22 23:59", True),
        ("fri 22:00-02:00", "2026-11-27 23:00", True),
        ("fri 22:00-02:00", "2026-11-28 01:59", True),
        ("fri 22:00-02:00", "2026-11-28 02:00", False),
        ("fri 22:00-02:00", "2026-11-27 01:00", False),
    ],
)
def test_calling_hours(window: str, local: str, within: bool) -> None:
    assert is_within(window, datetime.fromisoformat(local)) is within


@pytest.mark.parametrize("window", ["", "9-21", "09:00", "mon 09:60-10:00", "foo 09:00-10:00", "24:01-25:00"])
def test_hours_that_cannot_be_read_are_told(window: str) -> None:
    with pytest.raises(ValueError, match=window or "not like"):
        read_window(window)


async def test_the_hours_are_those_of_the_apps_time_zone(desk: Desk) -> None:
    desk.clock.ms = int(datetime(2026, 11, 23, 1, 30, tzinfo=UTC).timestamp() * 1000)  # 09:30 in Shanghai
    desk.has(hours=("09:00-10:00",))
    await desk.accept()
    desk.has(hours=("09:00-10:00",), timezone="Europe/Berlin")
    assert await desk.refused() == (Refusal.BLOCKED, "hours")
    desk.has(hours=("09:00-10:00", "02:00-03:00"), timezone="Europe/Berlin")
    await desk.accept()


@pytest.mark.parametrize(
    ("entry", "refused"),
    [
        (blacklist.Listed("867558601338"), False),  # exactly another number
        (blacklist.Listed("8675586013388"), True),
        (blacklist.Listed("8675", exact=False), True),
        (blacklist.Listed("8613800138000"), True),
        (blacklist.Listed("8613800138000", direction=blacklist.Direction.CALLEE), False),
        (blacklist.Listed("8613800138000", direction=blacklist.Direction.CALLER), True),
        (blacklist.Listed("8675586013388", app_id="shop"), True),
        (blacklist.Listed("8675586013388", app_id="other"), False),
        (blacklist.Listed("8675586013388", expires_at=1_763_817_738_000), False),
        (blacklist.Listed("8675586013388", expires_at=1_763_817_738_001), True),
    ],
)
async def test_the_blacklist(desk: Desk, entry: blacklist.Listed, refused: bool) -> None:
    desk.enter(lambda connection: blacklist.put_listed(connection, [entry], 1))
    if refused:
        assert await desk.refused() == (Refusal.BLACKLIST, "blacklist")
    else:
        await desk.accept()


# Lines


async def test_a_trunk_has_only_so_many_channels_and_a_call_takes_two(desk: Desk) -> None:
    desk.enter(lambda c: catalog.change_trunk(c, Trunk("line", "192.0.2.1", channels=5)))
    first = await desk.accept()
    await desk.accept()
    assert await desk.refused() == (Refusal.NO_LINE, "line")  # one is free, which is not enough
    desk.enter(lambda c: catalog.add_trunk(c, Trunk("more", "192.0.2.2", priority=9), 1))
    call, _ = await desk.accept()
    assert (call.caller_trunk, call.callee_trunk) == ("line", "more")
    desk.talked(*first, 1)
    call, _ = await desk.accept()
    assert (call.caller_trunk, call.callee_trunk) == ("line", "line")


@pytest.mark.parametrize("way", ["down", "locked", "draining", "off", "other prefix"])
async def test_a_trunk_that_takes_no_calls_is_passed_over(desk: Desk, way: str) -> None:
    line = Trunk("line", "192.0.2.1")
    match way:
        case "down":
            desk.switch.down = {"line"}
        case "locked":
            until = desk.clock.ms + 1
            lock = locks.Lock(locks.LockKind.TRUNK, "line", "", 1, until)
            desk.enter(lambda c: locks.put_lock(c, lock))
        case "draining":
            line = replace(line, state=TrunkState.DRAINING)
        case "off":
            line = replace(line, state=TrunkState.OFF)
        case "other prefix":
            line = replace(line, prefixes=("8610",))
    desk.enter(lambda c: catalog.change_trunk(c, line))
    assert await desk.refused() == (Refusal.NO_LINE, "line")
    desk.enter(lambda c: catalog.add_trunk(c, Trunk("more", "192.0.2.2", priority=9), 1))
    _, state = await desk.accept()
    assert state.plan.caller_route == state.plan.callee_route == ("more",)


async def test_each_leg_goes_over_the_trunks_that_serve_its_number(desk: Desk) -> None:
    desk.enter(lambda c: catalog.change_trunk(c, Trunk("line", "192.0.2.1", prefixes=("861",))))
    desk.enter(lambda c: catalog.add_trunk(c, Trunk("land", "192.0.2.2", prefixes=("86755", "8610")), 1))
    _, state = await desk.accept()
    assert (state.plan.caller_route, state.plan.callee_route) == (("line",), ("land",))


async def test_a_number_is_shown_only_on_its_trunks(desk: Desk) -> None:
    desk.enter(lambda c: catalog.add_trunk(c, Trunk("more", "192.0.2.2", priority=9), 1))
    only = DisplayNumber("075561948986", apps=("shop",), trunks=("more",))
    desk.enter(lambda c: catalog.add_number(c, only, 1))
    _, state = await desk.accept(caller_display=only.number, callee_display="02131264133")
    assert (state.plan.caller_route, state.plan.callee_route) == (("more",), ("line", "more"))
    desk.switch.down = {"more"}
    assert await desk.refused(caller_display=only.number) == (Refusal.NO_LINE, "line")
    call, _ = await desk.accept()
    assert call.caller_display == call.callee_display == "02131264133"  # what can be shown is shown
    desk.enter(lambda c: catalog.change_number(c, replace(only, enabled=False)))
    assert await desk.refused(caller_display=only.number) == (Refusal.DISPLAY_NUMBER, "display_numbers")


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ({"caller_number": "4001360123", "callee_number": "02131264133"}, ("4001360123", "02131264133")),
        ({"caller_number": "4001360123"}, ("4001360123", "4001360123")),
        ({"callee_number": "4001360123"}, ("4001360123", "4001360123")),
        ({}, None),
        ({"caller_number": "02199999999"}, None),  # not the app's any more
    ],
)
async def test_an_app_may_always_show_the_same_numbers(
    desk: Desk, own: dict[str, str], shown: tuple[str, str] | None
) -> None:
    desk.has(display=DisplayMode.FIXED, **own)
    desk.enter(lambda c: catalog.add_number(c, DisplayNumber("4001360123", apps=("shop",)), 1))
    if shown is None:
        assert await desk.refused() == (Refusal.DISPLAY_NUMBER, "display_numbers")
        return
    for _ in range(10):
        call, _ = await desk.accept()
        assert (call.caller_display, call.callee_display) == shown
    call, _ = await desk.accept(caller_display="02131264133")
    assert call.caller_display == "02131264133"


async def test_a_dry_run_says_what_would_be_and_writes_nothing(desk: Desk) -> None:
    desk.has(rate_plan="plan", prepaid=True)
    desk.pay(FULL)
    examined = await desk.admission.examine(REQUEST)
    assert examined.refused is None
    assert examined.call is not None
    assert examined.plan is not None
    assert (examined.plan.caller_route, examined.call.caller_display) == (("line",), "02131264133")
    assert examined.plan.budget == Budget(PRICE, PRICE, hold=FULL)
    examined = await desk.admission.examine(replace(REQUEST, caller_display="02199999999"))
    assert examined.refused is not None
    assert (examined.refused.refusal, examined.refused.rule) == (Refusal.DISPLAY_NUMBER, "display_numbers")
    assert desk.account == accounts.Account("shop", FULL, 0)
    assert desk.database.read_now(unfinished) == []


def test_the_order_of_trunks_is_the_same_for_the_same_call_and_honours_weight() -> None:
    trunks = [Trunk("a", "h", weight=6), Trunk("b", "h", weight=3), Trunk("c", "h", weight=1)]
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for n in range(20_000):
        order = in_order(trunks, frozenset(), f"call-{n}")
        assert order == in_order(trunks[::-1], frozenset(), f"call-{n}")
        first[order[0].name] += 1
        if order[0].name == "a":
            second[order[1].name] += 1
    assert [round(first[name] / 20_000, 1) for name in "abc"] == [0.6, 0.3, 0.1]
    assert round(second["b"] / first["a"], 2) == pytest.approx(0.75, abs=0.02)  # of what is left


def test_trunks_go_by_priority_then_cost_and_the_last_calls_go_last() -> None:
    trunks = [
        Trunk("backup", "h", priority=9),
        Trunk("dear", "h", cost=500),
        Trunk("cheap", "h", cost=400),
        Trunk("used", "h", priority=-5),
    ]
    names = [trunk.name for trunk in in_order(trunks, frozenset({"used"}), "x")]
    assert names == ["cheap", "dear", "backup", "used"]
