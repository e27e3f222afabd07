"""The requests beside callBack, as a client makes them, against calls that are really going on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import zlib
from typing import Any

import pytest

from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.stack.stack import Stack
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer

API = "/201511v3"


async def huibo(stack: Stack, *arguments: str) -> str:
    """Run the command line on a stack."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "huibo",
        *arguments,
        env=dict(os.environ) | {"HUIBO_CONFIG": str(stack.settings_file)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def ask(customer: Customer, operation: str, app: str = "demo", **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await customer.post({"appId": app} | fields, f"{API}/{operation}?id={app}")
    return answer


@pytest.fixture(scope="module")
async def other_app(stack: Stack) -> str:
    await huibo(stack, "app", "add", "other")
    return "other"


async def status(customer: Customer, call_id: str) -> str:
    answer = await ask(customer, "getStatus", callId=call_id)
    assert answer["errorCode"] == "0", answer
    return str(answer["callStatus"])


async def test_the_status_of_a_call_through_its_life(customer: Customer) -> None:
    call = await customer.call("13811000003", "13911000003")  # both ring 5 s, then answer
    assert await status(customer, call.call_id) in ("0", "1")
    for told, expected in (
        ("src ringing", "1"),
        ("src answered", "2"),
        ("dst ringing", "3"),
        ("dst answered", "4"),
    ):
        await call.until_told(told)
        seen = await status(customer, call.call_id)
        assert seen == expected or (told, seen) == ("src answered", "3")
    answer = await ask(customer, "getStatus", callId=call.call_id)
    assert answer == {
        "errorCode": "0",
        "appId": "demo",
        "callId": call.call_id,
        "src": "008613811000003",
        "dst": "008613911000003",
        "callStatus": "4",
    }
    cancelled = await ask(customer, "callCancel", callId=call.call_id, cancelFlag="")
    assert cancelled == {"errorCode": "0", "msg": "", "callId": call.call_id}
    cdr = await call.cdr()
    assert cdr["callEndStatus"] == "1"
    assert call.told[-2:] in (["dst disaccept", "src disaccept"], ["src disaccept", "dst disaccept"])
    assert await status(customer, call.call_id) == "5"
    gone = {"errorCode": "-201", "msg": "callId not exist"}
    assert await ask(customer, "callCancel", callId=call.call_id) == gone


@pytest.mark.parametrize(
    ("flag", "until", "released", "told"),
    [
        ("0", "src ringing", True, ["src invite", "src ringing", "src failed 487"]),
        (0, "src ringing", True, None),
        ("1", "src ringing", False, None),
        ("2", "src ringing", True, None),
        ("2", "src answered", False, None),
        ("3", "src answered", True, None),
        ("3", "dst ringing", False, None),
        ("4", "dst ringing", True, None),
        ("4", "dst answered", False, None),
    ],
)
async def test_cancel_leaves_a_call_alone_that_has_come_too_far(
    customer: Customer, flag: str | int, until: str, released: bool, told: list[str] | None
) -> None:
    number = abs(hash((str(flag), until, released))) % 10**6
    # the caller rings 5 s; the callee, by its last digits, is slow to ring, rings, or answers
    callee = {"src answered": "08", "dst ringing": "04"}.get(until, "00")
    call = await customer.call(f"138{number:06d}03", f"139{number:06d}{callee}")
    await call.until_told(until)
    answer = await ask(customer, "callCancel", callId=call.call_id, cancelFlag=flag)
    assert answer["errorCode"] == "0"
    assert (answer["msg"] == "") == released
    if not released:
        assert answer["msg"].startswith("not released: ")
        assert await status(customer, call.call_id) != "5"
        assert (await ask(customer, "callCancel", callId=call.call_id))["msg"] == ""
    cdr = await call.cdr()
    assert cdr["callEndStatus"] in ("1", "2", "3", "5")
    if told is not None:
        assert call.told == told


async def test_cancel_by_get_with_the_parameters_in_the_query(customer: Customer) -> None:
    call = await customer.call("13811000103", "13911000100")
    url = f"{customer.base_url}{API}/callCancel?id=demo&appId=demo&callId={call.call_id}&cancelFlag=0"
    async with customer.http.get(url) as answer:
        assert json.loads(await answer.read())["errorCode"] == "0"
    assert (await call.cdr())["callEndStatus"] in ("2", "4")


async def test_one_app_never_sees_the_calls_of_another(customer: Customer, other_app: str) -> None:
    call = await customer.call("13811000200", "13911000202")
    await call.until_told("dst answered")
    for operation in ("getStatus", "callCancel", "getCdr"):
        answer = await ask(customer, operation, other_app, callId=call.call_id)
        assert (answer["errorCode"], answer["msg"]) == ("-201", "callId not exist")
    assert await status(customer, call.call_id) == "4"
    cdr = await call.cdr()
    assert int(cdr["duration"]) > 10, "cut off by the other app"
    period = {"startTimeStamp": "0", "endTimeStamp": str(int(time.time()) + 60)}
    assert (await ask(customer, "getCdr", other_app, **period))["cdr"] == []


async def test_the_record_of_a_call(customer: Customer) -> None:
    call = await customer.call("13811000300", "01066660301", bizId="biz1", orderId="订单")
    assert (await ask(customer, "getCdr", callId=call.call_id))["errorCode"] == "-201", "still running"
    pushed = await call.cdr()
    answer = await ask(customer, "getCdr", callId=call.call_id)
    assert list(answer) == ["errorCode", "result", "msg", "offset", "cdr"]
    assert (answer["errorCode"], answer["result"], answer["offset"]) == ("0", "Call Details", "0")
    (row,) = answer["cdr"]
    assert row == {k: v for k, v in pushed.items() if k not in ("appId", "requestId")} | {"recordUrl": ""}
    assert row["orderId"] == "订单"
    packed = {"appId": "demo", "callId": call.call_id, "compress": 1}
    async with customer.http.post(f"{customer.base_url}{API}/getCdr?id=demo", json=packed) as raw:
        assert raw.headers["Content-Type"] == "application/octet-stream"
        assert "Content-Encoding" not in raw.headers
        assert json.loads(zlib.decompress(await raw.read())) == answer


async def test_records_of_a_period_and_of_one_caller(customer: Customer) -> None:
    begin = int(time.time())
    calls = []
    for caller in ("13811000407", "13811010407", "13811000407"):  # 404 at once
        calls.append(await customer.call(caller, "13911000400"))
        await calls[-1].cdr()  # two that go on at once may begin in the other order
    ids = [call.call_id for call in calls]
    period = {"startTimeStamp": begin, "endTimeStamp": str(int(time.time()))}
    found = [row["callId"] for row in (await ask(customer, "getCdr", **period))["cdr"]]
    assert [call_id for call_id in found if call_id in ids] == ids
    own = await ask(customer, "getCdr", src="008613811000407", **period)
    assert [row["callId"] for row in own["cdr"]] == [ids[0], ids[2]]
    nobody = await ask(customer, "getCdr", startTimeStamp="1", endTimeStamp="2")
    assert (nobody["errorCode"], nobody["cdr"]) == ("0", [])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"startTimeStamp": "1"},
        {"startTimeStamp": "2", "endTimeStamp": "1"},
        {"startTimeStamp": "yesterday", "endTimeStamp": "2"},
    ],
)
async def test_a_period_that_is_none(customer: Customer, wrong: dict[str, str]) -> None:
    answer = await ask(customer, "getCdr", **wrong)
    assert answer["errorCode"] == "-202"
    assert answer["result"] == answer["msg"] != ""


async def test_the_display_numbers(customer: Customer, other_app: str) -> None:
    answer = await ask(customer, "getCallerDisplayList")
    assert (answer["errorCode"], answer["appId"]) == ("0", "demo")
    assert {"nation": "0086", "phone": "02131264133"} in answer["codeList"]
    assert (await ask(customer, "getCallerDisplayList", other_app))["codeList"] == []


@pytest.mark.parametrize("operation", ["callCancel", "getStatus", "getCdr", "getCallerDisplayList"])
async def test_who_may_ask(customer: Customer, operation: str) -> None:
    body = {"appId": "demo", "callId": "x", "startTimeStamp": "1", "endTimeStamp": "2"}
    for app, url_id, code in (("nobody", "demo", "-401"), ("demo", "wrong", "-402")):
        answer = await customer.post(body | {"appId": app}, f"{API}/{operation}?id={url_id}")
        assert answer["errorCode"] == code


async def test_the_same_idempotency_key_rings_nobody_twice(own: StartStack) -> None:
    stack, customer = await own()
    body = json.dumps(customer.request("13800000105", "13900000100")).encode()
    url = f"{customer.base_url}{API}/callBack?id=demo"

    async def post(body: bytes, key: str) -> tuple[dict[str, str], str | None]:
        async with customer.http.post(url, data=body, headers={"Idempotency-Key": key}) as answer:
            return json.loads(await answer.read()), answer.headers.get("Idempotent-Replayed")

    answers = await asyncio.gather(*(post(body, "order-1") for _ in range(5)))
    assert {json.dumps(answer) for answer, _ in answers} == {json.dumps(answers[0][0])}
    assert sorted(str(replayed) for _, replayed in answers) == ["None", *["true"] * 4]
    refused, _ = await post(body.replace(b"0105", b"0205"), "order-1")
    assert (refused["errorCode"], refused["msg"].partition(":")[0]) == ("-2", "Idempotency-Key")
    await customer.calls[answers[0][0]["callId"]].cdr()
    await stack.control_child.stop()
    await stack.control_child.start()
    await customer.until_ready()
    assert await post(body, "order-1") == (answers[0][0], "true")
    fresh, replayed = await post(body, "order-2")
    assert fresh["errorCode"] == "0"
    assert replayed is None
    await customer.calls[fresh["callId"]].cdr()
    events = journal.read(stack.carrier.calls_log)
    assert [e.number for e in events if e.event is PhoneMoment.INVITED] == ["13800000105"] * 2


async def test_pass_through_and_last_call(own: StartStack) -> None:
    stack, customer = await own()
    for mode in ("mutual", "callee"):
        await huibo(stack, "app", "add", mode)
        await huibo(stack, "app", "set", mode, f"display={mode}")
    await huibo(stack, "number", "add", "01012345678", "--app", "callee")
    shown = {}
    for app in ("mutual", "callee"):
        request = customer.request("13800000100", "13900000101") | {"appId": app}
        answer = await customer.post(request, f"{API}/callBack?id={app}")
        assert answer["errorCode"] == "0", answer
        shown[app] = (answer["srcDisplayNum"], answer["dstDisplayNum"])
        await customer.calls[answer["callId"]].cdr()
    assert shown == {
        "mutual": ("13900000101", "13800000100"),
        "callee": ("01012345678", "13800000100"),
    }
    events = journal.read(stack.carrier.calls_log)
    invited = [(e.number, e.caller) for e in events if e.event is PhoneMoment.INVITED]
    assert invited == [
        ("13800000100", "13900000101"),
        ("13900000101", "13800000100"),
        ("13800000100", "01012345678"),
        ("13900000101", "13800000100"),
    ]
    assert (await ask(customer, "getCallerDisplayList", "mutual"))["codeList"] == []
    # a second line to the same carrier: it is taken when the last call went over the first
    port = str(stack.carrier.sip_port)
    await huibo(stack, "trunk", "add", "spare", "--host", "127.0.0.1", "--port", port, "--priority", "5")
    first = await customer.call("13800000200", "13900000207")
    await first.cdr()
    second = await customer.call("13800000300", "13900000307", lastCallId=first.call_id)
    await second.cdr()
    log = [json.loads(line) for line in stack.log.read_text().splitlines() if line.startswith("{")]
    trunks = {e["call"]: e["trunk"] for e in log if e["event"] == "call accepted"}
    assert (trunks[first.call_id], trunks[second.call_id]) == ("sandbox", "spare")


async def test_a_call_may_be_cancelled_more_than_once(customer: Customer) -> None:
    call = await customer.call("13811000503", "13911000500")
    await call.until_told("src ringing")
    answers = await asyncio.gather(*(ask(customer, "callCancel", callId=call.call_id) for _ in range(8)))
    released = {"errorCode": "0", "msg": "", "callId": call.call_id}
    gone = {"errorCode": "-201", "msg": "callId not exist"}
    assert released in answers
    assert all(answer in (released, gone) for answer in answers), answers
    await call.cdr()
