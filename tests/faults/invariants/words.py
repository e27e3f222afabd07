"""The words of the pushes as docs/wire.md has them, once more: what is checked must not supply them."""

from __future__ import annotations

from huibo.model import CallResult, Cdr, EndReason, Leg, LegRecord

FLAG = {Leg.CALLER: "src", Leg.CALLEE: "dst"}
ORDER = ("invite", "ringing", "answered", "refused", "disaccept", "failed")
ENDS = ("refused", "disaccept", "failed")
_BIT = {("src", word): 1 << index for index, word in enumerate(ORDER)} | {
    ("dst", word): 256 << index for index, word in enumerate(ORDER)
}
_END_STATUS = {
    CallResult.UNKNOWN: "0",
    CallResult.TALKED: "1",
    CallResult.CALLER_NO_ANSWER: "2",
    CallResult.CALLEE_NO_ANSWER: "3",
    CallResult.CALLER_UNREACHED: "4",
    CallResult.CALLEE_UNREACHED: "5",
}


def wanted(mask: int, flag: str, word: str) -> bool:
    return bool(mask & _BIT[flag, word])


def statuses(cdr: Cdr) -> dict[tuple[str, str], str]:
    """What must have been told of a call that is over, by leg and word, with its timeStamp."""
    found = {}
    for leg, record in ((Leg.CALLER, cdr.caller), (Leg.CALLEE, cdr.callee)):
        times = (record.invited_at, record.ringing_at, record.answered_at)
        for word, at in zip(ORDER, times, strict=False):
            if at is not None:
                found[FLAG[leg], word] = seconds(at)
        if record.ended_at is not None:
            found[FLAG[leg], _end(record)] = seconds(record.ended_at)
    return found


def cdr_fields(cdr: Cdr) -> dict[str, str]:
    caller, callee = cdr.caller, cdr.callee
    return {
        "callId": cdr.call_id,
        "startSrcCallTime": seconds(caller.invited_at),
        "startSrcRingTime": seconds(caller.ringing_at),
        "srcAcceptTime": seconds(caller.answered_at),
        "startDstCallTime": seconds(callee.invited_at),
        "startDstRingTime": seconds(callee.ringing_at),
        "dstAcceptTime": seconds(callee.answered_at),
        "endCallTime": seconds(cdr.ended_at),
        "callEndStatus": _END_STATUS[cdr.result],
        "duration": str(cdr.billed_s),
    }


def seconds(at: int | None) -> str:
    return "0" if at is None else str(at // 1000)


def _end(record: LegRecord) -> str:
    if record.answered_at is not None:
        return "disaccept"
    return "refused" if record.reason in (EndReason.BUSY, EndReason.DECLINED) else "failed"
