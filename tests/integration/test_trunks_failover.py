"""Calls over more than one trunk: which carrier is tried, what is told, and that no phone rings twice.

All calls are placed at once over one stack; each test waits for its own.
"""

from __future__ import annotations

import io
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import pytest
import soundfile

from huibo import config
from huibo.model import NumberFormat, Transport, Trunk
from huibo.sandbox import journal
from huibo.sandbox.carrier import Terms
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.phones import Answer, Phone, Ring, Stay
from huibo.sandbox.tones import hears, tone_of
from huibo.stack.ports import free_in_both
from huibo.stack.stack import Stack
from huibo.storage import catalog
from huibo.storage.database import open_engine
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer, Placed
from tests.integration.test_outcomes import check_times
from tests.integration.test_recording import download
from tests.integration.test_sip_edges import console

TALK = ("invite", "ringing", "answered", "disaccept")
SILENCE_S = 16  # after which a carrier that answers nothing is given up
# On the second carrier every number answers: who gets through has been tried there.
SECOND = Terms(phones=(), otherwise=Phone("..", (Ring(1), Answer(), Stay(5)), "answers", "接听"))


@dataclass(frozen=True)
class Case:
    """A call: its numbers' last digits; what is told of each leg; which carriers saw each number."""

    name: str
    caller: str
    callee: str
    src: tuple[str, ...]
    dst: tuple[str, ...]
    caller_on: tuple[str, ...]
    callee_on: tuple[str, ...]
    result: str = "1"
    over: str = ""  # a trunk that fails before any carrier is reached, and that comes first
    record: bool = False

    @property
    def numbers(self) -> tuple[str, str]:
        """`over` trunks serve numbers of their own."""
        index = CASES.index(self)
        ours = OVER.get(self.over, "0")
        caller = f"138{ours if 'caller' in self.name else '0'}{index:05d}{self.caller}"
        return caller, f"139{ours if 'callee' in self.name else '0'}{index:05d}{self.callee}"


OVER = {"mute": "1", "closed": "2", "nowhere": "3"}
BOTH, FIRST = ("sandbox", "second"), ("sandbox",)


def passes_on(digits: str) -> list[Case]:
    """The first carrier cannot, and no phone rang: the second one is tried."""
    return [
        Case(f"caller-{digits}", digits, "00", TALK, TALK, BOTH, FIRST),
        Case(f"callee-{digits}", "00", digits, TALK, TALK, FIRST, BOTH),
    ]


def is_final(digits: str, *told: str) -> list[Case]:
    """The first carrier's word is the last."""
    rang = "ringing" in told
    return [
        Case(f"caller-{digits}", digits, "00", told, (), FIRST, (), "2" if rang else "4"),
        Case(f"callee-{digits}", "00", digits, TALK, told, FIRST, FIRST, "3" if rang else "5"),
    ]


def is_over(trunk: str, **more: bool) -> list[Case]:
    """The first trunk leads nowhere: the second carrier's name for `FIRST` is the sandbox."""
    return [
        Case(f"caller-{trunk}", "00", "01", TALK, TALK, FIRST, FIRST, over=trunk, **more),
        Case(f"callee-{trunk}", "00", "01", TALK, TALK, FIRST, FIRST, over=trunk, **more),
    ]


CASES = [
    *passes_on("09"),  # 503
    *passes_on("25"),  # 480
    *passes_on("26"),  # 500
    *is_final("05", "invite", "refused 486"),
    *is_final("06", "invite", "ringing", "refused 603"),
    *is_final("07", "invite", "failed 404"),
    *is_final("08", "invite", "failed 480"),  # after an announcement (183)
    *is_final("27", "invite", "ringing", "failed 503"),
    Case("both-legs", "09", "09", TALK, TALK, BOTH, BOTH),
    Case("recorded", "00", "09", TALK, TALK, FIRST, BOTH, record=True),
    Case("recorded-both", "25", "26", TALK, TALK, BOTH, BOTH, record=True),
    *is_over("mute"),
    *is_over("closed", record=True),
    *is_over("nowhere"),
]
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Bench:
    """The stack, its customer, and the calls by name. `mute`: a carrier that says nothing."""

    stack: Stack
    customer: Customer
    calls: dict[str, Placed]
    mute: socket.socket

    def seen(self, carrier: str, moment: PhoneMoment) -> list[str]:
        """The numbers of a carrier's phones to which this happened."""
        return [
            event.number
            for event in journal.read(self.stack.carriers[carrier].calls_log)
            if event.event is moment
        ]


@pytest.fixture(scope="module")
def mute() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
        place.bind(("127.0.0.1", 0))
        place.setblocking(False)
        yield place


@pytest.fixture(scope="module")
async def bench(
    start_stack: Callable[[AsyncExitStack], StartStack], mute: socket.socket
) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as exits:
        patient = {"caller_ring_s": 25, "callee_ring_s": 25, "no_audio_s": 6}
        stack, customer = await start_stack(exits)({"calls": patient}, more_carriers={"second": SECOND})
        add(
            stack,
            over("mute", "127.0.0.1", mute.getsockname()[1]),
            over("closed", "127.0.0.1", free_in_both(), transport=Transport.TCP),
            over("nowhere", "nowhere.invalid", 5060),
        )
        calls = [
            await customer.call(*case.numbers, **{"record": "1"} if case.record else {}) for case in CASES
        ]
        yield Bench(stack, customer, {c.name: p for c, p in zip(CASES, calls, strict=True)}, mute)


def over(name: str, host: str, port: int, **more: Transport) -> Trunk:
    """A trunk that comes before all others for numbers of its own."""
    prefixes = (f"86138{OVER[name]}", f"86139{OVER[name]}")
    form = NumberFormat.E164
    return Trunk(name, host, port, priority=-1, prefixes=prefixes, options_s=0, caller_format=form, **more)


def add(stack: Stack, *trunks: Trunk) -> None:
    database = open_engine(config.load(stack.settings_file).database_url)
    with database.begin() as connection:
        for trunk in trunks:
            catalog.add_trunk(connection, trunk, 1)
    database.dispose()


@pytest.mark.parametrize("name", BY_NAME)
async def test_the_right_carrier_is_tried_next_and_nothing_is_told_twice(bench: Bench, name: str) -> None:
    case, call = BY_NAME[name], bench.calls[name]
    cdr = await call.cdr()
    told = call.told  # everything told comes before the CDR
    assert tuple(t.removeprefix("src ") for t in told if t.startswith("src")) == case.src
    assert tuple(t.removeprefix("dst ") for t in told if t.startswith("dst")) == case.dst
    assert cdr["callEndStatus"] == case.result
    check_times(cdr, call)
    for number, carriers in zip(case.numbers, (case.caller_on, case.callee_on), strict=True):
        invited = [one for one in BOTH for seen in bench.seen(one, PhoneMoment.INVITED) if seen == number]
        assert invited == list(carriers)
        rang = [seen for one in BOTH for seen in bench.seen(one, PhoneMoment.RINGING) if seen == number]
        assert len(rang) <= 1


@pytest.mark.parametrize("name", [case.name for case in CASES if case.record])
async def test_a_recording_goes_on_over_the_next_trunk(bench: Bench, name: str) -> None:
    case, call = BY_NAME[name], bench.calls[name]
    cdr, push = await call.cdr(), await call.recording()
    talked = int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"])
    samples, rate = soundfile.read(io.BytesIO(await download(bench.customer, push["recordUrl"])))
    assert abs(len(samples) / rate - talked) <= 1.2
    for channel, (own, other) in enumerate((case.numbers, case.numbers[::-1])):
        assert hears(samples[:, channel], tone_of(own)).seconds > talked - 1.5
        assert not hears(samples[:, channel], tone_of(other))


@pytest.mark.parametrize("name", ["caller-mute", "callee-mute"])
async def test_a_carrier_that_answers_nothing_is_given_up_in_time_for_another(
    bench: Bench, name: str
) -> None:
    cdr = await bench.calls[name].cdr()
    leg = "Src" if name.startswith("caller") else "Dst"
    waited = int(cdr[f"start{leg}RingTime"]) - int(cdr[f"start{leg}CallTime"])
    assert SILENCE_S - 1 <= waited <= SILENCE_S + 5
    number = BY_NAME[name].numbers[0 if leg == "Src" else 1]
    invites = [one for one in arrived(bench.mute) if one.startswith(f"INVITE sip:{number}@")]
    assert invites  # sent again and again, as SIP does; all of them are one
    assert len({line for one in invites for line in one.splitlines() if line.startswith("Call-ID")}) == 1


_arrived: list[str] = []


def arrived(place: socket.socket) -> list[str]:
    """What came to a socket so far."""
    with suppress(BlockingIOError):
        while True:
            _arrived.append(place.recv(65536).decode())
    return _arrived


async def test_each_carrier_is_shown_the_number_as_it_wants_it(bench: Bench) -> None:
    """A trunk before wanted +86: what that one was told must not stay."""
    await bench.calls["callee-mute"].cdr()
    number = BY_NAME["callee-mute"].numbers[1]
    invite = next(one for one in arrived(bench.mute) if one.startswith(f"INVITE sip:{number}@"))
    shown = next(
        event.caller
        for event in journal.read(bench.stack.carrier.calls_log)
        if event.number == number and event.event is PhoneMoment.INVITED
    )
    plain = {"02131264133": "+862131264133", "075561948986": "+8675561948986", "4001360123": "4001360123"}
    assert f"\nFrom: <sip:{plain[shown]}@" in invite


async def test_nothing_is_left_behind(bench: Bench) -> None:
    for call in bench.calls.values():
        await call.cdr()
    assert [name for name, call in bench.calls.items() if len(call.cdrs) != 1] == []
    assert await console(bench.stack, "core show channels concise") == ""
    assert "stasis" not in await console(bench.stack, "bridge show all")
