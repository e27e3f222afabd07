"""Trunks that are added, changed, drained, removed while calls talk; carriers that go away and come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count

import pytest

from huibo import config
from huibo.clock import Clock
from huibo.model import NumberFormat, Transport, Trunk, TrunkState
from huibo.sandbox import journal
from huibo.sandbox.carrier import Account, Terms
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.sandbox.phones import Answer, Phone, Refuse, Ring, Stay
from huibo.sandbox.tones import hears, tone_of
from huibo.stack.stack import Stack
from huibo.storage import catalog, locks
from huibo.storage.database import Database
from huibo.storage.locks import LockKind
from tests.integration.conftest import StartStack
from tests.integration.customer import PATIENCE_S, Customer, Placed
from tests.integration.test_sip_edges import console

CALLS, TALK_S = 20, 30
USER, PASSWORD = "caller", "secret"
BUSY = Phone("05", (Refuse(486),), "busy", "忙")
# Long enough for all that is done to its trunk meanwhile.
PATIENT = Terms(phones=(BUSY,), otherwise=Phone("..", (Ring(1), Answer(), Stay(TALK_S)), "talks", "通话"))
CLOSED = Terms(account=Account(USER, PASSWORD), phones=(BUSY,))


@dataclass
class Bench:
    """A stack whose trunks are looked at often, and what can be done to them."""

    stack: Stack
    customer: Customer
    database: Database

    def __post_init__(self) -> None:
        self._numbers = count(1)

    def add(self, trunk: Trunk) -> None:
        self.database.write_now(lambda connection: catalog.add_trunk(connection, trunk, 1))

    def change(self, name: str, **what: object) -> None:
        found = self.database.read_now(lambda connection: catalog.find_trunk(connection, name))
        assert found is not None
        changed = replace(found, **what)  # type: ignore[arg-type]
        self.database.write_now(lambda connection: catalog.change_trunk(connection, changed))

    def remove(self, name: str) -> None:
        self.database.write_now(lambda connection: catalog.remove_trunk(connection, name))

    def new_numbers(self, digits: str = "05") -> tuple[str, str]:
        number = next(self._numbers)
        return f"1386{number:05d}{digits}", f"1396{number:05d}{digits}"

    async def refused(self) -> bool:
        """Whether a call is refused for want of a line; one that is taken is ended at once: it is busy."""
        answer = await self.customer.post(self.customer.request(*self.new_numbers()))
        assert answer["errorCode"] in ("0", "-3"), answer
        return answer["errorCode"] == "-3"

    async def until_refused(self, so: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.refused() is not so:
                await asyncio.sleep(0.1)

    async def until_calls_go_to(self, carrier: str, **shown: str) -> None:
        """Place calls, one after the other, until one of them arrives at a carrier (from such a number)."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                numbers = self.new_numbers()
                wanted = self.customer.request(*numbers, srcDisplayNum="02131264133")
                answer = await self.customer.post(wanted)
                if answer["errorCode"] == "-3":  # a moment between two lines
                    await asyncio.sleep(0.1)
                    continue
                await self.customer.calls[answer["callId"]].cdr()
                came = [event for event in self.invited(carrier) if event.number == numbers[0]]
                if came and came[0].caller == shown.get("caller", came[0].caller):
                    return

    def invited(self, carrier: str) -> list[PhoneEvent]:
        log = self.stack.carriers[carrier].calls_log
        return [event for event in journal.read(log) if event.event is PhoneMoment.INVITED]


Start = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def start(
    start_stack: Callable[[AsyncExitStack], StartStack],
) -> AsyncIterator[Start]:
    async with AsyncExitStack() as exits:

        async def start(**carriers: Terms) -> Bench:
            # so many calls to busy phones would have the app locked
            settings = {"trunks": {"look_s": 0.2, "watch_calls": 6}, "abuse": {"unanswered": 0}}
            stack, customer = await start_stack(exits)(settings, more_carriers=carriers)
            database = Database(config.load(stack.settings_file).database_url)
            exits.push_async_callback(database.close)
            return Bench(stack, customer, database)

        yield start


async def test_calls_talk_on_whatever_becomes_of_their_trunk(start: Start) -> None:
    bench = await start(patient=PATIENT, closed=CLOSED)
    port = {name: carrier.sip_port for name, carrier in bench.stack.carriers.items()}
    bench.remove("sandbox")
    bench.remove("closed")
    numbers = [(f"1380000{n:02d}00", f"1390000{n:02d}00") for n in range(CALLS)]
    calls = [await bench.customer.call(*pair) for pair in numbers]
    await asyncio.gather(*(call.until_told("dst answered") for call in calls))

    bench.add(Trunk("added", "127.0.0.1", port["sandbox"], priority=-1, caller_format=NumberFormat.PLAIN))
    await bench.until_calls_go_to("sandbox", caller="862131264133")
    bench.change("added", state=TrunkState.DRAINING)
    await bench.until_calls_go_to("patient")
    bench.change("patient", codecs="ulaw", caller_format=NumberFormat.E164, options_s=1)
    await bench.until_calls_go_to("patient", caller="+862131264133")
    bench.change("patient", transport=Transport.TCP)
    await bench.until_calls_go_to("patient")
    bench.change("patient", port=port["closed"], username=USER, password=PASSWORD, register=True)
    await bench.until_calls_go_to("closed")
    bench.change("patient", state=TrunkState.DRAINING)
    await bench.until_refused(True)
    assert await bench_endpoints(bench) == {"trunk-added", "trunk-patient", "watch-added", "watch-patient"}
    bench.change("patient", state=TrunkState.OFF)
    bench.remove("added")
    async with asyncio.timeout(PATIENCE_S):
        while await bench_endpoints(bench):  # those that talk are still there; Asterisk has no trunk any more
            await asyncio.sleep(0.1)
    assert not [call for call in calls if "src disaccept" in call.told]

    for call, pair in zip(calls, numbers, strict=True):
        await nobody_was_cut(bench, call, pair)


async def bench_endpoints(bench: Bench) -> set[str]:
    """The endpoints that Asterisk has in its configuration."""
    said = await console(bench.stack, "pjsip list endpoints")
    return {word.partition("/")[0] for word in said.split() if word.startswith(("trunk-", "watch-"))}


async def nobody_was_cut(bench: Bench, call: Placed, numbers: tuple[str, str]) -> None:
    """The caller, who answered first, hung up in the end; until then each heard the other."""
    cdr = await call.cdr()
    assert cdr["callEndStatus"] == "1"
    assert call.told[-2:] == ["src disaccept", "dst disaccept"]
    carrier = bench.stack.carriers["patient"]
    events = journal.read(carrier.calls_log)
    ends = {event.number: event for event in events if event.event is PhoneMoment.HUNG_UP}
    answers = {event.number: event for event in events if event.event is PhoneMoment.ANSWERED}
    caller, callee = numbers
    assert ends[caller].by == "phone"
    for listener, speaker in (numbers, numbers[::-1]):
        answer = answers[listener]
        assert answer.heard is not None
        talked = (ends[caller].at - answers[callee].at) / timedelta(seconds=1)
        assert hears(carrier.heard_dir / answer.heard, tone_of(speaker)).seconds > talked - 1.5


async def test_a_carrier_that_is_gone_is_noticed_and_so_is_its_return(start: Start) -> None:
    bench = await start(other=Terms(phones=(BUSY,)))
    bench.change("sandbox", options_s=1)
    bench.change("other", options_s=1, state=TrunkState.DRAINING)
    await bench.until_refused(False)
    sandbox = bench.stack.carrier_child
    sandbox.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        await bench.until_refused(True)
        bench.change("other", state=TrunkState.ACTIVE)
        await bench.until_calls_go_to("other")
    finally:
        sandbox.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    await bench.until_calls_go_to("sandbox")


async def test_a_second_address_is_used_while_the_first_is_down(start: Start) -> None:
    bench = await start(other=Terms(phones=(BUSY,)))
    bench.remove("other")
    other = bench.stack.carriers["other"].sip_port
    bench.change("sandbox", options_s=1, more_addresses=(f"127.0.0.1:{other}",))
    await bench.until_calls_go_to("sandbox")
    assert not bench.invited("other")
    await bench.stack.carrier_child.stop()
    await bench.until_calls_go_to("other")
    assert not await bench.refused()
    await bench.stack.carrier_child.start()
    await bench.stack.carrier_child.wait_until_it_answers()
    await bench.until_calls_go_to("sandbox")


async def test_a_trunk_takes_no_more_legs_than_it_has_channels(start: Start) -> None:
    bench = await start()
    bench.change("sandbox", channels=2)
    await bench.until_refused(False)
    async with asyncio.timeout(PATIENCE_S):  # what has been tried so far is over
        while (answer := await bench.customer.post(bench.customer.request("13800000700", "13900000700")))[
            "errorCode"
        ] != "0":
            assert answer["errorCode"] == "-3"
            await asyncio.sleep(0.1)
    assert await bench.refused()
    cancelled = {"appId": "demo", "callId": answer["callId"]}
    await bench.customer.post(cancelled, "/201511v3/callCancel?id=demo")
    await bench.customer.calls[answer["callId"]].cdr()
    assert not await bench.refused()


async def test_invites_are_paced_on_the_wire(start: Start) -> None:
    """Counted at the carrier; every caller is busy, so that there is one INVITE a call."""
    bench = await start()
    per_second = 4
    bench.change("sandbox", calls_per_second=per_second, options_s=0)
    await bench.until_calls_go_to("sandbox")
    await asyncio.sleep(2)  # by now the change has been seen: that is a span of time
    pairs = [bench.new_numbers() for _ in range(20)]
    calls = await asyncio.gather(*(bench.customer.call(*pair) for pair in pairs))
    await asyncio.gather(*(call.cdr() for call in calls))
    callers = {pair[0] for pair in pairs}
    at = sorted(event.at for event in bench.invited("sandbox") if event.number in callers)
    assert len(at) == len(pairs)
    apart = [
        (later - first) / timedelta(seconds=1) for first, later in zip(at, at[per_second:], strict=False)
    ]
    assert min(apart) >= 1, apart
    assert (at[-1] - at[0]) / timedelta(seconds=1) < 2 * len(pairs) / per_second  # and no slower than it must


async def test_a_trunk_on_which_too_few_answer_is_locked(start: Start) -> None:
    bench = await start()
    bench.change("sandbox", min_answered=50)
    await bench.until_refused(True)  # all that it tries is busy
    found = bench.database.read_now(
        lambda connection: locks.find_lock(connection, LockKind.TRUNK, "sandbox", Clock().now_ms())
    )
    assert found is not None
    assert found.reason == "0 of the last 6 calls were answered, 50 % are asked for"
    bench.database.write_now(lambda connection: locks.lift(connection, LockKind.TRUNK, "sandbox"))
    assert not await bench.refused()
