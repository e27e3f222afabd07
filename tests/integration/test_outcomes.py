"""Every sandbox phone on each leg: its statuses in order, its CDR, and what the parties heard.

All calls are placed at once; each test waits for its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.sandbox.tones import RINGBACK_HZ, dominant, hears, tone_of
from huibo.stack.stack import Stack
from tests.integration.customer import Customer, Placed

ANSWERED = ["invite", "ringing", "answered"]
GONE = ["disaccept"]


@dataclass(frozen=True)
class Scenario:
    """Which phones, what is told of each leg in order, and the CDR's callEndStatus."""

    caller: str
    callee: str
    src: tuple[str, ...]
    dst: tuple[str, ...]
    result: str

    @property
    def name(self) -> str:
        return f"caller{self.caller}-callee{self.callee}"


def caller_fails(phone: str, *told: str, result: str) -> Scenario:
    return Scenario(phone, "00", told, (), result)


def callee_fails(phone: str, *told: str, result: str) -> Scenario:
    return Scenario("00", phone, (*ANSWERED, *GONE), told, result)


def talks(caller: str, callee: str) -> Scenario:
    return Scenario(caller, callee, (*ANSWERED, *GONE), (*ANSWERED, *GONE), "1")


SCENARIOS = [
    talks("00", "01"),
    talks("01", "00"),
    talks("02", "03"),
    talks("03", "01"),
    talks("00", "02"),
    talks("15", "01"),
    talks("02", "20"),
    talks("24", "00"),  # ended by the watchdog
    talks("00", "24"),
    caller_fails("04", "invite", "ringing", "failed 408", result="2"),
    caller_fails("05", "invite", "refused 486", result="4"),
    caller_fails("06", "invite", "ringing", "refused 603", result="2"),
    caller_fails("07", "invite", "failed 404", result="4"),
    caller_fails("08", "invite", "failed 480", result="4"),
    caller_fails("09", "invite", "failed 503", result="4"),
    caller_fails("25", "invite", "failed 480", result="4"),
    caller_fails("26", "invite", "failed 500", result="4"),
    caller_fails("27", "invite", "ringing", "failed 503", result="2"),
    callee_fails("04", "invite", "ringing", "failed 408", result="3"),
    callee_fails("05", "invite", "refused 486", result="5"),
    callee_fails("06", "invite", "ringing", "refused 603", result="3"),
    callee_fails("07", "invite", "failed 404", result="5"),
    callee_fails("08", "invite", "failed 480", result="5"),
    callee_fails("09", "invite", "failed 503", result="5"),
    callee_fails("25", "invite", "failed 480", result="5"),
    callee_fails("26", "invite", "failed 500", result="5"),
    callee_fails("27", "invite", "ringing", "failed 503", result="3"),
    # the caller hangs up while the callee rings
    Scenario("01", "04", (*ANSWERED, *GONE), ("invite", "ringing", "failed 487"), "3"),
]


@pytest.fixture(scope="module")
def stack(alone: tuple[Stack, Customer]) -> Stack:
    return alone[0]


@pytest.fixture(scope="module")
def customer(alone: tuple[Stack, Customer]) -> Customer:
    return alone[1]


def numbers_of(scenario: Scenario) -> tuple[str, str]:
    """Numbers that no other scenario uses; every third callee is a landline."""
    index = SCENARIOS.index(scenario)
    landline = index % 3 == 0
    callee = f"0106666{index:02d}{scenario.callee}" if landline else f"139{index:06d}{scenario.callee}"
    return f"138{index:06d}{scenario.caller}", callee


@pytest.fixture(scope="module")
async def placed(customer: Customer) -> dict[str, Placed]:
    calls = await asyncio.gather(*(customer.call(*numbers_of(s)) for s in SCENARIOS))
    return {s.name: call for s, call in zip(SCENARIOS, calls, strict=True)}


def heard_by(stack: Stack, number: str, event: PhoneMoment = PhoneMoment.ANSWERED) -> PhoneEvent:
    (found,) = [e for e in journal.read(stack.carrier.calls_log) if e.number == number and e.event is event]
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
async def test_statuses_and_cdr(scenario: Scenario, placed: dict[str, Placed]) -> None:
    call = placed[scenario.name]
    cdr = await call.cdr()
    told = call.told  # everything told comes before the CDR
    assert [t.removeprefix("src ") for t in told if t.startswith("src")] == list(scenario.src)
    assert [t.removeprefix("dst ") for t in told if t.startswith("dst")] == list(scenario.dst)
    if scenario.dst:
        assert told.index("src answered") < told.index("dst invite")
    assert cdr["callEndStatus"] == scenario.result
    caller, callee = numbers_of(scenario)
    assert (cdr["src"], cdr["dst"]) == (f"0086{caller}", f"0086{callee}")
    check_times(cdr, call)
    assert len(call.cdrs) == 1


def check_times(cdr: dict[str, str], call: Placed) -> None:
    """The CDR shows the moments that were pushed, "0" for what did not happen, and the billed time."""
    pushed = {(s["userFlag"], s["callStatus"]): s["timeStamp"] for s in call.statuses}
    for field, moment in {
        "startSrcCallTime": ("src", "invite"),
        "startSrcRingTime": ("src", "ringing"),
        "srcAcceptTime": ("src", "answered"),
        "startDstCallTime": ("dst", "invite"),
        "startDstRingTime": ("dst", "ringing"),
        "dstAcceptTime": ("dst", "answered"),
    }.items():
        assert cdr[field] == pushed.get(moment, "0"), field
    end = int(cdr["endCallTime"])
    assert end == max(int(s["timeStamp"]) for s in call.statuses)
    answered = [int(cdr["srcAcceptTime"]), int(cdr["dstAcceptTime"])]
    expected = -(-sum(end - at for at in answered) // 2) if all(answered) else 0
    assert int(cdr["duration"]) == expected


async def test_both_hear_each_other(stack: Stack, placed: dict[str, Placed]) -> None:
    scenario = SCENARIOS[0]
    await placed[scenario.name].cdr()
    caller, callee = numbers_of(scenario)
    for listener, speaker in ((caller, callee), (callee, caller)):
        file = stack.carrier.heard_dir / (heard_by(stack, listener).heard or "")
        heard = hears(file, tone_of(speaker))
        assert heard.seconds > 3.5, f"{listener} did not hear {speaker}"
        assert not hears(file, tone_of(listener)), f"{listener} heard itself"


async def test_the_caller_hears_ringing_until_the_callee_answers(
    stack: Stack, placed: dict[str, Placed]
) -> None:
    scenario = next(s for s in SCENARIOS if s.name == "caller02-callee03")
    await placed[scenario.name].cdr()
    caller, callee = numbers_of(scenario)
    file = stack.carrier.heard_dir / (heard_by(stack, caller).heard or "")
    talk = hears(file, tone_of(callee))
    assert talk.begins_s is not None
    assert talk.begins_s > 4.0
    ringing = [one.at_s for one in dominant(file) if one.hz is not None and abs(one.hz - RINGBACK_HZ) < 5]
    assert ringing
    assert max(ringing) < talk.begins_s
    assert talk.seconds > 5


async def test_the_caller_hears_the_networks_announcement(stack: Stack, placed: dict[str, Placed]) -> None:
    scenario = next(s for s in SCENARIOS if s.name == "caller00-callee08")
    await placed[scenario.name].cdr()
    file = stack.carrier.heard_dir / (heard_by(stack, numbers_of(scenario)[0]).heard or "")
    loudest = {round(one.hz, -1) for one in dominant(file) if one.hz is not None}
    assert len(loudest & {950, 1400, 1800}) >= 2  # the special information tone, ITU-T E.180


async def test_ring_timers_end_a_phone_that_nobody_answers(placed: dict[str, Placed]) -> None:
    for name, begin in (("caller04-callee00", "startSrcCallTime"), ("caller00-callee04", "startDstCallTime")):
        cdr = await placed[name].cdr()
        assert 11 <= int(cdr["endCallTime"]) - int(cdr[begin]) <= 16


async def test_no_phone_rings_twice(stack: Stack, placed: dict[str, Placed]) -> None:
    for call in placed.values():
        await call.cdr()
    invited = [e.number for e in journal.read(stack.carrier.calls_log) if e.event is PhoneMoment.INVITED]
    mine = {number for scenario in SCENARIOS for number in numbers_of(scenario)}
    assert sorted(n for n in invited if n in mine) == sorted(set(invited) & mine)


async def test_phones_show_the_display_numbers_asked_for(stack: Stack, customer: Customer) -> None:
    call = await customer.call(
        "13812345600", "13912345601", srcDisplayNum="4001360123", dstDisplayNum="02131264133"
    )
    await call.cdr()
    assert heard_by(stack, "13812345600").caller == "4001360123"
    assert heard_by(stack, "13912345601").caller == "02131264133"
