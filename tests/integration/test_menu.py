"""Prompts and keys before the callee is dialled, with real speech and sandbox phones that press keys.

All calls are placed at once; each test waits for its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.sandbox.tones import RATE, load
from huibo.stack.stack import Stack
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer, Placed

SHORT = "请按一"
# longer than the 2 s after which the phones press for the first time, shorter than the 6 s of the second
NOTICE = "您好，这里是回拨平台，您有一个来电"
TOLD = ["src invite", "src ringing", "src answered"]
RELEASED = [*TOLD, "src disaccept"]
CONNECTED = [*TOLD, "dst invite", "dst ringing", "dst answered", "dst disaccept", "src disaccept"]


@dataclass(frozen=True)
class Scenario:
    """Who presses what in which menu, and what is to come of it."""

    name: str
    caller: str
    menu: dict[str, Any]
    keys: tuple[str, ...]
    connected: bool
    result: str = "3"


def menu(*choices: tuple[str, str], **members: Any) -> dict[str, Any]:
    key_list = [{"key": key, "operate": operate} for key, operate in choices]
    return {"interruptPrompt": SHORT, "keyList": key_list, "repeatTimes": "1"} | members


ALL = (("1", "1"), ("2", "2"), ("3", "3"))
SCENARIOS = [
    Scenario("connects", "11", menu(*ALL), ("1",), True, "1"),
    Scenario("connects-by-star", "20", menu(("*", "1")), ("*",), True, "1"),
    Scenario("connects-by-hash", "21", menu(("#", "1")), ("#",), True, "1"),
    Scenario("connects-by-a", "22", menu(("a", "1")), ("A",), True, "1"),
    Scenario("replays-until-released", "12", menu(*ALL), ("2", "2"), False),
    Scenario("releases", "13", menu(*ALL), ("3",), False),
    Scenario("unmapped-until-released", "19", menu(*ALL), ("9", "9"), False),
    Scenario("unmapped-then-connects", "23", menu(*ALL), ("9", "1"), True, "1"),
    Scenario("keys-during-the-notice", "11", menu(*ALL, readPrompt=NOTICE), ("1",), True, "1"),
    Scenario("says-nothing", "00", menu(*ALL, repeatTimes="0"), (), False),
    Scenario("hangs-up-in-the-menu", "01", menu(*ALL, readPrompt=NOTICE * 3), (), False),
]


def numbers_of(scenario: Scenario) -> tuple[str, str]:
    index = SCENARIOS.index(scenario)
    return f"137{index:06d}{scenario.caller}", f"136{index:06d}01"


@pytest.fixture(scope="module")
async def placed(customer: Customer) -> dict[str, Placed]:
    async def place(scenario: Scenario) -> Placed:
        handle = scenario.menu | {"keyPressUrl": customer.receiver.url("key")}
        return await customer.call(*numbers_of(scenario), preCallerHandle=handle)

    calls = await asyncio.gather(*map(place, SCENARIOS))
    return {scenario.name: call for scenario, call in zip(SCENARIOS, calls, strict=True)}


def events_of(stack: Stack, number: str) -> dict[PhoneMoment, PhoneEvent]:
    """The first event of each kind of a phone."""
    found: dict[PhoneMoment, PhoneEvent] = {}
    for event in journal.read(stack.carrier.calls_log):
        if event.number == number:
            found.setdefault(event.event, event)
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
async def test_what_comes_of_a_menu(stack: Stack, placed: dict[str, Placed], scenario: Scenario) -> None:
    call = placed[scenario.name]
    cdr = await call.cdr()
    assert call.told == (CONNECTED if scenario.connected else RELEASED)
    assert cdr["callEndStatus"] == scenario.result
    await call.until_keys(len(scenario.keys))
    caller, callee = numbers_of(scenario)
    assert [push["key"] for push in call.keys] == list(scenario.keys)
    for push in call.keys:
        assert push == {
            "appId": "demo",
            "callId": call.call_id,
            "requestId": "",
            "phone": f"0086{caller}",
            "key": push["key"],
            "callType": "3",
        }
    invited = events_of(stack, callee).get(PhoneMoment.INVITED)
    assert (invited is not None) == scenario.connected
    if invited is not None:
        assert invited.at > events_of(stack, caller)[PhoneMoment.PRESSED].at


async def test_a_key_during_the_notice_has_no_effect(stack: Stack, placed: dict[str, Placed]) -> None:
    scenario = next(s for s in SCENARIOS if s.name == "keys-during-the-notice")
    await placed[scenario.name].cdr()
    caller, callee = (events_of(stack, number) for number in numbers_of(scenario))
    waited = caller[PhoneMoment.ANSWERED].at, callee[PhoneMoment.INVITED].at
    assert (waited[1] - waited[0]).total_seconds() > 5, "the first key, 2 s after the answer, was taken"


async def test_the_caller_hears_the_prompts(stack: Stack, placed: dict[str, Placed]) -> None:
    scenario = next(s for s in SCENARIOS if s.name == "says-nothing")
    await placed[scenario.name].cdr()
    heard = events_of(stack, numbers_of(scenario)[0])[PhoneMoment.ANSWERED].heard
    samples = load(stack.carrier.heard_dir / (heard or ""))
    tenth = RATE // 10
    levels = np.sqrt((samples[: len(samples) // tenth * tenth].reshape(-1, tenth) ** 2).mean(axis=1))
    loud_s = float((levels > 0.02).sum()) / 10
    assert 0.4 < loud_s < 3, "the prompt was spoken once"
    assert len(samples) / RATE > 5, "and was followed by the time to think"


async def test_a_voice_that_fails_dials_nobody(own: StartStack) -> None:
    settings = {"prompts": {"voice": "command", "command": ["/bin/false"]}}
    stack, customer = await own(settings)
    call = await customer.call("13700000111", "13600000101", preCallerHandle=menu(*ALL))
    cdr = await call.cdr()
    assert (cdr["callEndStatus"], cdr["startSrcCallTime"], cdr["duration"]) == ("0", "0", "0")
    assert call.told == ["src failed"]
    assert journal.read(stack.carrier.calls_log) == []
