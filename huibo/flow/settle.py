"""What a finished call amounts to: its result, its talk time and its billed time.

Pure. The rules are those of docs/wire.md, "CDR".
"""

from __future__ import annotations

from huibo.flow.state import CallState
from huibo.model import CallResult, Cdr, EndReason, LegRecord

_PLATFORM_FAILED = {EndReason.LOST, EndReason.EXPIRED, EndReason.PROMPT_FAILED}


def cdr_of(call_id: str, state: CallState) -> Cdr:
    """The call detail record of a call that is over (`state.ended_at` is set)."""
    assert state.ended_at is not None
    caller, callee = state.caller.record, state.callee.record
    return Cdr(
        call_id=call_id,
        caller=caller,
        callee=callee,
        ended_at=state.ended_at,
        result=result_of(caller, callee),
        talk_s=_talk_s(callee, state.ended_at) if _talked(caller, callee) else 0,
        billed_s=_billed_s(caller, callee, state.ended_at) if _talked(caller, callee) else 0,
    )


def result_of(caller: LegRecord, callee: LegRecord) -> CallResult:
    """What became of the call, from what happened on its legs."""
    if _talked(caller, callee):
        return CallResult.TALKED
    if {caller.reason, callee.reason} & _PLATFORM_FAILED:
        return CallResult.UNKNOWN
    if caller.answered_at is None:
        return CallResult.CALLER_UNREACHED if caller.ringing_at is None else CallResult.CALLER_NO_ANSWER
    # not the callee's doing: the menu ended the call, the caller did not wait, the customer cancelled
    gave_up = callee.reason in (None, EndReason.CANCELLED, EndReason.WITHDRAWN)
    if callee.ringing_at is None and not gave_up:
        return CallResult.CALLEE_UNREACHED
    return CallResult.CALLEE_NO_ANSWER


def _talked(caller: LegRecord, callee: LegRecord) -> bool:
    return caller.answered_at is not None and callee.answered_at is not None


def _talk_s(callee: LegRecord, ended_at: int) -> int:
    assert callee.answered_at is not None
    return -(-max(0, ended_at - callee.answered_at) // 1000)


def _billed_s(caller: LegRecord, callee: LegRecord, ended_at: int) -> int:
    """The mean of both legs' answered time in the whole seconds that the CDR shows, rounded up."""
    assert caller.answered_at is not None
    assert callee.answered_at is not None
    end = ended_at // 1000
    both = (end - caller.answered_at // 1000) + (end - callee.answered_at // 1000)
    return -(-max(0, both) // 2)
