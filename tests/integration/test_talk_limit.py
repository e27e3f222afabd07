"""The agreed end of a talk: the only place that waits for a whole minute, the shortest that can be agreed.

All calls are placed at once, on two stacks, of which one loses its control plane.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

import pytest
import soundfile

from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.tones import hears, tone_of
from huibo.stack.stack import Stack
from tests.integration.conftest import QUICK, StartStack
from tests.integration.customer import Customer, Placed
from tests.integration.test_siblings import huibo
from tests.integration.test_sounds import WARNING_HZ, heard_by
from tests.integration.test_survival import kill

A_MINUTE = {"maxAllowTime": "1"}
PLAIN, RECORDED, WARNED, ALONE = (
    ("13800000100", "13900000100"),
    ("13500000200", "13400000200"),
    ("13800000300", "13900000300"),
    ("13800000400", "13900000400"),
)


@dataclass
class Limited:
    """The calls: of a huibo that lives, and `alone` of one that does not."""

    stack: Stack
    customer: Customer
    plain: Placed
    recorded: Placed
    warned: Placed
    left: Stack
    left_customer: Customer
    alone: Placed


@pytest.fixture(scope="module")
async def calls(start_stack: Callable[[AsyncExitStack], StartStack]) -> AsyncIterator[Limited]:
    early = {"calls": QUICK["calls"] | {"warn_s": 50}}  # 10 s after the beginning of a minute
    async with AsyncExitStack() as exits:
        (stack, customer), (left, left_customer) = await asyncio.gather(
            start_stack(exits)(early), start_stack(exits)()
        )
        await huibo(stack, "app", "set", "demo", "warn=caller")
        plain, recorded, warned, alone = await asyncio.gather(
            customer.call(*PLAIN, **A_MINUTE),
            customer.call(*RECORDED, **A_MINUTE, record="1"),
            customer.call(*WARNED, **A_MINUTE),
            left_customer.call(*ALONE, **A_MINUTE),
        )
        await alone.until_told("dst answered")
        log = left.folder / "engine/log/messages"
        async with asyncio.timeout(10):
            while log.read_text().count("Channel will hangup") < 4:  # both legs: at birth, and for the talk
                await asyncio.sleep(0.05)
        kill(left.control_child.pid)
        await left.control_child.process.wait()
        yield Limited(stack, customer, plain, recorded, warned, left, left_customer, alone)


async def test_the_caller_alone_is_warned_of_the_end(calls: Limited) -> None:
    callee, caller = tone_of(WARNED[1]), tone_of(WARNED[0])
    assert WARNING_HZ not in (caller, callee)
    await calls.warned.until_told("dst answered")
    await asyncio.sleep(12)  # the tone comes 10 s after the answer
    await calls.customer.post(
        {"appId": "demo", "callId": calls.warned.call_id}, "/201511v3/callCancel?id=demo"
    )
    assert WARNING_HZ in await heard_by(calls.stack, WARNED[0])
    assert WARNING_HZ not in await heard_by(calls.stack, WARNED[1])


async def test_the_talk_is_cut(calls: Limited) -> None:
    cdr = await calls.plain.cdr()
    assert cdr["callEndStatus"] == "1"
    assert 59 <= int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"]) <= 63
    assert sorted(calls.plain.told[-2:]) == ["dst disaccept", "src disaccept"]


async def test_all_of_it_is_recorded(calls: Limited) -> None:
    push = await calls.recorded.recording()
    async with calls.customer.http.get(push["recordUrl"]) as answer:
        samples, rate = soundfile.read(io.BytesIO(await answer.read()))
    assert 59 <= len(samples) / rate <= 63
    for channel, number in enumerate(RECORDED):
        # the warning is heard by the caller; it is not his voice
        assert hears(samples[:, channel], tone_of(number)).seconds > 58


async def test_asterisk_keeps_the_limit_when_the_control_plane_is_dead(calls: Limited) -> None:
    stack, customer = calls.left, calls.left_customer
    ends = await asyncio.wait_for(hung_up(stack, set(ALONE)), 80)
    answered = next(
        e.at
        for e in journal.read(stack.carrier.calls_log)
        if e.number == ALONE[1] and e.event is PhoneMoment.ANSWERED
    )
    for end in ends:
        assert 59 <= (end - answered).total_seconds() <= 66
    await stack.control_child.start()
    await customer.until_ready()
    assert (await calls.alone.cdr())["callEndStatus"] == "1"


async def hung_up(stack: Stack, numbers: set[str]) -> list[datetime]:
    """When these phones hung up, waiting for all of them."""
    ends = {}
    async for event in journal.follow(stack.carrier.calls_log):
        if event.event is PhoneMoment.HUNG_UP and event.number in numbers:
            ends[event.number] = event.at
            if ends.keys() == numbers:
                return list(ends.values())
    raise AssertionError
