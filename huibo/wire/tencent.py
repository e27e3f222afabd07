"""The words of the 201511v3 callback API: what its requests mean, and how they are answered.

Owns field names, status bits and the form of answers (docs/wire.md). Pure: judges nothing that needs to
know who asks; identity (`app_id_of`) is read apart from details (`parse_callback`) so that it goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import orjson

from huibo.errors import Refusal, Refused
from huibo.model import CallRequest, Leg, Moment
from huibo.numbers import national, parse_callee, parse_caller
from huibo.wire import fields as rules
from huibo.wire.body import Fields, text_of
from huibo.wire.menu import parse_menu

VERSION = "201511v3"

COUNTRY = "0086"
MAX_APP_ID, MAX_REQUEST_ID, MAX_ORDER_ID, MAX_CALL_ID = 64, 48, 64, 64  # bytes

_CALLER_BIT = {
    Moment.INVITED: 1,
    Moment.RINGING: 2,
    Moment.ANSWERED: 4,
    Moment.REFUSED: 8,
    Moment.HUNG_UP: 16,
    Moment.FAILED: 32,
}
_LEG_FACTOR = {Leg.CALLER: 1, Leg.CALLEE: 256}
_ALL_BITS = sum(_CALLER_BIT.values()) * sum(_LEG_FACTOR.values())


def wants(mask: int, leg: Leg, moment: Moment) -> bool:
    """Whether a request with this statusFlag asked for a push of this moment."""
    return bool(mask & _CALLER_BIT[moment] * _LEG_FACTOR[leg])


def mask_of(moments: Iterable[tuple[Leg, Moment]]) -> int:
    """The statusFlag of a request that asks for pushes of these moments."""
    return sum(_CALLER_BIT[moment] * _LEG_FACTOR[leg] for leg, moment in set(moments))


def to_wire(e164: str) -> str:
    """A number as the request wrote it: 008613800138000, or 0086 0 area number for a landline."""
    return COUNTRY + national(e164)


def request_id_of(fields: Fields) -> str:
    """The requestId to give back, even with a refusal; "" when there is none or none that can be used."""
    try:
        return rules.counted(fields, "requestId", MAX_REQUEST_ID)
    except Refused:
        return ""


def app_id_of(fields: Fields) -> str:
    """Who says to ask; -2 when that is missing or no usable text."""
    rules.required(fields, "appId")
    return rules.counted(fields, "appId", MAX_APP_ID)


def parse_callback(fields: Fields, *, url_id: str, remote_ip: str, max_talk_min: int) -> CallRequest:
    """A well-formed `callBack` in our own words. Raises Refused for the first thing that is wrong."""
    request_id = rules.counted(fields, "requestId", MAX_REQUEST_ID)
    caller = _number(fields, "src", parse_caller, "a mobile number")
    callee = _number(fields, "dst", parse_callee, "a mobile or landline number")
    if caller == callee:
        raise Refused(Refusal.NUMBER, "src, dst: the same number")
    caller_display = rules.display_number(fields, "srcDisplayNum")
    callee_display = rules.display_number(fields, "dstDisplayNum")
    talk_min = rules.whole(fields, "maxAllowTime", 1, max_talk_min)
    mask = rules.whole(fields, "statusFlag") or 0
    status_url = rules.url(fields, "statusUrl")
    cdr_url = rules.url(fields, "hangupUrl")
    record_url = rules.url(fields, "recordUrl")
    return CallRequest(
        app_id=app_id_of(fields),
        url_id=url_id,
        remote_ip=remote_ip,
        caller=caller,
        callee=callee,
        request_id=request_id,
        caller_display=caller_display,
        callee_display=callee_display,
        max_talk_s=None if talk_min is None else talk_min * 60,
        status_mask=mask & _ALL_BITS,
        status_url=status_url,
        cdr_url=cdr_url,
        record_url=record_url,
        biz_id=rules.biz_id(fields, "bizId"),
        order_id=rules.counted(fields, "orderId", MAX_ORDER_ID),
        record=_flag(fields, "record"),
        menu=parse_menu(fields.get("preCallerHandle")),
        last_call_id=rules.counted(fields, "lastCallId", MAX_CALL_ID) or None,
        recognise_ringing=text_of(fields, "ringRecognition") == "1",
    )


def accepted(call_id: str, request_id: str, caller_display: str, callee_display: str) -> bytes:
    """The answer to an accepted `callBack`."""
    return encode(
        {
            "errorCode": "0",
            "callId": call_id,
            "requestId": request_id,
            "srcDisplayNum": caller_display,
            "dstDisplayNum": callee_display,
        }
    )


def refused(refused: Refused, request_id: str) -> bytes:
    """The answer to a request that was refused, whatever it asked for."""
    return encode({"errorCode": refused.refusal.code, "msg": refused.message, "requestId": request_id})


def encode(message: Mapping[str, object]) -> bytes:
    """A JSON object as it goes out: compact, UTF-8 unescaped, every value a string."""
    return orjson.dumps(message)


def _number(fields: Fields, name: str, parse: Callable[[str], str | None], what: str) -> str:
    written = rules.required(fields, name)
    e164 = parse(written[len(COUNTRY) :]) if written.startswith(COUNTRY) else None
    if e164 is None:
        raise Refused(Refusal.NUMBER, f"{name}: not {COUNTRY} and {what}")
    return e164


def _flag(fields: Fields, name: str) -> bool:
    """ "1" or "0"; not given is "0"."""
    return rules.whole(fields, name, 0, 1) == 1
