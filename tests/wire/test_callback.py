"""callBack: every rule of its fields, its answers byte for byte, and the status bits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from huibo.errors import Refusal, Refused
from huibo.model import CallRequest, Choice, Leg, Menu, Moment
from huibo.wire import tencent
from huibo.wire.body import decode

ASKED = {"appId": "1400000001", "src": "008613800138000", "dst": "0086075586013388"}


def parse(**changed: Any) -> CallRequest:
    fields = decode(json.dumps(ASKED | changed).encode())
    return tencent.parse_callback(fields, url_id="test", remote_ip="192.0.2.7", max_talk_min=1440)


def refusal(**changed: Any) -> tuple[Refusal, str]:
    with pytest.raises(Refused) as refused:
        parse(**changed)
    return refused.value.refusal, refused.value.message


def test_the_least_request() -> None:
    assert parse() == CallRequest(
        app_id="1400000001",
        url_id="test",
        remote_ip="192.0.2.7",
        caller="+8613800138000",
        callee="+8675586013388",
    )


def test_the_fullest_request() -> None:
    assert parse(
        requestId="会话-1",
        srcDisplayNum="02131264133",
        dstDisplayNum="4001360123",
        record="1",
        maxAllowTime="45",
        statusFlag="16191",
        statusUrl="https://example.com/status?a=b",
        hangupUrl="http://192.0.2.1:8080/cdr",
        recordUrl="http://example.com/rec",
        bizId="Biz42",
        orderId="订单 42",
        lastCallId="12-190123-7f1020da3bf94e19b324a613ccf3e96d",
        ringRecognition="1",
        preCallerHandle={},
    ) == CallRequest(
        app_id="1400000001",
        url_id="test",
        remote_ip="192.0.2.7",
        caller="+8613800138000",
        callee="+8675586013388",
        request_id="会话-1",
        caller_display="02131264133",
        callee_display="4001360123",
        max_talk_s=2700,
        status_mask=16191,
        status_url="https://example.com/status?a=b",
        cdr_url="http://192.0.2.1:8080/cdr",
        record_url="http://example.com/rec",
        biz_id="Biz42",
        order_id="订单 42",
        record=True,
        last_call_id="12-190123-7f1020da3bf94e19b324a613ccf3e96d",
        recognise_ringing=True,
    )


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_or_null_optional_field_is_not_given(nothing: str | None) -> None:
    optional = (
        "requestId srcDisplayNum dstDisplayNum record maxAllowTime statusFlag statusUrl hangupUrl recordUrl "
        "bizId orderId lastCallId ringRecognition preCallerHandle"
    )
    assert parse(**dict.fromkeys(optional.split(), nothing)) == parse()


def test_integers_are_texts() -> None:
    asked = parse(appId=1400000001, requestId=7, record=0, maxAllowTime=30, statusFlag=10280, bizId=5)
    assert (asked.app_id, asked.request_id, asked.biz_id) == ("1400000001", "7", "5")
    assert (asked.max_talk_s, asked.status_mask) == (1800, 10280)


def test_unknown_fields_are_ignored() -> None:
    assert parse(future={"a": 0.5}, callType=[1]) == parse()


@pytest.mark.parametrize("name", ["src", "dst"])
@pytest.mark.parametrize("nothing", ["", None])
def test_both_numbers_are_required(name: str, nothing: str | None) -> None:
    assert refusal(**{name: nothing}) == (Refusal.PARAMETER, f"{name}: required")


@pytest.mark.parametrize("value", [True, 1.5, [], {}])
@pytest.mark.parametrize(
    "name",
    [
        *(
            "requestId",
            "src",
            "dst",
            "srcDisplayNum",
            "dstDisplayNum",
            "record",
            "maxAllowTime",
            "statusFlag",
        ),
        *("statusUrl", "hangupUrl", "recordUrl", "bizId", "orderId", "lastCallId", "ringRecognition"),
    ],
)
def test_a_field_that_is_no_text_is_named(name: str, value: object) -> None:
    assert refusal(**{name: value}) == (Refusal.PARAMETER, f"{name}: must be a string")


N, P, D, U, B = Refusal.NUMBER, Refusal.PARAMETER, Refusal.DISPLAY_NUMBER, Refusal.URL, Refusal.BIZ_ID
SRC, DST = "src: not 0086 and a mobile number", "dst: not 0086 and a mobile or landline number"
LONG_48, LONG_64 = "longer than 48 bytes", "longer than 64 bytes"
NOT_DIGITS, NOT_BIZ = "not 3 to 20 digits", "not up to 64 letters and digits"
NOT_WHOLE, NOT_MINUTES = "not a whole number", "not from 1 to 1440"


@pytest.mark.parametrize(
    ("name", "value", "refused", "message"),
    [
        ("src", "13800138000", N, SRC),
        ("src", "+8613800138000", N, SRC),
        ("src", "8613800138000", N, SRC),
        ("src", "0086", N, SRC),
        ("src", "00861380013800", N, SRC),
        ("src", "0086013800138000", N, SRC),
        ("src", "0086075586013388", N, SRC),
        ("src", "008513800138000", N, SRC),
        ("src", "0086 13800138000", N, SRC),
        ("src", "008613800138000 ", N, SRC),
        ("src", "００８６13800138000", N, SRC),
        ("src", "008613800138000\n", P, "src: control characters"),
        ("dst", "008675586013388", N, DST),
        ("dst", "008686013388", N, DST),
        ("dst", "0086110", N, DST),
        ("dst", "00864001360123", N, DST),
        ("dst", "008613800138000", N, "src, dst: the same number"),
        ("requestId", "x" * 49, P, f"requestId: {LONG_48}"),
        ("requestId", "号" * 17, P, f"requestId: {LONG_48}"),
        ("requestId", "a\tb", P, "requestId: control characters"),
        ("srcDisplayNum", "02", D, f"srcDisplayNum: {NOT_DIGITS}"),
        ("srcDisplayNum", "021-31264133", D, f"srcDisplayNum: {NOT_DIGITS}"),
        ("srcDisplayNum", "+862131264133", D, f"srcDisplayNum: {NOT_DIGITS}"),
        ("dstDisplayNum", "1" * 21, D, f"dstDisplayNum: {NOT_DIGITS}"),
        ("dstDisplayNum", "０２１３１２６４１３３", D, f"dstDisplayNum: {NOT_DIGITS}"),
        ("record", "2", P, "record: not from 0 to 1"),
        ("record", "yes", P, f"record: {NOT_WHOLE}"),
        ("maxAllowTime", "0", P, f"maxAllowTime: {NOT_MINUTES}"),
        ("maxAllowTime", "1441", P, f"maxAllowTime: {NOT_MINUTES}"),
        ("maxAllowTime", "-5", P, f"maxAllowTime: {NOT_WHOLE}"),
        ("maxAllowTime", "1.5", P, f"maxAllowTime: {NOT_WHOLE}"),
        ("maxAllowTime", "3O", P, f"maxAllowTime: {NOT_WHOLE}"),
        ("maxAllowTime", " 30", P, f"maxAllowTime: {NOT_WHOLE}"),
        ("maxAllowTime", "٣٠", P, f"maxAllowTime: {NOT_WHOLE}"),
        ("statusFlag", "-1", P, f"statusFlag: {NOT_WHOLE}"),
        ("statusFlag", "0x3f", P, f"statusFlag: {NOT_WHOLE}"),
        ("statusFlag", "9" * 5000, P, f"statusFlag: {NOT_WHOLE}"),
        ("bizId", "a-b", B, f"bizId: {NOT_BIZ}"),
        ("bizId", "业务", B, f"bizId: {NOT_BIZ}"),
        ("bizId", "a" * 65, B, f"bizId: {NOT_BIZ}"),
        ("orderId", "x" * 65, P, f"orderId: {LONG_64}"),
        ("orderId", "单" * 22, P, f"orderId: {LONG_64}"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_code(
    name: str, value: str, refused: Refusal, message: str
) -> None:
    assert refusal(**{name: value}) == (refused, message)


@pytest.mark.parametrize(
    "accepted",
    [
        {"requestId": "x" * 48},
        {"requestId": "号" * 16},
        {"srcDisplayNum": "110", "dstDisplayNum": "1" * 20},
        {"maxAllowTime": "1"},
        {"maxAllowTime": "1440"},
        {"maxAllowTime": "030"},
        {"bizId": "a" * 64},
        {"orderId": "x" * 64},
        {"dst": "008601088880000"},
        {"dst": "008619912345678"},
    ],
)
def test_the_limits_themselves_are_accepted(accepted: dict[str, str]) -> None:
    parse(**accepted)


def test_unknown_status_bits_are_dropped() -> None:
    assert parse(statusFlag="999999999999999999").status_mask == 999999999999999999 & 16191
    assert parse(statusFlag="64").status_mask == 0


URLS = [
    "http://a",
    "HTTPS://Example.COM/path?x=%20&y=/#part",
    "http://192.0.2.1:8080/",
    "http://[2001:db8::1]:8080/s",
    "http://my_host.internal./",
    "http://例子.中国/推送?名=值",
    "http://example.com:/",
    "http://example.com:65535",
    "http://example.com/" + "a" * (2048 - 19),
]
NO_URLS = [
    "example.com/status",
    "//example.com/status",
    "/status",
    "ftp://example.com/",
    "javascript:alert(1)",
    "http:",
    "http://",
    "http:///status",
    "http:example.com",
    "http://:8080/",
    "http://user@example.com/",
    "http://user:secret@example.com/",
    "http://@example.com/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:999999/",
    "http://example.com:http/",
    "http://example.com:8080:80/",
    "http://example.com:٨٠/",
    "http://exa mple.com/",
    "http://example.com/a b",
    "http://example.com/a\u3000b",
    " http://example.com/",
    "http://example.com\\@evil.example/",
    "http://example..com/",
    "http://.example.com/",
    f"http://{'a' * 64}.com/",
    "http://" + "a." * 130 + "com/",
    "http://example.com/a\\b",
    "http://exa%6dple.com/",
    "http://example,com/",
    "http://xn--/",
    "http://[::1/",
    "http://[::1]x/",
    "http://[::1%25eth0]/",
    "http://[v1.x]/",
    "http://[127.0.0.1]/",
    "http://℀.com/",
]
URL_FIELDS = ["statusUrl", "hangupUrl", "recordUrl"]


@pytest.mark.parametrize("name", URL_FIELDS)
@pytest.mark.parametrize("url", URLS)
def test_an_absolute_web_address_is_a_url(name: str, url: str) -> None:
    parse(**{name: url})


@pytest.mark.parametrize("name", URL_FIELDS)
@pytest.mark.parametrize("url", NO_URLS)
def test_anything_else_is_no_url(name: str, url: str) -> None:
    assert refusal(**{name: url}) == (Refusal.URL, f"{name}: not an absolute http or https url")


def test_a_url_has_an_end() -> None:
    url = "http://example.com/" + "a" * (2049 - 19)
    assert refusal(statusUrl=url) == (Refusal.URL, "statusUrl: longer than 2048 characters")
    assert refusal(statusUrl="http://a/\x7f") == (Refusal.PARAMETER, "statusUrl: control characters")


@given(
    st.text("ab.:/@[]?#%\\_-19中．", max_size=30), st.sampled_from(["http://", "https://a", "http://[::1]"])
)
def test_the_client_that_pushes_reads_the_same_host_in_every_url_that_is_taken(rest: str, start: str) -> None:
    try:
        taken = parse(statusUrl=start + rest).status_url
    except Refused:
        return
    assert taken == start + rest
    read = URL(taken)
    assert read.host
    assert read.user is None
    assert read.explicit_port is None or 0 < read.explicit_port < 65536
    authority = taken.split("//", 1)[1].split("/")[0].split("?")[0].split("#")[0]
    if authority.isascii():
        assert authority.removeprefix("[").startswith(read.host)


IVR = {
    "readPrompt": "",
    "interruptPrompt": "",
    "keyList": [{"key": "", "operate": ""}],
    "repeatTimes": "",
    "keyPressUrl": "",
    "promptGender": "",
}


@pytest.mark.parametrize(
    "blank",
    [
        {},
        [],
        IVR,
        {"keyList": []},
        {"keyList": None},
        {"keyList": {}},
        {"keyList": {"key": "", "operate": None}},
    ],
)
def test_a_pre_caller_handle_that_says_nothing_is_absent(blank: object) -> None:
    assert parse(preCallerHandle=blank) == parse()


SAID = IVR | {
    "readPrompt": "您好",
    "interruptPrompt": "接听请按一",
    "keyList": [{"key": "1", "operate": "1"}, {"key": "#", "operate": 2}, {"key": "b", "operate": "3"}],
    "repeatTimes": "2",
    "keyPressUrl": "http://example.com/key",
    "promptGender": "2",
}


def test_a_full_menu() -> None:
    assert parse(preCallerHandle=SAID).menu == Menu(
        notice="您好",
        prompt="接听请按一",
        choices=(("1", Choice.CONNECT), ("#", Choice.REPLAY), ("B", Choice.RELEASE)),
        repeats=2,
        male=True,
        key_url="http://example.com/key",
    )


def test_what_a_menu_may_leave_out() -> None:
    for missing in ("readPrompt", "interruptPrompt", "repeatTimes", "keyPressUrl", "promptGender"):
        menu = parse(preCallerHandle=SAID | {missing: ""}).menu
        assert menu is not None
    assert parse(preCallerHandle=SAID | {"keyList": {"key": 1, "operate": 1}}).menu == replace(
        parse(preCallerHandle=SAID).menu, choices=(("1", Choice.CONNECT),)
    )
    assert parse(preCallerHandle=IVR | {"promptGender": 1, "repeatTimes": "2"}) == parse()
    spaced = parse(preCallerHandle=SAID | {"readPrompt": " 您好，\r\n\t欢迎 "}).menu
    assert spaced is not None
    assert spaced.notice == "您好， 欢迎"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"keyList": []}, "keyList: required with a prompt"),
        ({"keyList": ""}, "keyList: required with a prompt"),
        ({"readPrompt": "", "interruptPrompt": ""}, "interruptPrompt: required, or readPrompt"),
        ({"keyList": "1"}, "keyList: must hold objects"),
        ({"keyList": [["1", "1"]]}, "keyList: must hold objects"),
        ({"keyList": [{"key": "1"}]}, "keyList.operate: required"),
        ({"keyList": [{"operate": "1"}]}, "keyList.key: required"),
        ({"keyList": [{"key": "12", "operate": "1"}]}, "keyList.key: not one of 0-9 * # A-D"),
        ({"keyList": [{"key": "E", "operate": "1"}]}, "keyList.key: not one of 0-9 * # A-D"),
        ({"keyList": [{"key": "1", "operate": "4"}]}, "keyList.operate: not 1, 2 or 3"),
        ({"keyList": [{"key": "1", "operate": True}]}, "keyList.operate: must be a string"),
        (
            {"keyList": [{"key": "a", "operate": "1"}, {"key": "A", "operate": "2"}]},
            "keyList.key: A given twice",
        ),
        ({"repeatTimes": "many"}, "repeatTimes: not a whole number"),
        ({"repeatTimes": "100"}, "repeatTimes: not from 0 to 99"),
        ({"promptGender": "3"}, "promptGender: not from 1 to 2"),
        ({"keyPressUrl": "ftp://x"}, "keyPressUrl: not an absolute http or https url"),
        ({"readPrompt": "长" * 501}, "readPrompt: longer than 500 characters"),
        ({"interruptPrompt": ["x"]}, "interruptPrompt: must be a string"),
        ({"interruptPrompt": "a\0b"}, "interruptPrompt: control characters"),
    ],
)
def test_half_a_menu_is_refused_and_its_member_named(changed: dict[str, Any], why: str) -> None:
    assert refusal(preCallerHandle=SAID | changed) == (Refusal.PARAMETER, f"preCallerHandle.{why}")


@pytest.mark.parametrize("odd", ["{}", True, 1, ["x"]])
def test_a_pre_caller_handle_must_be_an_object(odd: object) -> None:
    assert refusal(preCallerHandle=odd) == (Refusal.PARAMETER, "preCallerHandle: must be an object")


def test_the_app_id_is_required_and_counted_in_bytes() -> None:
    assert tencent.app_id_of({"appId": "x" * 64}) == "x" * 64
    for app_id, message in (
        ("", "appId: required"),
        (None, "appId: required"),
        (object(), "appId: must be a string"),
        ("x" * 65, f"appId: {LONG_64}"),
        ("号" * 22, f"appId: {LONG_64}"),
    ):
        with pytest.raises(Refused) as refused:
            tencent.app_id_of({"appId": app_id})
        assert (refused.value.refusal, refused.value.message) == (Refusal.PARAMETER, message)


def test_a_request_id_that_cannot_be_used_is_not_given_back() -> None:
    assert tencent.request_id_of({"requestId": "号" * 16}) == "号" * 16
    for unusable in (None, "", "x" * 49, "号" * 17, "a\nb", True, [], {}):
        assert tencent.request_id_of({"requestId": unusable}) == ""
    assert tencent.request_id_of({}) == ""


def test_the_documented_success_answer_byte_for_byte() -> None:
    answer = tencent.accepted("123456789", "xxxxxxxxx", "4001360123", "4001236789")
    assert answer == (
        b'{"errorCode":"0","callId":"123456789","requestId":"xxxxxxxxx",'
        b'"srcDisplayNum":"4001360123","dstDisplayNum":"4001236789"}'
    )


def test_the_documented_failure_answer_byte_for_byte() -> None:
    answer = tencent.refused(Refused(Refusal.VERSION), "xxxxxxxxx")
    assert answer == b'{"errorCode":"-1","msg":"version not supported","requestId":"xxxxxxxxx"}'


def test_a_request_id_comes_back_unescaped() -> None:
    answer = tencent.refused(Refused(Refusal.APP), '会话"😀/')
    expected = r'{"errorCode":"-401","msg":"appId invalid","requestId":"会话\"😀/"}'
    assert answer == expected.encode()


BITS = {
    Leg.CALLER: {"INVITED": 1, "RINGING": 2, "ANSWERED": 4, "REFUSED": 8, "HUNG_UP": 16, "FAILED": 32},
    Leg.CALLEE: {
        "INVITED": 256,
        "RINGING": 512,
        "ANSWERED": 1024,
        "REFUSED": 2048,
        "HUNG_UP": 4096,
        "FAILED": 8192,
    },
}


@pytest.mark.parametrize("leg", Leg)
@pytest.mark.parametrize("moment", Moment)
def test_each_moment_of_each_leg_has_its_own_bit(leg: Leg, moment: Moment) -> None:
    bit = BITS[leg][moment.name]
    assert tencent.wants(bit, leg, moment)
    assert not tencent.wants(16191 - bit, leg, moment)
    assert tencent.wants(16191, leg, moment)
    assert not tencent.wants(0, leg, moment)


@pytest.mark.parametrize("leg", Leg)
@pytest.mark.parametrize("moment", Moment)
def test_a_mask_wants_what_it_was_made_of(leg: Leg, moment: Moment) -> None:
    assert tencent.mask_of([(leg, moment), (leg, moment)]) == BITS[leg][moment.name]
    assert tencent.mask_of((leg, moment) for leg in Leg for moment in Moment) == 16191
    assert tencent.mask_of([]) == 0


def test_no_customer_speaks_as_the_operator() -> None:
    assert parse(by_operator="1", byOperator="1").by_operator is False
