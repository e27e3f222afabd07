"""The requests beside callBack: cancelling a call, its status, call records, display numbers.

Pure: what their fields mean and how their answers are written (docs/wire.md).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from huibo.errors import Refusal, Refused
from huibo.flow.state import CallState
from huibo.model import CallRecord, CancelUnless, Leg
from huibo.numbers import parse_callee
from huibo.wire import fields as rules
from huibo.wire.body import Fields, text_of
from huibo.wire.pushes import cdr_times
from huibo.wire.tencent import COUNTRY, MAX_CALL_ID, encode, to_wire

PAGE = 1000  # rows of one getCdr answer

CANCEL_UNLESS = {
    "": CancelUnless.NEVER,
    "0": CancelUnless.NEVER,
    "1": CancelUnless.CALLER_RINGING,
    "2": CancelUnless.CALLER_ANSWERED,
    "3": CancelUnless.CALLEE_RINGING,
    "4": CancelUnless.CALLEE_ANSWERED,
}
_TOO_LATE = {
    CancelUnless.CALLER_RINGING: "not released: the caller rings",
    CancelUnless.CALLER_ANSWERED: "not released: the caller has answered",
    CancelUnless.CALLEE_RINGING: "not released: the callee rings",
    CancelUnless.CALLEE_ANSWERED: "not released: the callee has answered",
}


@dataclass(frozen=True, slots=True)
class Period:
    """What getCdr asks for: one call, or those that began from `start` to `end` (UNIX s, both included)."""

    call_id: str | None = None
    start: int = 0
    end: int = 0
    caller: str | None = None
    compressed: bool = False


def parse_call_id(fields: Fields) -> str:
    """The callId of a request that must have one."""
    rules.required(fields, "callId")
    return rules.counted(fields, "callId", MAX_CALL_ID)


def parse_cancel(fields: Fields) -> CancelUnless:
    flag = text_of(fields, "cancelFlag")
    if flag not in CANCEL_UNLESS:
        raise Refused(Refusal.PARAMETER, "cancelFlag: not from 0 to 4")
    return CANCEL_UNLESS[flag]


def parse_period(fields: Fields) -> Period:
    """Raises `Refused`: -202 for stamps that are missing or make no period, -2 for the rest."""
    compressed = rules.whole(fields, "compress", 0, 1) == 1
    call_id = rules.counted(fields, "callId", MAX_CALL_ID)
    if call_id:
        return Period(call_id=call_id, compressed=compressed)
    stamps = []
    for name in ("startTimeStamp", "endTimeStamp"):
        try:
            stamp = rules.whole(fields, name, 0, 10**11)
        except Refused as refused:
            raise Refused(Refusal.PERIOD, refused.message) from None
        if stamp is None:
            raise Refused(Refusal.PERIOD, f"{name}: required without callId")
        stamps.append(stamp)
    if stamps[0] > stamps[1]:
        raise Refused(Refusal.PERIOD, "startTimeStamp: later than endTimeStamp")
    return Period(None, stamps[0], stamps[1], _caller(fields), compressed)


def cancelled(call_id: str, unless: CancelUnless, released: bool) -> bytes:
    return encode({"errorCode": "0", "msg": "" if released else _TOO_LATE[unless], "callId": call_id})


def status(app_id: str, call_id: str, caller: str, callee: str, state: CallState) -> bytes:
    return encode(
        {
            "errorCode": "0",
            "appId": app_id,
            "callId": call_id,
            "src": to_wire(caller),
            "dst": to_wire(callee),
            "callStatus": call_status(state),
        }
    )


def call_status(state: CallState) -> str:
    """0 unknown (nothing rings yet), 1 caller rings, 2 caller answered, 3 callee rings, 4 talking, 5 over."""
    if state.over:
        return "5"
    if state.talking:
        return "4"
    if state.callee.record.ringing_at is not None:
        return "3"
    if state.leg(Leg.CALLER).answered:
        return "2"
    return "1" if state.caller.record.ringing_at is not None else "0"


def records(rows: Sequence[CallRecord], offset: int) -> bytes:
    """The answer to getCdr. `offset`: UNIX seconds from which to ask for the rest, 0 when this is all."""
    text = "Call Details"
    return encode(
        {
            "errorCode": "0",
            "result": text,
            "msg": text,  # clients of the sibling product read this name
            "offset": str(offset),
            "cdr": [_row(row) for row in rows],
        }
    )


def compressed(body: bytes) -> bytes:
    """A whole answer as an RFC 1950 stream."""
    return zlib.compress(body)


def display_numbers(app_id: str, numbers: Sequence[str]) -> bytes:
    code_list = [{"nation": COUNTRY, "phone": number} for number in numbers]
    return encode({"errorCode": "0", "appId": app_id, "codeList": code_list})


def refused(refused: Refused, _request_id: str) -> bytes:
    """How these requests are refused; getCdr has a name of its own for the text."""
    return encode({"errorCode": refused.refusal.code, "msg": refused.message})


def refused_records(refused: Refused, _request_id: str) -> bytes:
    code, text = refused.refusal.code, refused.message
    return encode({"errorCode": code, "result": text, "msg": text})


def _row(record: CallRecord) -> dict[str, str]:
    call = record.call
    return {
        "callId": call.call_id,
        "src": to_wire(call.caller),
        "dst": to_wire(call.callee),
        **cdr_times(record.cdr),
        "recordUrl": record.recording_url,
        "callType": "3",
        "bizId": call.biz_id,
        "orderId": call.order_id,
    }


def _caller(fields: Fields) -> str | None:
    """The caller to look for; "" and "0" mean everybody."""
    written = text_of(fields, "src")
    if written in ("", "0"):
        return None
    e164 = parse_callee(written.removeprefix(COUNTRY)) if written.startswith(COUNTRY) else None
    if e164 is None:
        raise Refused(Refusal.PARAMETER, "src: not 0086 and a number")
    return e164
