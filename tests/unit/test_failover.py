"""A leg's way from trunk to trunk, and how far the money of a call reaches: stories told by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.engine.events import LegAnswered, LegEarlyMedia, LegEnded, LegInvited, LegRinging
from huibo.flow.machine import deadlines
from huibo.flow.state import (
    Cancel,
    DialCallee,
    DialCaller,
    DialFailed,
    GuardTalk,
    HangUp,
    LineBusy,
    LineFree,
    Seize,
    Start,
    StopRingback,
    Tick,
)
from huibo.model import CallResult, EndReason, Leg
from huibo.rating import Budget, Rate, affordable_lead_s, affordable_s, cost
from tests.unit.test_machine import ACCEPTED, PLAN, A, B, Story

TWO = replace(PLAN, caller_route=("one", "two"), callee_route=("one", "two"))
GUARD_A, GUARD_B = 60 + 16 + 60 + 1800 + 2, 60 + 1800 + 2
MINUTE = Rate("", per_minute=600)  # ten a second, billed by the minute
SECOND = Rate("", per_minute=600, first_s=1, next_s=1)


@pytest.mark.parametrize("sip", [408, 480, 500, 502, 503, 504])
@pytest.mark.parametrize("leg", [A, B])
def test_a_cause_that_proves_silence_leads_to_the_next_trunk(sip: int, leg: Leg) -> None:
    story = Story(TWO).start()
    if leg is B:
        story.answered(A)
    story.leg(LegInvited, leg)
    told = list(story.told)
    assert story.after(900).leg(LegEnded, leg, sip_code=sip) == [Seize(leg, "two")]
    again = story.after(40).take(LineFree(leg, "two", story.now))
    dialled = DialCaller("two", 60, GUARD_A, 1) if leg is A else DialCallee("two", 60, GUARD_B, attempt=1)
    assert again == [dialled]
    assert story.told == told  # nothing of it is the customer's business
    story.leg(LegInvited, leg)
    assert story.told == told  # one invite a leg
    (tried,) = story.state.leg(leg).tried
    assert (tried.trunk, tried.sip_code, tried.at) == ("one", sip, story.now - 40)
    story.after(200).leg(LegEnded, leg, sip_code=sip)  # and this was the last trunk
    assert story.told[-1].startswith(f"{leg} failed {sip}") or leg is B


@pytest.mark.parametrize("sip", [486, 487, 600, 603, 404, 484, 403, 410, 488, 604])
def test_every_other_cause_is_final(sip: int) -> None:
    story = Story(TWO).start()
    story.leg(LegInvited, A)
    story.leg(LegEnded, A, sip_code=sip)
    assert story.state.over
    assert not any(isinstance(command, Seize) for command in story.commands)


@pytest.mark.parametrize("sign", [LegRinging, LegEarlyMedia])
@pytest.mark.parametrize("sip", [408, 480, 503])
def test_a_phone_that_may_have_rung_is_left_alone(sign: type[LegRinging], sip: int) -> None:
    story = Story(TWO).start()
    story.leg(LegInvited, A)
    story.leg(sign, A)
    story.leg(LegEnded, A, sip_code=sip)
    assert story.state.over


def test_our_own_ring_timer_is_final() -> None:
    story = Story(TWO).start()
    story.leg(LegInvited, A)
    story.now = min(deadlines(story.state))
    assert story.take(Tick(story.now)) == [HangUp(A)]
    story.leg(LegEnded, A, sip_code=480)
    assert story.state.caller.record.reason is EndReason.NO_ANSWER
    assert story.state.over


def test_a_dial_that_did_certainly_not_happen_goes_to_the_next_trunk() -> None:
    story = Story(TWO).start()
    assert story.take(DialFailed(A, story.now)) == [Seize(A, "two")]
    story.take(LineBusy(A, "two", story.now))
    assert story.told == ["a failed"]
    assert story.cdr.result is CallResult.CALLER_UNREACHED


def test_what_a_carrier_said_is_told_when_no_other_takes_the_leg() -> None:
    story = Story(TWO).start()
    story.leg(LegInvited, A)
    story.leg(LegEnded, A, sip_code=503)
    story.take(LineBusy(A, "two", story.now))
    assert story.told == ["a invited", "a failed 503"]
    assert story.state.caller.record.reason is EndReason.CARRIER_FAULT


def test_the_caller_is_not_rung_by_another_trunk_long_after_the_click() -> None:
    story = Story(TWO).start()
    story.leg(LegInvited, A)
    story.after(30_000).leg(LegEnded, A, sip_code=408)
    assert story.told == ["a invited", "a failed 408"]


def test_waiting_for_a_trunk_ends_when_the_dispatch_deadline_comes() -> None:
    story = Story(TWO).start()
    story.after(5_000).leg(LegEnded, A, sip_code=503)
    (due,) = deadlines(story.state)
    assert due == ACCEPTED + 30_000
    story.take(Tick(due))
    assert story.state.caller.record.reason is EndReason.EXPIRED
    assert story.take(LineFree(A, "two", due + 1)) == []


def test_a_paced_trunk_is_waited_for_before_anything_is_dialled() -> None:
    story = Story(replace(PLAN, paced=("t",))).start()
    assert story.commands == [Seize(A, "t")]
    assert story.state.caller.dialled_at is None
    assert story.take(LineFree(A, "other", story.now)) == []
    assert story.take(LineFree(A, "t", story.now)) == [DialCaller("t", 60, 60 + 60 + 1800 + 2)]
    assert story.take(LineFree(A, "t", story.now)) == []


def test_a_cancel_while_a_trunk_is_waited_for_dials_nobody() -> None:
    story = Story(replace(PLAN, paced=("t",))).start()
    story.take(Cancel(story.now))
    assert story.state.caller.record.reason is EndReason.WITHDRAWN
    assert story.take(LineFree(A, "t", story.now)) == []


def test_the_caller_may_leave_while_the_callees_trunk_is_waited_for() -> None:
    story = Story(replace(PLAN, paced=("t",))).start()
    story.take(LineFree(A, "t", story.now))
    story.answered(A)
    assert story.commands[-1] == Seize(B, "t")
    story.leg(LegEnded, A)
    assert story.state.over
    assert story.take(LineFree(B, "t", story.now)) == []


def test_after_a_restart_a_trunk_is_waited_for_again() -> None:
    story = Story(replace(PLAN, paced=("t",))).start()
    story.take(LineFree(A, "t", story.now))
    story.answered(A)
    assert story.take(Start(story.now)) == [Seize(B, "t")]


def test_no_trunk_for_the_callee_releases_the_caller() -> None:
    story = Story(TWO).start().answered(A)
    story.leg(LegInvited, B)
    story.leg(LegEnded, B, sip_code=500)
    assert story.take(LineBusy(B, "two", story.now))[-2:] == [StopRingback(), HangUp(A)]
    story.leg(LegEnded, A)
    assert story.told[-2:] == ["b failed 500", "a hung_up"]
    assert story.cdr.result is CallResult.CALLEE_UNREACHED


def budgeted(hold: int | None, rate: Rate = MINUTE) -> Story:
    return Story(replace(PLAN, budget=Budget(rate, rate, hold))).start()


def test_a_call_is_cut_when_what_is_held_is_used_up() -> None:
    """Held: two minutes of both legs. The caller waits 20 s, which are paid for, too."""
    story = budgeted(4 * 600)
    story.leg(LegAnswered, A)
    story.after(20_000).leg(LegAnswered, B)
    assert story.commands[-2] == GuardTalk(100 + 2)
    (due,) = deadlines(story.state)
    assert due == story.now + 100_000  # the caller's second minute ends then
    story.take(Tick(due))
    story.now = due
    for leg in (B, A):
        story.after(700).leg(LegEnded, leg)
    assert {story.cdr.caller.reason, story.cdr.callee.reason} == {EndReason.NO_CREDIT}
    assert story.cdr.charge == 4 * 600


def test_with_enough_money_the_agreed_time_is_the_limit() -> None:
    story = budgeted(10**9)
    story.answered(A).answered(B)
    assert deadlines(story.state) == [story.now + 1_800_000]
    story.now += 1_800_900  # the end came late: nobody pays for that
    story.leg(LegEnded, B)
    story.leg(LegEnded, A)
    assert story.cdr.callee.reason is EndReason.MAX_DURATION
    assert story.cdr.charge == (31 + 30) * 600  # the caller's leg was up a second longer


def test_a_caller_who_cannot_pay_for_a_first_word_any_more_is_released() -> None:
    story = budgeted(2 * 600)  # a minute of each
    story.leg(LegAnswered, A)
    story.invited_ringing(B)
    due = min(deadlines(story.state))
    assert due == story.state.caller.record.answered_at + 59_000
    story.now = due
    assert story.take(Tick(due)) == [HangUp(B), HangUp(A)]
    story.leg(LegEnded, A)
    story.leg(LegEnded, B, sip_code=487)
    assert story.cdr.charge == 0
    assert story.cdr.caller.reason is EndReason.NO_CREDIT


def test_nothing_is_charged_without_a_conversation() -> None:
    story = budgeted(None)
    story.answered(A)
    story.after(600_000).leg(LegEnded, A)
    story.leg(LegEnded, B, sip_code=487)
    assert story.cdr.charge == 0


def test_a_postpaid_call_costs_both_legs_from_their_own_answers_rounded_up_once() -> None:
    rate = Rate("", per_minute=100, first_s=1, next_s=1)  # 1.67 a second
    story = Story(replace(PLAN, budget=Budget(rate, rate))).start()
    story.leg(LegAnswered, A)
    story.after(4_000).leg(LegAnswered, B)
    story.after(3_000).leg(LegEnded, B)
    story.leg(LegEnded, A)
    assert story.cdr.charge == 17  # (7 + 3) * 100 / 60 = 16.67, and not 12 + 5 + 1


money = st.integers(0, 10**7)
rates = st.builds(
    Rate,
    st.just(""),
    per_minute=st.integers(0, 10**5),
    first_s=st.integers(1, 120),
    next_s=st.integers(1, 120),
    setup=st.integers(0, 10**4),
)


@given(caller=rates, callee=rates, hold=money, most_s=st.integers(0, 4000), lead_ms=st.integers(0, 10**6))
def test_what_is_affordable_is_the_most_that_is_paid_for(
    caller: Rate, callee: Rate, hold: int, most_s: int, lead_ms: int
) -> None:
    budget = Budget(caller, callee, hold)
    talk_s = affordable_s(budget, hold, most_s, lead_ms)
    assert 0 <= talk_s <= most_s
    if talk_s:
        assert cost(budget, lead_ms + talk_s * 1000, talk_s * 1000) <= hold
    if talk_s < most_s:
        assert cost(budget, lead_ms + (talk_s + 1) * 1000, (talk_s + 1) * 1000) > hold
    lead_s = affordable_lead_s(budget, hold, 600)
    assert (affordable_s(budget, hold, 1, lead_s * 1000) > 0) or lead_s == 0
    if lead_s < 600:
        assert affordable_s(budget, hold, 1, (lead_s + 1) * 1000) == 0


@given(rate=rates, ms=st.integers(0, 10**8), more=st.integers(0, 10**6))
def test_the_price_never_falls_with_the_time(rate: Rate, ms: int, more: int) -> None:
    budget = Budget(rate, rate)
    assert cost(budget, ms, ms) <= cost(budget, ms + more, ms + more)


@pytest.mark.parametrize(
    ("ms", "price"),
    [(0, 6), (1, 6), (6_000, 6), (6_001, 9), (9_000, 9), (9_001, 12), (60_000, 60)],
)
def test_first_and_next_interval(ms: int, price: int) -> None:
    """A first interval of 6 s, then steps of 3 s, at one a second."""
    free = Rate("", per_minute=0)
    assert cost(Budget(Rate("", 60, first_s=6, next_s=3), free), ms, 0) == price


def test_the_setup_fee_is_each_legs_own() -> None:
    assert cost(Budget(Rate("", 60, setup=5), Rate("", 60, setup=7)), 1, 1) == 60 + 60 + 5 + 7


@pytest.mark.parametrize("sign", [LegRinging, LegEarlyMedia, LegAnswered])
@pytest.mark.parametrize("leg", [A, B])
def test_a_dial_that_failed_after_its_phone_rang_is_not_tried_elsewhere(
    sign: type[LegRinging], leg: Leg
) -> None:
    story = Story(TWO).start()
    if leg is B:
        story.answered(A)
    story.leg(sign, leg)
    assert story.take(DialFailed(leg, story.now)) == [HangUp(leg)]
    story.leg(LegEnded, leg)
    story.leg(LegEnded, leg.other)
    assert story.state.over
    assert not any(isinstance(command, Seize) for command in story.commands)
