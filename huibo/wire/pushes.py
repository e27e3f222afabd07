"""The bodies of the pushes: call status, keys, call detail record and recording.

Owns their field names, order and words (docs/wire.md). Pure: what is pushed when, and how it is delivered,
is decided elsewhere.
"""

from __future__ import annotations

from huibo.model import Call, CallResult, Cdr, EndReason, Leg, Moment, Report
from huibo.wire.tencent import encode, to_wire

_PSTN_TO_PSTN = "3"

USER_FLAG = {Leg.CALLER: "src", Leg.CALLEE: "dst"}

CALL_STATUS = {
    Moment.INVITED: "invite",
    Moment.RINGING: "ringing",
    Moment.ANSWERED: "answered",
    Moment.REFUSED: "refused",
    Moment.HUNG_UP: "disaccept",  # the normal end, not a refusal
    Moment.FAILED: "failed",
}

END_STATUS = {
    CallResult.UNKNOWN: "0",
    CallResult.TALKED: "1",
    CallResult.CALLER_NO_ANSWER: "2",
    CallResult.CALLEE_NO_ANSWER: "3",
    CallResult.CALLER_UNREACHED: "4",
    CallResult.CALLEE_UNREACHED: "5",
}

UNRECOGNISED = "0"  # ringRecoResult: not known

# 1, 5, 6 and 10 can only be told from the carrier's announcement, which nobody listens to.
RING_RESULT = {
    EndReason.NOT_FOUND: "2",
    EndReason.BUSY: "3",
    EndReason.UNAVAILABLE: "4",
    EndReason.NO_RESPONSE: "4",
    EndReason.DECLINED: "7",
    EndReason.FORBIDDEN: "9",
}
CALLER_HUNG_UP = "8"


def status_push(call: Call, report: Report) -> bytes:
    """What goes to statusUrl at one moment of one leg."""
    body = _heading(call)
    body["userFlag"] = USER_FLAG[report.leg]
    body["callStatus"] = CALL_STATUS[report.moment]
    if report.moment in (Moment.REFUSED, Moment.FAILED) and report.sip_code is not None:
        body["errorCode"] = str(report.sip_code)
    body["timeStamp"] = _seconds(report.at)
    body["callType"] = _PSTN_TO_PSTN
    return encode(body)


def key_push(call: Call, key: str) -> bytes:
    """What goes to keyPressUrl for each key that was taken: always the caller's."""
    body = {"appId": call.app_id, "callId": call.call_id, "requestId": call.request_id}
    body |= {"phone": to_wire(call.caller), "key": key, "callType": _PSTN_TO_PSTN}
    return encode(body)


def cdr_push(call: Call, cdr: Cdr) -> bytes:
    """What goes to hangupUrl once a call is over."""
    body = _heading(call)
    body |= cdr_times(cdr)
    body["callType"] = _PSTN_TO_PSTN
    if call.biz_id:
        body["bizId"] = call.biz_id
    if call.order_id:
        body["orderId"] = call.order_id
    return encode(body)


def record_push(call: Call, url: str, ring: str | None) -> bytes:
    """What goes to recordUrl: where the recording is, "" for none; `ring` where the request asked for it."""
    body = _heading(call)
    body["recordUrl"] = url
    body["callType"] = _PSTN_TO_PSTN
    if ring is not None:
        body["ringRecoResult"] = ring
    return encode(body)


def ring_result(cdr: Cdr) -> str:
    """The ringRecoResult of an unanswered call, as far as its SIP result tells: why the phone that was called
    last was not answered. Which one that is, callEndStatus says."""
    if cdr.caller.answered_at is None:
        return RING_RESULT.get(cdr.caller.reason, UNRECOGNISED) if cdr.caller.reason else UNRECOGNISED
    if cdr.callee.reason in (None, EndReason.CANCELLED):
        return CALLER_HUNG_UP if cdr.caller.reason is EndReason.HUNG_UP else UNRECOGNISED
    return RING_RESULT.get(cdr.callee.reason, UNRECOGNISED)


def cdr_times(cdr: Cdr) -> dict[str, str]:
    """When what happened, how it ended and what is billed: the part that all forms of a CDR share."""
    caller, callee = cdr.caller, cdr.callee
    return {
        "startSrcCallTime": _seconds(caller.invited_at),
        "startSrcRingTime": _seconds(caller.ringing_at),
        "srcAcceptTime": _seconds(caller.answered_at),
        "startDstCallTime": _seconds(callee.invited_at),
        "startDstRingTime": _seconds(callee.ringing_at),
        "dstAcceptTime": _seconds(callee.answered_at),
        "endCallTime": _seconds(cdr.ended_at),
        "callEndStatus": END_STATUS[cdr.result],
        "duration": str(cdr.billed_s),
    }


def _heading(call: Call) -> dict[str, str]:
    return {
        "appId": call.app_id,
        "callId": call.call_id,
        "requestId": call.request_id,
        "src": to_wire(call.caller),
        "dst": to_wire(call.callee),
    }


def _seconds(at: int | None) -> str:
    """UNIX milliseconds as whole UNIX seconds, cut off; "0" for what did not happen."""
    return "0" if at is None else str(at // 1000)
