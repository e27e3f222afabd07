"""What happens to calls and to requests when parts of huibo die and come back."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from socket import SOCK_STREAM

import soundfile

from huibo.config import load
from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.tones import hears, tone_of
from huibo.stack.ports import free
from huibo.stack.receiver import receiver
from huibo.stack.stack import Stack
from huibo.storage.calls import find_cdr
from huibo.storage.database import open_engine
from tests.integration.conftest import QUICK, StartStack


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def test_without_asterisk_requests_are_refused_and_it_recovers_by_itself(own: StartStack) -> None:
    stack, customer = await own({"recording": {"retry_s": [0.2]}})
    call = await customer.call("13800000100", "13900000100", record="1")
    ringing = await customer.call("13800000104", "13900000100")
    await asyncio.gather(call.until_told("dst answered"), ringing.until_told("src ringing"))
    await asyncio.sleep(5)  # of conversation, of which Asterisk takes the last two with it
    kill(stack.engine_child.pid)
    died = time.time()
    await customer.until_ready(False)
    refused = await customer.post(customer.request("13800000201", "13900000201"))
    assert refused["errorCode"] == "-501"
    assert refused["msg"]
    await stack.engine_child.process.wait()
    await asyncio.sleep(3)  # in which nobody talks
    await stack.engine_child.start()
    async with asyncio.timeout(10):
        await customer.until_ready()
    cdr = await call.cdr()  # its channels are gone: it was over when Asterisk was heard of last
    assert cdr["callEndStatus"] == "1"
    assert call.told[-2:] == ["src disaccept", "dst disaccept"]
    assert died - 1.5 <= int(cdr["endCallTime"]) <= died + 1
    assert reasons(stack, call.call_id) == ("lost", "lost")
    unheard = await ringing.cdr()
    assert (unheard["callEndStatus"], unheard["duration"]) == ("0", "0")
    async with customer.http.get((await call.recording())["recordUrl"]) as answer:
        samples, rate = soundfile.read(io.BytesIO(await answer.read()))
    assert len(samples) / rate > 2.8
    for side, number in enumerate(("13800000100", "13900000100")):
        assert hears(samples[:, side], tone_of(number)).seconds > 2
    again = await customer.call("13800000301", "13900000301")
    assert (await again.cdr())["callEndStatus"] == "1"
    assert len(customer.calls) == 3


async def test_all_die_and_what_nobody_talked_is_not_charged(own: StartStack) -> None:
    stack, customer = await own({"recording": {"retry_s": [0.2]}})
    call = await customer.call("13800000100", "13900000100", record="1")
    await call.until_told("dst answered")
    await asyncio.sleep(4)  # the process says every other second that it lives
    kill(stack.control_child.pid)
    kill(stack.engine_child.pid)
    died = time.time()
    for child in (stack.control_child, stack.engine_child):
        await child.process.wait()
    await asyncio.sleep(3)  # in which nobody talks
    await stack.control_child.start()  # it comes back first, and waits
    await stack.engine_child.start()
    await customer.until_ready()
    cdr = await call.cdr()
    assert cdr["callEndStatus"] == "1"
    assert int(cdr["dstAcceptTime"]) < int(cdr["endCallTime"]) <= died
    assert (await call.recording())["recordUrl"]


def reasons(stack: Stack, call_id: str) -> tuple[str, str]:
    """Why its legs ended, as the CDR has it."""
    engine = open_engine(load(stack.settings_file).database_url)
    with engine.connect() as connection:
        cdr = find_cdr(connection, call_id)
    engine.dispose()
    assert cdr is not None
    return str(cdr.caller.reason), str(cdr.callee.reason)


async def test_a_conversation_outlives_the_control_plane(own: StartStack) -> None:
    stack, customer = await own()
    talking = await customer.call("13800000100", "13900000102")  # the callee hangs up 15 s after its answer
    ringing = await customer.call("13800000200", "13900000204")  # rings until the timer
    await asyncio.gather(talking.until_told("dst answered"), ringing.until_told("dst ringing"))
    kill(stack.control_child.pid)
    await stack.control_child.process.wait()
    await stack.control_child.start()
    await customer.until_ready()
    cdr = await talking.cdr()
    assert cdr["callEndStatus"] == "1"
    assert talking.told[-2:] == ["dst disaccept", "src disaccept"]
    assert 14 <= int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"]) <= 18
    assert (await ringing.cdr())["callEndStatus"] == "3"
    assert ringing.told[-2:] == ["dst failed 408", "src disaccept"]
    invited = [e.number for e in journal.read(stack.carrier.calls_log) if e.event is PhoneMoment.INVITED]
    assert sorted(invited) == ["13800000100", "13800000200", "13900000102", "13900000204"]


async def test_a_caller_who_answers_while_nobody_is_there_is_connected_afterwards(own: StartStack) -> None:
    """Even if the ring timer is over by then."""
    stack, customer = await own({"calls": QUICK["calls"] | {"caller_ring_s": 7}})
    call = await customer.call("13800000103", "13900000101")  # rings 5 s
    await call.until_told("src ringing")
    kill(stack.control_child.pid)
    await stack.control_child.process.wait()
    async for event in journal.follow(stack.carrier.calls_log):
        if event.number == "13800000103" and event.event is PhoneMoment.ANSWERED:
            break
    await asyncio.sleep(3)  # the ring timer is a span of time
    await stack.control_child.start()
    await customer.until_ready()
    assert (await call.cdr())["callEndStatus"] == "1"
    once = list(dict.fromkeys(call.told))  # what was delivered but not yet marked when it died comes twice
    assert once[:4] == ["src invite", "src ringing", "src answered", "dst invite"]


async def test_a_call_that_ended_meanwhile_is_closed_after_the_restart(own: StartStack) -> None:
    stack, customer = await own()
    call = await customer.call("13800000100", "13900000101")  # the callee hangs up 5 s after its answer
    await call.until_told("dst answered")
    kill(stack.control_child.pid)
    await stack.control_child.process.wait()
    async for event in journal.follow(stack.carrier.calls_log):
        if event.number == "13900000101" and event.event is PhoneMoment.HUNG_UP:
            break
    await stack.control_child.start()
    await customer.until_ready()
    assert (await call.cdr())["callEndStatus"] == "1"
    async for event in journal.follow(stack.carrier.calls_log):
        if event.number == "13800000100" and event.event is PhoneMoment.HUNG_UP:
            break  # the caller, whose end nobody had asked for, was let go


async def test_pushes_owed_survive_a_restart(own: StartStack) -> None:
    stack, customer = await own({"push": {"cdr_retry_s": [1.0] * 60}})
    (port,) = free(SOCK_STREAM)  # nobody listens there yet
    call = await customer.call("13800000107", "13900000100", hangupUrl=f"http://127.0.0.1:{port}/cdr")
    await call.until_told("src failed 404")
    kill(stack.control_child.pid)
    await stack.control_child.process.wait()
    async with receiver(port) as late:
        await stack.control_child.start()
        push = await asyncio.wait_for(late.arrived.get(), 30)
    assert (push.body["callId"], push.body["callEndStatus"]) == (call.call_id, "4")
