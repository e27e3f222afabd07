"""What limits are measured against: counted in one statement as one would by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from random import Random

import pytest
from sqlalchemy import Connection

from huibo.flow.state import CallState, Plan
from huibo.model import AppSettings, Call, Usage
from huibo.storage.calls import add_call, save_step
from huibo.storage.database import Database
from huibo.storage.usage import calls_of, legs_on, live_calls, used

NOW = 1_763_817_738_000
HOUR_MS = 3600_000
PLAN = Plan(dispatch_deadline_s=1, caller_ring_s=1, callee_ring_s=1, max_talk_s=1)
APPS, CALLEES, TRUNKS = ("shop", "other"), ("+8613800138000", "+8613900139000"), ("one", "two")


@pytest.fixture
def stored(database: Database) -> list[tuple[Call, bool]]:
    """Calls of a day and a half, and whether each has ended."""
    chance = Random(1)
    moments = [NOW - chance.randrange(36 * HOUR_MS) for _ in range(117)]
    moments += [NOW - chance.randrange(2000) for _ in range(40)]
    moments += [NOW, NOW - HOUR_MS, NOW - 24 * HOUR_MS]  # "after" begins right behind these
    found = []
    for number, at in enumerate(moments):
        call = Call(
            call_id=f"12-251122-{number:032x}",
            app_id=chance.choice(APPS),
            request_id="",
            caller="+8613700137000",
            callee=chance.choice(CALLEES),
            caller_display="1",
            callee_display="2",
            caller_trunk=chance.choice(TRUNKS),
            callee_trunk=chance.choice(TRUNKS),
            max_talk_s=60,
            accepted_at=at,
        )
        found.append((call, chance.random() < 0.5))

    def unit(connection: Connection) -> None:
        for call, over in found:
            state = CallState(call.accepted_at, PLAN)
            add_call(connection, call, state)
            if over:
                save_step(connection, call, replace(state, ended_at=NOW), [], None, NOW)

    database.write_now(unit)
    return found


LIMITS = [
    AppSettings(calls_at_once=live, calls_per_second=nth, callee_per_hour=hour, callee_per_day=day)
    for live, nth, hour, day in product((None, 5), (None, 1, 7, 1000), (None, 2), (None, 3))
]


def by_hand(stored: list[tuple[Call, bool]], app_id: str, callee: str, limits: AppSettings) -> Usage:
    own = [(call, over) for call, over in stored if call.app_id == app_id]
    lately = [call.accepted_at for call, _ in own if NOW - call.accepted_at <= 1000]
    at, nth = sorted(lately, reverse=True), limits.calls_per_second
    to_callee = [NOW - call.accepted_at for call, _ in own if call.callee == callee]
    in_hour = sum(ago < HOUR_MS for ago in to_callee)
    in_day = sum(ago < 24 * HOUR_MS for ago in to_callee)
    return Usage(
        live=sum(not over for _, over in own) if limits.calls_at_once else 0,
        nth_last_at=at[nth - 1] if nth and nth <= len(at) else None,
        callee_hour=in_hour if limits.callee_per_hour or limits.callee_per_day else 0,
        callee_day=in_day if limits.callee_per_day else in_hour if limits.callee_per_hour else 0,
    )


def test_all_limits_are_counted_as_by_hand(database: Database, stored: list[tuple[Call, bool]]) -> None:
    for limits, app_id, callee in product(LIMITS, (*APPS, "nobody"), (*CALLEES, "+861")):
        found = database.read_now(
            lambda c, who=app_id, to=callee, own=limits: used(c, who, to, own, NOW)  # type: ignore[misc]
        )
        assert found == by_hand(stored, app_id, callee, limits)


def test_what_has_no_limit_is_not_asked_for(database: Database) -> None:
    with database.engine.connect() as connection:
        assert used(connection, "shop", CALLEES[0], AppSettings(), NOW) == Usage()
        assert not connection.in_transaction()  # which the first statement would have begun


def test_what_is_on_trunks_and_in_cells(database: Database, stored: list[tuple[Call, bool]]) -> None:
    live = [call for call, over in stored if not over]
    for trunk in (*TRUNKS, "none"):
        legs = sum((call.caller_trunk == trunk) + (call.callee_trunk == trunk) for call in live)
        assert database.read_now(lambda c, on=trunk: legs_on(c, on)) == legs  # type: ignore[misc]
    for app_id in (*APPS, "nobody"):
        own = sum(call.app_id == app_id for call in live)
        assert database.read_now(lambda c, of=app_id: live_calls(c, of)) == own  # type: ignore[misc]
    assert database.read_now(lambda c: (calls_of(c, "main"), calls_of(c, "none"))) == (len(live), 0)
