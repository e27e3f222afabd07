"""Calls whose carriers exchange the audio themselves: SIPp is the carriers, against the whole product.

All calls are placed at once, each over trunks of its own.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
import soundfile

from huibo import config
from huibo.clock import Clock
from huibo.model import Trunk
from huibo.sandbox.tones import hears
from huibo.stack.stack import Stack
from huibo.storage import catalog
from huibo.storage.database import open_engine
from tests.integration.conftest import StartStack
from tests.integration.customer import PATIENCE_S, Customer, Placed
from tests.integration.sipp import FarEnd

CALLER_HZ, CALLEE_HZ = 700, 1000
SPOKEN_S = 1.0


@dataclass(frozen=True)
class Under:
    """A call that talks, and its far end."""

    placed: Placed
    numbers: tuple[str, str]
    far_end: FarEnd

    def asked(self) -> dict[str, list[int]]:
        """Where the far end was told to send its audio after the first time, by leg."""
        ports = {"caller": self.far_end.caller.port, "callee": self.far_end.callee.port}
        again = {leg: self.far_end.received("INVITE", str(port)) for leg, port in ports.items()}
        return {leg: [_media(invite) for invite in invites] for leg, invites in again.items()}

    async def until_asked(self) -> dict[str, list[int]]:
        async with asyncio.timeout(PATIENCE_S):
            while not all((asked := self.asked()).values()):
                await asyncio.sleep(0.05)
        return asked

    async def speaks(self, caller_to: int, callee_to: int) -> None:
        """Both sides, until each has heard the other."""
        caller, callee = self.far_end.caller, self.far_end.callee
        caller.speak(CALLER_HZ, ("127.0.0.1", caller_to))
        callee.speak(CALLEE_HZ, ("127.0.0.1", callee_to))
        await asyncio.gather(caller.until_heard(SPOKEN_S), callee.until_heard(SPOKEN_S))
        assert hears(caller.samples, CALLEE_HZ).seconds > SPOKEN_S / 2
        assert hears(callee.samples, CALLER_HZ).seconds > SPOKEN_S / 2


@dataclass(frozen=True)
class Calls:
    stack: Stack
    customer: Customer
    direct: Under
    limited: Under
    recorded: Under
    one_sided: Under  # only the caller's trunk has the option, and nobody says anything

    async def asks(self, operation: str, call: Under) -> dict[str, str]:
        body = {"appId": "demo", "callId": call.placed.call_id}
        return await self.customer.post(body, f"/201511v3/{operation}?id=demo")


@pytest.fixture(scope="module")
async def calls(
    start_stack: Callable[[AsyncExitStack], StartStack], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Calls]:
    names = ("direct", "limited", "recorded", "one_sided")
    async with AsyncExitStack() as exits:
        stack, customer = await start_stack(exits)()
        folder = tmp_path_factory.mktemp("sipp")
        ends = [FarEnd(folder / name, "direct", "direct", 2, {}) for name in names]
        await asyncio.gather(*(exits.enter_async_context(end) for end in ends))
        made = []
        for at, (name, end) in enumerate(zip(names, ends, strict=True)):
            numbers = f"138{at:08d}", f"139{at:08d}"
            add_trunks(stack, name, end.port, numbers)
            fields = {"record": "1"} if name == "recorded" else {}
            made.append(Under(await customer.call(*numbers, **fields), numbers, end))
        await asyncio.gather(*(one.placed.until_told("dst answered") for one in made))
        calls = Calls(stack, customer, *made)
        spoken = calls.recorded  # the watchdog does not wait for its test
        await spoken.speaks(*(spoken.far_end.offered_port(number) for number in spoken.numbers))
        yield calls


def add_trunks(stack: Stack, name: str, port: int, numbers: tuple[str, str]) -> None:
    """One for each leg. They come before the sandbox's for these numbers."""
    database = open_engine(config.load(stack.settings_file).database_url)
    with database.begin() as connection:
        for leg, number in zip(("caller", "callee"), numbers, strict=True):
            trunk = Trunk(
                f"{name}-{leg}",
                "127.0.0.1",
                port,
                priority=-1,
                prefixes=(f"86{number}",),
                options_s=0,
                direct_media=(name, leg) != ("one_sided", "callee"),
            )
            catalog.add_trunk(connection, trunk, Clock().now_ms())
    database.dispose()


async def test_the_far_ends_send_their_audio_to_each_other(calls: Calls) -> None:
    call = calls.direct
    asked = await call.until_asked()
    to_callee, to_caller = call.far_end.callee.port, call.far_end.caller.port
    assert (asked["caller"][-1], asked["callee"][-1]) == (to_callee, to_caller)
    await call.speaks(asked["caller"][-1], asked["callee"][-1])


async def test_the_watchdog_leaves_alone_whose_audio_it_cannot_see(calls: Calls) -> None:
    """It ends a call that is as silent for it and goes through the engine; then the other is cancelled."""
    cdr = await calls.one_sided.placed.cdr()
    assert cdr["callEndStatus"] == "1"
    assert calls.one_sided.asked() == {"caller": [], "callee": []}
    assert (await calls.asks("getStatus", calls.direct))["callStatus"] == "4"
    assert not calls.direct.placed.cdrs
    assert (await calls.asks("callCancel", calls.direct))["errorCode"] == "0"
    assert (await calls.direct.placed.cdr())["callEndStatus"] == "1"
    await calls.direct.far_end.verdict()  # both legs were hung up


async def test_asterisk_keeps_the_limit_of_what_it_does_not_hear(calls: Calls) -> None:
    call = calls.limited
    await call.until_asked()
    engine = config.load(calls.stack.settings_file).engine
    headers = {"Authorization": aiohttp.encode_basic_auth(engine.username, engine.password)}
    async with aiohttp.ClientSession(headers=headers) as http:
        for leg in ("a", "b"):  # as for every talk, but a minute is the shortest that can be agreed
            url = f"{engine.url}/ari/channels/{call.placed.call_id}-{leg}/variable"
            query = {"variable": "TIMEOUT(absolute)", "value": "1"}
            async with http.post(url, params=query) as answer:
                assert answer.status == 204
    assert (await call.placed.cdr())["callEndStatus"] == "1"
    await call.far_end.verdict()


async def test_a_recorded_call_goes_through_the_engine(calls: Calls) -> None:
    call = calls.recorded
    await calls.asks("callCancel", call)
    await call.placed.cdr()
    assert call.asked() == {"caller": [], "callee": []}
    push = await call.placed.recording()
    async with calls.customer.http.get(push["recordUrl"]) as answer:
        samples, _ = soundfile.read(io.BytesIO(await answer.read()))
    for channel, hz in enumerate((CALLER_HZ, CALLEE_HZ)):
        assert hears(samples[:, channel], hz).seconds > SPOKEN_S / 2


def _media(invite: str) -> int:
    found = re.search(r"^c=IN IP4 127\.0\.0\.1$.*^m=audio (\d+) ", invite, re.DOTALL | re.MULTILINE)
    assert found, invite
    return int(found[1])
