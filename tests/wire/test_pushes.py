"""Pushes: the bodies byte for byte, and that numbers leave as they came."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huibo.errors import Refused
from huibo.model import Call, CallResult, Cdr, Leg, LegRecord, Moment, Report
from huibo.wire.pushes import cdr_push, status_push
from huibo.wire.tencent import encode, parse_callback, to_wire

CALL = Call(
    call_id="12-190123-7f1020da3bf94e19b324a613ccf3e96d",
    app_id="1400000001",
    request_id="会话-1",
    caller="+8613800138000",
    callee="+8675586013388",
    caller_display="02131264133",
    callee_display="02131264133",
    caller_trunk="carrier",
    callee_trunk="carrier",
    max_talk_s=1800,
    accepted_at=1548235058_000,
)
HEADING = (
    '{"appId":"1400000001","callId":"12-190123-7f1020da3bf94e19b324a613ccf3e96d","requestId":"会话-1",'
    '"src":"008613800138000","dst":"0086075586013388",'
)
TALKED = Cdr(
    call_id=CALL.call_id,
    caller=LegRecord(
        invited_at=1548235059_001,
        ringing_at=1548235062_000,
        answered_at=1548235070_999,
        ended_at=1548235118_500,
    ),
    callee=LegRecord(
        invited_at=1548235071_000,
        ringing_at=1548235073_900,
        answered_at=1548235080_000,
        ended_at=1548235118_900,
    ),
    ended_at=1548235118_999,
    result=CallResult.TALKED,
    talk_s=39,
    billed_s=43,
)


def test_a_status_push_byte_for_byte() -> None:
    body = status_push(CALL, Report(Leg.CALLER, Moment.RINGING, at=1548235062_999))
    expected = HEADING + '"userFlag":"src","callStatus":"ringing","timeStamp":"1548235062","callType":"3"}'
    assert body == expected.encode()


def test_a_refusal_is_pushed_with_its_sip_code() -> None:
    body = status_push(CALL, Report(Leg.CALLEE, Moment.REFUSED, at=1548235062_000, sip_code=486))
    expected = HEADING + (
        '"userFlag":"dst","callStatus":"refused","errorCode":"486","timeStamp":"1548235062","callType":"3"}'
    )
    assert body == expected.encode()


@pytest.mark.parametrize(
    ("moment", "word", "with_code"),
    [
        (Moment.INVITED, "invite", False),
        (Moment.RINGING, "ringing", False),
        (Moment.ANSWERED, "answered", False),
        (Moment.REFUSED, "refused", True),
        (Moment.HUNG_UP, "disaccept", False),
        (Moment.FAILED, "failed", True),
    ],
)
def test_each_moment_has_its_word_and_only_refusals_and_faults_a_code(
    moment: Moment, word: str, with_code: bool
) -> None:
    pushed = json.loads(status_push(CALL, Report(Leg.CALLEE, moment, at=0, sip_code=503)))
    assert pushed["callStatus"] == word
    assert pushed.get("errorCode") == ("503" if with_code else None)
    assert "errorCode" not in json.loads(status_push(CALL, Report(Leg.CALLEE, moment, at=0)))


def test_a_cdr_push_byte_for_byte() -> None:
    expected = HEADING + (
        '"startSrcCallTime":"1548235059","startSrcRingTime":"1548235062","srcAcceptTime":"1548235070",'
        '"startDstCallTime":"1548235071","startDstRingTime":"1548235073","dstAcceptTime":"1548235080",'
        '"endCallTime":"1548235118","callEndStatus":"1","duration":"43","callType":"3"}'
    )
    assert cdr_push(CALL, TALKED) == expected.encode()


def test_what_did_not_happen_has_the_time_zero() -> None:
    cdr = Cdr(
        call_id=CALL.call_id,
        caller=LegRecord(invited_at=1548235059_000),
        callee=LegRecord(),
        ended_at=1548235062_000,
        result=CallResult.CALLER_UNREACHED,
        talk_s=0,
        billed_s=0,
    )
    pushed = json.loads(cdr_push(CALL, cdr))
    times = ["startSrcRingTime", "srcAcceptTime", "startDstCallTime", "startDstRingTime", "dstAcceptTime"]
    assert [pushed[name] for name in times] == ["0"] * 5
    assert (pushed["startSrcCallTime"], pushed["duration"], pushed["callEndStatus"]) == (
        "1548235059",
        "0",
        "4",
    )


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (CallResult.UNKNOWN, "0"),
        (CallResult.TALKED, "1"),
        (CallResult.CALLER_NO_ANSWER, "2"),
        (CallResult.CALLEE_NO_ANSWER, "3"),
        (CallResult.CALLER_UNREACHED, "4"),
        (CallResult.CALLEE_UNREACHED, "5"),
    ],
)
def test_each_result_has_its_status(result: CallResult, status: str) -> None:
    assert json.loads(cdr_push(CALL, replace(TALKED, result=result)))["callEndStatus"] == status


def test_biz_id_and_order_id_come_at_the_end_and_only_when_given() -> None:
    pushed = cdr_push(replace(CALL, biz_id="Biz42", order_id="订单"), TALKED)
    assert pushed.endswith('"callType":"3","bizId":"Biz42","orderId":"订单"}'.encode())
    assert b"orderId" not in cdr_push(replace(CALL, biz_id="Biz42"), TALKED)
    assert b"bizId" not in status_push(
        replace(CALL, biz_id="Biz42"), Report(Leg.CALLER, Moment.INVITED, at=0)
    )


@given(
    at=st.integers(0, 2**53),
    code=st.none() | st.integers(100, 699),
    request_id=st.text(st.characters(codec="utf-8"), max_size=48),
    leg=st.sampled_from(Leg),
    moment=st.sampled_from(Moment),
)
def test_a_push_is_one_flat_object_of_strings(
    at: int, code: int | None, request_id: str, leg: Leg, moment: Moment
) -> None:
    call = replace(CALL, request_id=request_id)
    for body in (status_push(call, Report(leg, moment, at, code)), cdr_push(call, TALKED)):
        pushed = json.loads(body)
        assert all(isinstance(value, str) for value in pushed.values())
        assert pushed["requestId"] == request_id


MOBILE = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
LANDLINE = st.from_regex(r"0(10|2[0-9]|[3-9][0-9]{2})[2-8][0-9]{6,7}", fullmatch=True)


@given(src=MOBILE, dst=MOBILE | LANDLINE)
def test_numbers_leave_as_they_came(src: str, dst: str) -> None:
    fields = {"appId": "1400000001", "src": f"0086{src}", "dst": f"0086{dst}"}
    try:
        request = parse_callback(fields, url_id="", remote_ip="", max_talk_min=1)
    except Refused:  # no such area or mobile prefix, or twice the same
        return
    assert to_wire(request.caller) == fields["src"]
    assert to_wire(request.callee) == fields["dst"]


@given(st.dictionaries(st.text(), st.text()))
def test_what_goes_out_is_written_as_it_has_always_been(message: dict[str, str]) -> None:
    """Receivers may compare bytes: compact, in the order of the fields, nothing escaped that need not be."""
    assert encode(message) == json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
