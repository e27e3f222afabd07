"""What a finished call amounts to: its result, its talk time and its billed time.

Pure. The rules are those of docs/wire.md, "CDR".
"""

from __future__ import annotations

from huibo.flow.state import CallState
from huibo.model import CallResult, Cdr, EndReason, LegRecord
from huibo.rating import affordable_s, cost

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
        charge=_charge(state) if _talked(caller, callee) else 0,
    )


def end_of(caller: LegRecord, callee: LegRecord) -> int | None:
    """When a call was over (UNIX ms), None if no leg has ended: when its last leg was gone.

    But a conversation of which one leg was lost unseen was over when that leg was last known of, however long
    the other was held in silence since.
    """
    ends = [record.ended_at for record in (caller, callee) if record.ended_at is not None]
    if not ends:
        return None
    unseen = EndReason.LOST in (caller.reason, callee.reason)
    return min(ends) if unseen and _talked(caller, callee) else max(ends)


def talk_limit_s(state: CallState) -> int:
    """How long the parties may talk: as agreed, or as far as what is held for the call pays for it."""
    plan, caller, callee = state.plan, state.caller.record, state.callee.record
    budget = plan.budget
    if budget is None or budget.hold is None or caller.answered_at is None or callee.answered_at is None:
        return plan.max_talk_s
    lead_ms = max(0, callee.answered_at - caller.answered_at)
    return affordable_s(budget, budget.hold, plan.max_talk_s, lead_ms)


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


def _charge(state: CallState) -> int:
    """What a conversation costs, up to its limit, never more than was held: a late end is ours to pay."""
    budget, caller, callee = state.plan.budget, state.caller.record, state.callee.record
    if budget is None:
        return 0
    assert caller.answered_at is not None
    assert callee.answered_at is not None
    ends = [record.ended_at for record in (caller, callee) if record.ended_at is not None]
    talk_ms = min(max(0, min(ends) - callee.answered_at), talk_limit_s(state) * 1000)
    lead_ms = max(0, callee.answered_at - caller.answered_at)
    price = cost(budget, lead_ms + talk_ms, talk_ms)
    return price if budget.hold is None else min(price, budget.hold)


def _billed_s(caller: LegRecord, callee: LegRecord, ended_at: int) -> int:
    """The mean of both legs' answered time in the whole seconds that the CDR shows, rounded up."""
    assert caller.answered_at is not None
    assert callee.answered_at is not None
    end = ended_at // 1000
    both = (end - caller.answered_at // 1000) + (end - callee.answered_at // 1000)
    return -(-max(0, both) // 2)
