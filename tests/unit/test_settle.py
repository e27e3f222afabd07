"""What a call amounts to: the result from what happened on its legs, and the seconds to be charged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.flow.settle import cdr_of, result_of
from huibo.flow.state import CallState, LegState, Plan
from huibo.model import CallResult, EndReason, LegRecord

PLAN = Plan(dispatch_deadline_s=30, caller_ring_s=60, callee_ring_s=60, max_talk_s=1800)
NEVER = LegRecord()
LATEST = 2_000_000_000_000


def leg(story: str, reason: EndReason | None = EndReason.HUNG_UP) -> LegRecord:
    """A leg by what happened to it: i(nvited), r(ang), a(nswered)."""
    return LegRecord(
        invited_at=1 if "i" in story else None,
        ringing_at=2 if "r" in story else None,
        answered_at=3 if "a" in story else None,
        ended_at=9,
        reason=reason,
    )


def over(caller: LegRecord, callee: LegRecord, ended_at: int) -> CallState:
    return CallState(0, PLAN, LegState(caller), LegState(callee), ended_at=ended_at)


def talk(caller_ms: int, callee_ms: int, ended_ms: int) -> tuple[int, int]:
    """Seconds talked and seconds billed."""
    cdr = cdr_of(
        "c", over(LegRecord(answered_at=caller_ms), LegRecord(answered_at=callee_ms), ended_at=ended_ms)
    )
    return cdr.talk_s, cdr.billed_s


@pytest.mark.parametrize(
    ("caller", "callee", "result"),
    [
        # both answered: talked, whatever ended it
        (leg("ira"), leg("ira"), CallResult.TALKED),
        (leg("a"), leg("a"), CallResult.TALKED),
        (leg("ira", EndReason.LOST), leg("ira", EndReason.LOST), CallResult.TALKED),
        (leg("ira", EndReason.MAX_DURATION), leg("ira", EndReason.MAX_DURATION), CallResult.TALKED),
        # the caller did not answer
        (leg("ir", EndReason.NO_ANSWER), NEVER, CallResult.CALLER_NO_ANSWER),
        (leg("ir", EndReason.DECLINED), NEVER, CallResult.CALLER_NO_ANSWER),
        (leg("i", EndReason.NO_ANSWER), NEVER, CallResult.CALLER_UNREACHED),
        (leg("i", EndReason.BUSY), NEVER, CallResult.CALLER_UNREACHED),
        (leg("", EndReason.TRUNK_DOWN), NEVER, CallResult.CALLER_UNREACHED),
        # the caller answered, the callee did not
        (leg("ira", EndReason.RELEASED), leg("ir", EndReason.NO_ANSWER), CallResult.CALLEE_NO_ANSWER),
        (leg("ira", EndReason.RELEASED), leg("ir", EndReason.DECLINED), CallResult.CALLEE_NO_ANSWER),
        (leg("ira", EndReason.RELEASED), leg("i", EndReason.UNAVAILABLE), CallResult.CALLEE_UNREACHED),
        (leg("ira", EndReason.RELEASED), leg("", EndReason.TRUNK_DOWN), CallResult.CALLEE_UNREACHED),
        # the caller did not wait: not the callee's doing, whether it rang or not
        (leg("ira"), leg("ir", EndReason.CANCELLED), CallResult.CALLEE_NO_ANSWER),
        (leg("ira"), leg("i", EndReason.CANCELLED), CallResult.CALLEE_NO_ANSWER),
        (leg("ira"), NEVER, CallResult.CALLEE_NO_ANSWER),
        (leg("ira", EndReason.MENU), NEVER, CallResult.CALLEE_NO_ANSWER),
        # nor when the customer cancelled the call
        (leg("ira", EndReason.WITHDRAWN), leg("i", EndReason.WITHDRAWN), CallResult.CALLEE_NO_ANSWER),
        (leg("ir", EndReason.WITHDRAWN), NEVER, CallResult.CALLER_NO_ANSWER),
        (leg("i", EndReason.WITHDRAWN), NEVER, CallResult.CALLER_UNREACHED),
        # the platform failed
        (leg("ir", EndReason.LOST), NEVER, CallResult.UNKNOWN),
        (leg("", EndReason.EXPIRED), NEVER, CallResult.UNKNOWN),
        (leg("", EndReason.PROMPT_FAILED), NEVER, CallResult.UNKNOWN),
        (leg("ira", EndReason.LOST), leg("ir", EndReason.LOST), CallResult.UNKNOWN),
        (leg("ira", EndReason.RELEASED), leg("ir", EndReason.LOST), CallResult.UNKNOWN),
        (leg("ira", EndReason.LOST), leg("ir", EndReason.CANCELLED), CallResult.UNKNOWN),
    ],
)
def test_the_result_of_a_call(caller: LegRecord, callee: LegRecord, result: CallResult) -> None:
    assert result_of(caller, callee) is result


@pytest.mark.parametrize(
    ("caller_ms", "callee_ms", "ended_ms", "talked", "billed"),
    [
        (70_000, 80_000, 118_000, 38, 43),  # the example of docs/wire.md
        (658_000, 673_000, 678_000, 5, 13),  # the mean of 20 and 5 is 12.5
        (10_000, 10_000, 10_000, 0, 0),
        (10_000, 10_000, 10_001, 1, 0),  # the CDR shows whole seconds, and bills what it shows
        (10_999, 10_999, 11_000, 1, 1),
        (10_000, 20_000, 20_000, 0, 5),
        (10_000, 11_000, 11_000, 0, 1),
        (10_000, 20_000, 5_000, 0, 0),  # an end by another clock
    ],
)
def test_seconds(caller_ms: int, callee_ms: int, ended_ms: int, talked: int, billed: int) -> None:
    assert talk(caller_ms, callee_ms, ended_ms) == (talked, billed)


times = st.integers(1_700_000_000_000, LATEST)


@given(st.tuples(times, times, times).map(sorted))
def test_billed_seconds_lie_between_those_of_the_two_legs(ordered: list[int]) -> None:
    caller, callee, ended = ordered
    talked, billed = talk(caller, callee, ended)
    of_callee, of_caller = (ended // 1000 - answered // 1000 for answered in (callee, caller))
    assert of_callee <= billed <= of_caller
    assert 2 * billed - 1 <= of_callee + of_caller <= 2 * billed
    assert (ended - callee) / 1000 <= talked < (ended - callee) / 1000 + 1


@given(
    caller=st.none() | times,
    callee=st.none() | times,
    reasons=st.tuples(st.sampled_from(EndReason), st.none() | st.sampled_from(EndReason)),
)
def test_nothing_is_billed_and_nobody_talked_unless_both_answered(
    caller: int | None, callee: int | None, reasons: tuple[EndReason, EndReason | None]
) -> None:
    records = (
        LegRecord(answered_at=caller, ended_at=LATEST, reason=reasons[0]),
        LegRecord(answered_at=callee, ended_at=LATEST, reason=reasons[1]),
    )
    cdr = cdr_of("c", over(*records, ended_at=LATEST))
    assert (cdr.call_id, cdr.caller, cdr.callee, cdr.ended_at) == ("c", *records, LATEST)
    if caller is None or callee is None:
        assert cdr.result is not CallResult.TALKED
        assert (cdr.talk_s, cdr.billed_s) == (0, 0)
    else:
        assert cdr.result is CallResult.TALKED
