"""Calls in the database: whatever state a call can be in, it is taken up again as it was."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from huibo.engine.events import LegAnswered, LegEvent, LegInvited, LegRinging
from huibo.flow.machine import step
from huibo.flow.state import CallState, Event, Finish, Plan, Start
from huibo.model import Call, CallResult, Cdr, EndReason, Leg, LegRecord, Push
from huibo.rating import Budget, Rate
from huibo.storage.calls import (
    add_call,
    find_call,
    find_cdr,
    find_record,
    list_records,
    save_step,
    unfinished,
)
from huibo.storage.database import Database
from huibo.storage.tables import pushes

PLAN = Plan(dispatch_deadline_s=30, caller_ring_s=60, callee_ring_s=60, max_talk_s=1800)
ACCEPTED = 1_763_817_738_000
_numbers = iter(range(10**9))

thorough = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Every value of a type that the domain uses; new fields of its classes take part by themselves."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(any_of, arguments))
    if origin is tuple:
        if arguments[1:] == (...,):
            return st.lists(any_of(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(any_of, arguments))
    if is_dataclass(hint):
        return any_instance(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    plain = {
        int: st.integers(0, 2**31 - 1),
        float: st.floats(0, 600),
        str: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
        bool: st.booleans(),
        type(None): st.none(),
    }
    return plain[hint]


def any_instance(kind: Any, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{f.name: any_of(hints[f.name]) for f in fields(kind)} | given)


any_rate = any_instance(Rate, first_s=st.integers(1, 60), next_s=st.integers(1, 60))
any_plan = any_instance(
    Plan,
    budget=st.none() | any_instance(Budget, caller=any_rate, callee=any_rate),
    dispatch_deadline_s=st.integers(1, 60),
    caller_ring_s=st.integers(1, 60),
    callee_ring_s=st.integers(1, 60),
    max_talk_s=st.integers(60, 3600),
)
any_call = any_instance(Call, cell=st.just("main"))
LEG_EVENTS = LegEvent.__subclasses__()
any_event = st.one_of(
    *(any_instance(kind) for kind in LEG_EVENTS),
    *(any_instance(kind) for kind in get_args(Event) if kind is not LegEvent),
)
A, B = Leg.CALLER, Leg.CALLEE
beginnings = st.sampled_from(
    [
        (),
        (Start(0),),
        (Start(0), LegInvited("", A, 0), LegRinging("", A, 0), LegAnswered("", A, 0)),
        (Start(0), LegAnswered("", A, 0), LegInvited("", B, 0), LegAnswered("", B, 0)),
    ]
)


def fresh_id() -> str:
    return f"12-251122-{next(_numbers):032x}"


def call_of(call_id: str, **more: Any) -> Call:
    facts: dict[str, Any] = {
        "call_id": call_id,
        "app_id": "app",
        "request_id": "r",
        "caller": "+8613800138000",
        "callee": "+867558601388",
        "caller_display": "02131264133",
        "callee_display": "4001360123",
        "caller_trunk": "carrier",
        "callee_trunk": "carrier",
        "max_talk_s": 1800,
        "accepted_at": ACCEPTED,
    }
    return Call(**facts | more)


def record_of(call: Call, caller: LegRecord) -> Cdr:
    return Cdr(call.call_id, caller, LegRecord(), ACCEPTED + 1, CallResult.UNKNOWN, talk_s=0, billed_s=0)


def finish(connection: Connection, call: Call, state: CallState) -> None:
    """Out of the way of the next example."""
    save_step(connection, call, replace(state, ended_at=1), [], None, 0)


@thorough
@given(beginning=beginnings, events=st.lists(st.tuples(st.integers(0, 40_000), any_event)), plan=any_plan)
def test_every_state_that_a_call_can_reach_is_taken_up_as_it_was(
    database: Database, beginning: tuple[Event, ...], events: list[tuple[int, Event]], plan: Plan
) -> None:
    call, state, now = call_of(fresh_id()), CallState(ACCEPTED, plan), ACCEPTED

    def story(connection: Connection) -> None:
        nonlocal state, now
        add_call(connection, call, state)
        assert unfinished(connection) == [(call, state)]
        for after, event in [*((0, event) for event in beginning), *events]:
            now += after
            event = replace(event, at=now)
            if isinstance(event, LegEvent):
                event = replace(event, call_id=call.call_id)
            state, commands = step(call.call_id, state, event)
            cdr = next((command.cdr for command in commands if isinstance(command, Finish)), None)
            save_step(connection, call, state, [], cdr, now)
            if cdr is not None:
                assert find_cdr(connection, call.call_id) == cdr
            on = {
                "caller_trunk": state.trunk(Leg.CALLER) or call.caller_trunk,
                "callee_trunk": state.trunk(Leg.CALLEE) or call.callee_trunk,
            }
            assert unfinished(connection) == ([] if state.over else [(replace(call, **on), state)])
        if not state.over:
            finish(connection, call, state)

    database.write_now(story)


@thorough
@given(call=any_call, plan=any_plan)
def test_all_that_was_decided_of_a_call_is_kept(database: Database, call: Call, plan: Plan) -> None:
    call = replace(call, call_id=fresh_id())
    state = CallState(call.accepted_at, plan)
    database.write_now(lambda connection: add_call(connection, call, state))
    assert database.read_now(unfinished) == [(call, state)]
    database.write_now(lambda connection: finish(connection, call, state))


@thorough
@given(cdr=any_instance(Cdr))
def test_a_call_detail_record_comes_back_as_it_was(database: Database, cdr: Cdr) -> None:
    call, cdr = call_of(fresh_id()), replace(cdr, call_id="")
    state = CallState(ACCEPTED, PLAN, ended_at=cdr.ended_at)
    cdr = replace(cdr, call_id=call.call_id)

    def unit(connection: Connection) -> Cdr | None:
        add_call(connection, call, state)
        assert find_cdr(connection, call.call_id) is None
        save_step(connection, call, state, [], cdr, ACCEPTED)
        return find_cdr(connection, call.call_id)

    found = database.write_now(unit)
    assert found == cdr
    assert repr(found) == repr(cdr)  # a word of the domain is not the text of that word


async def test_unfinished_calls_come_oldest_first(database: Database) -> None:
    calls = {at: call_of(fresh_id(), accepted_at=at) for at in (3_000, 1_000, 2_000)}
    for at, call in calls.items():
        await database.write(lambda c, call=call, at=at: add_call(c, call, CallState(at, PLAN)))
    assert [call for call, _ in await database.read(unfinished)] == [
        calls[at] for at in (1_000, 2_000, 3_000)
    ]


async def test_a_step_is_stored_with_its_pushes_and_its_record_or_not_at_all(database: Database) -> None:
    call, state = call_of(fresh_id()), CallState(ACCEPTED, PLAN)
    told = Push(call.call_id, "app", "status", 1, "http://192.0.2.9/s", b"{}")
    await database.write(lambda c: add_call(c, call, state))
    await database.write(lambda c: save_step(c, call, replace(state, told=1), [told], None, ACCEPTED))
    over = replace(state, told=2, ended_at=ACCEPTED + 1)
    cdr = record_of(call, LegRecord(ended_at=ACCEPTED + 1, reason=EndReason.LOST))
    with pytest.raises(IntegrityError):  # the same push twice
        await database.write(lambda c: save_step(c, call, over, [told], cdr, ACCEPTED))
    assert await database.read(unfinished) == [(call, replace(state, told=1))]
    assert await database.read(lambda c: find_cdr(c, call.call_id)) is None
    last = replace(told, kind="cdr", seq=2)
    await database.write(lambda c: save_step(c, call, over, [last], cdr, ACCEPTED))
    assert await database.read(unfinished) == []
    assert await database.read(lambda c: find_cdr(c, call.call_id)) == cdr
    assert await database.read(lambda c: c.scalar(select(func.count()).select_from(pushes))) == 2


async def test_a_call_and_its_record_are_found_by_their_app_alone(database: Database) -> None:
    call, state = call_of(fresh_id()), CallState(ACCEPTED, PLAN)
    cdr = record_of(call, LegRecord(invited_at=ACCEPTED, reason=EndReason.BUSY))

    def unit(connection: Connection) -> None:
        add_call(connection, call, state)
        assert find_record(connection, "app", call.call_id) is None
        save_step(connection, call, replace(state, ended_at=ACCEPTED), [], cdr, ACCEPTED)

    await database.write(unit)
    found, found_cdr = await database.read(lambda c: find_record(c, "app", call.call_id)) or (None, None)
    assert found is not None
    assert (found, found_cdr) == (call, cdr)
    again, its_state = await database.read(lambda c: find_call(c, "app", call.call_id)) or (None, None)
    assert again == found
    assert its_state == replace(state, ended_at=ACCEPTED)
    assert await database.read(lambda c: find_call(c, "other", call.call_id)) is None
    assert await database.read(lambda c: find_record(c, "other", call.call_id)) is None


began = st.lists(st.tuples(st.integers(0, 4_999), st.sampled_from(["+8613800138000", "+8613900139000"])))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    began=began,
    limit=st.integers(1, 5),
    period=st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted),
    caller=st.sampled_from([None, "+8613800138000"]),
)
def test_paging_through_records_loses_none_and_repeats_none(
    database: Database, began: list[tuple[int, str]], limit: int, period: list[int], caller: str | None
) -> None:
    app_id = fresh_id()
    made = [(call_of(fresh_id(), app_id=app_id, caller=number), after) for after, number in began]

    def unit(connection: Connection) -> None:
        for call, after in made:
            state = CallState(ACCEPTED, PLAN, ended_at=ACCEPTED)
            add_call(connection, call, state)
            save_step(connection, call, state, [], record_of(call, LegRecord(invited_at=ACCEPTED + after)), 0)

    database.write_now(unit)
    first, last = (ACCEPTED // 1000 + second for second in period)
    wanted = sorted(
        (ACCEPTED + after, call.call_id)
        for call, after in made
        if first <= (ACCEPTED + after) // 1000 <= last and caller in (None, call.caller)
    )
    found: list[tuple[int, str]] = []
    go_on = first
    while go_on:
        page, next_s = database.read_now(lambda c, s=go_on: list_records(c, app_id, s, last, caller, limit))
        times = [(cdr.caller.invited_at or 0, call.call_id) for call, cdr in page]
        assert len(page) <= limit or len({at // 1000 for at, _ in times}) == 1
        assert page or not next_s
        found += times
        go_on = next_s
    assert found == wanted
