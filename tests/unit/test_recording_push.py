"""What the customer is told of a recording, and of why nobody answered."""

from __future__ import annotations

import pytest
from recording_studio import HOOK, call_named

from huibo.errors import ending_of
from huibo.flow.settle import result_of
from huibo.model import Cdr, EndReason, LegRecord, Push
from huibo.wire.notifier import WireNotifier
from huibo.wire.pushes import record_push, ring_result

NOTIFIER = WireNotifier()
URL = "https://call.example.com/recordings/abc.mp3"
HEADING = (
    '{"appId":"1400000001","callId":"c1","requestId":"r-1","src":"008613800138000","dst":"0086075586013388",'
)


def leg(reason: EndReason | None = None, answered: bool = False, rang: bool = False) -> LegRecord:
    return LegRecord(
        invited_at=1000,
        ringing_at=2000 if rang or answered else None,
        answered_at=3000 if answered else None,
        ended_at=4000,
        reason=reason,
    )


def cdr_of(caller: LegRecord, callee: LegRecord) -> Cdr:
    return Cdr("c1", caller, callee, 4000, result_of(caller, callee), 0, 0)


ANSWERED = leg(EndReason.RELEASED, answered=True)
BUSY = cdr_of(ANSWERED, leg(EndReason.BUSY))
TALKED = cdr_of(leg(EndReason.HUNG_UP, answered=True), leg(EndReason.RELEASED, answered=True))


def test_a_recording_push_byte_for_byte() -> None:
    body = HEADING + f'"recordUrl":"{URL}","callType":"3"}}'
    assert record_push(call_named("c1"), URL, None) == body.encode()
    assert NOTIFIER.on_recording(call_named("c1"), 15, URL) == [
        Push("c1", "1400000001", "recording", 15, HOOK, body.encode())
    ]


def test_nobody_is_told_who_named_no_url() -> None:
    call = call_named("c1", record_url=None, cdr_url=None, recognise_ringing=True)
    assert NOTIFIER.on_recording(call, 15, URL) == []
    assert NOTIFIER.on_cdr(call, 15, BUSY) == []


def test_with_ring_recognition_an_answered_call_has_nothing_recognised() -> None:
    (push,) = NOTIFIER.on_recording(call_named("c1", recognise_ringing=True), 15, URL)
    assert push.body == (HEADING + f'"recordUrl":"{URL}","callType":"3","ringRecoResult":"0"}}').encode()


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("cdr_url", ["https://hook.example/cdr", None])
def test_with_ring_recognition_the_result_of_an_unanswered_call_follows_its_cdr(
    record: bool, cdr_url: str | None
) -> None:
    call = call_named("c1", record=record, cdr_url=cdr_url, recognise_ringing=True)
    pushes = NOTIFIER.on_cdr(call, 15, BUSY)
    assert [(push.kind, push.seq) for push in pushes][-1] == ("recording", 16)
    assert [push.kind for push in pushes[:-1]] == (["cdr"] if cdr_url else [])
    assert pushes[-1].url == HOOK
    assert pushes[-1].body == (HEADING + '"recordUrl":"","callType":"3","ringRecoResult":"3"}').encode()


def test_without_ring_recognition_or_with_a_conversation_the_cdr_stands_alone() -> None:
    plain = call_named("c1", cdr_url="https://hook.example/cdr")
    assert [push.kind for push in NOTIFIER.on_cdr(plain, 15, BUSY)] == ["cdr"]
    asked = call_named("c1", cdr_url="https://hook.example/cdr", recognise_ringing=True)
    assert [push.kind for push in NOTIFIER.on_cdr(asked, 15, TALKED)] == ["cdr"]


@pytest.mark.parametrize("phone", ["caller", "callee"])
@pytest.mark.parametrize("rang", [False, True])
@pytest.mark.parametrize(
    ("sip_code", "expected"),
    [
        *((code, "2") for code in (404, 410, 484, 604)),
        *((code, "3") for code in (486, 600)),
        *((code, "4") for code in (408, 480)),
        *((code, "7") for code in (603, 607, 608)),
        (403, "9"),
        *((code, "0") for code in (None, 400, 487, 488, 500, 502, 503, 504)),
    ],
)
def test_what_the_network_said(sip_code: int | None, expected: str, rang: bool, phone: str) -> None:
    reason = ending_of(sip_code, rang)
    ended = leg(reason, rang=rang)
    caller, callee = (ended, LegRecord()) if phone == "caller" else (ANSWERED, ended)
    assert ring_result(cdr_of(caller, callee)) == ("0" if rang and expected == "4" else expected)


@pytest.mark.parametrize(
    "callee", [LegRecord(), leg(EndReason.CANCELLED, rang=True), leg(EndReason.CANCELLED)]
)
def test_a_caller_who_did_not_wait(callee: LegRecord) -> None:
    assert ring_result(cdr_of(leg(EndReason.HUNG_UP, answered=True), callee)) == "8"


@pytest.mark.parametrize("why", [EndReason.WITHDRAWN, EndReason.NO_AUDIO, EndReason.LOST, EndReason.MENU])
def test_a_call_that_was_ended_otherwise_tells_nothing(why: EndReason) -> None:
    for callee in (LegRecord(), leg(EndReason.CANCELLED, rang=True), leg(why)):
        assert ring_result(cdr_of(leg(why, answered=True), callee)) == "0"


def test_a_phone_that_just_rings_tells_nothing() -> None:
    assert ring_result(cdr_of(ANSWERED, leg(EndReason.NO_ANSWER, rang=True))) == "0"
    assert ring_result(cdr_of(leg(EndReason.NO_ANSWER, rang=True), LegRecord())) == "0"
