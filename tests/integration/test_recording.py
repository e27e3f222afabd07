"""Recordings of real conversations between sandbox phones, each with a tone of its own.

All calls are placed at once; each test waits for its own.
"""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass

import pytest
import soundfile

from huibo.sandbox.tones import hears, tone_of
from huibo.stack.stack import Stack
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer, Placed
from tests.integration.test_siblings import huibo


@dataclass(frozen=True)
class Scenario:
    """Two phones, how their talk ends, and about how long it lasts."""

    name: str
    caller: str
    callee: str
    talk_s: float


SCENARIOS = [
    Scenario("callee-hangs-up", "00", "01", 5),
    Scenario("caller-hangs-up", "02", "00", 13),
    Scenario("cancelled", "00", "00", 3),
    Scenario("with-ringing", "02", "03", 8),  # what came before the talk is not in it
]


def numbers_of(scenario: Scenario) -> tuple[str, str]:
    index = SCENARIOS.index(scenario)
    return f"135{index:06d}{scenario.caller}", f"134{index:05d}2{scenario.callee}"


@pytest.fixture(scope="module")
async def placed(customer: Customer) -> dict[str, Placed]:
    async def place(scenario: Scenario) -> Placed:
        call = await customer.call(*numbers_of(scenario), record="1")
        if scenario.name == "cancelled":
            await call.until_told("dst answered")
            await asyncio.sleep(scenario.talk_s)
            await customer.post({"appId": "demo", "callId": call.call_id}, "/201511v3/callCancel?id=demo")
        return call

    calls = await asyncio.gather(*map(place, SCENARIOS))
    return {scenario.name: call for scenario, call in zip(SCENARIOS, calls, strict=True)}


async def download(customer: Customer, url: str) -> bytes:
    async with customer.http.get(url) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "audio/mpeg"
        return await answer.read()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
async def test_each_channel_holds_its_partys_voice(
    customer: Customer, placed: dict[str, Placed], scenario: Scenario
) -> None:
    call = placed[scenario.name]
    cdr = await call.cdr()
    push = await call.recording()
    assert {key: push[key] for key in ("appId", "callId", "src", "dst")} == {
        key: cdr[key] for key in ("appId", "callId", "src", "dst")
    }
    samples, rate = soundfile.read(io.BytesIO(await download(customer, push["recordUrl"])))
    assert (rate, samples.shape[1]) == (8000, 2)
    length = len(samples) / rate
    talked = int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"])
    assert abs(length - talked) <= 1.2
    assert abs(length - scenario.talk_s) <= 3
    for channel, (own, other) in enumerate((numbers_of(scenario), numbers_of(scenario)[::-1])):
        assert hears(samples[:, channel], tone_of(own)).seconds > length - 1
        assert not hears(samples[:, channel], tone_of(other))
    row = (await customer.post({"appId": "demo", "callId": call.call_id}, "/201511v3/getCdr?id=demo"))["cdr"][
        0
    ]
    assert await download(customer, row["recordUrl"])  # type: ignore[index]


async def test_nothing_is_recorded_unasked(
    stack: Stack, customer: Customer, placed: dict[str, Placed]
) -> None:
    call = await customer.call("13500009900", "13400009901")
    await call.cdr()
    for other in placed.values():
        await other.recording()
    assert call.recordings == []
    files = [path.name for path in stack.folder.rglob("*") if call.call_id in path.name]
    assert files == []


async def test_a_link_that_was_tampered_with(customer: Customer, placed: dict[str, Placed]) -> None:
    url = (await placed["callee-hangs-up"].recording())["recordUrl"]
    stem, _, ending = url.rpartition(".")
    for wrong in (f"{stem[:-1]}{'A' if stem[-1] != 'A' else 'B'}.{ending}", f"{stem}x.{ending}"):
        async with customer.http.get(wrong) as answer:
            assert answer.status == 403
    async with customer.http.get(url, headers={"Range": "bytes=100-199"}) as answer:
        assert answer.status == 206
        assert len(await answer.read()) == 100


async def test_a_recording_is_finished_after_a_restart(own: StartStack) -> None:
    stack, customer = await own()
    call = await customer.call("13500000002", "13400000003", record="1")
    await call.until_told("dst answered")
    stack.control_child.process.kill()  # type: ignore[union-attr]
    await stack.control_child.process.wait()  # type: ignore[union-attr]
    await stack.control_child.start()
    await customer.until_ready()
    await call.cdr()
    assert await download(customer, (await call.recording())["recordUrl"])


async def test_a_recording_that_fails_is_shown_to_the_operator(own: StartStack) -> None:
    stack, customer = await own({"recording": {"retry_s": [0.2], "folder": "/proc/nowhere"}})
    ready = await customer.call("13500000000", "13400000001", record="1")
    await ready.cdr()
    async with asyncio.timeout(30):
        while not (found := json.loads(await huibo(stack, "recording", "list", "--json")))[0]["reason"]:
            await asyncio.sleep(0.2)
    assert found[0]["call_id"] == ready.call_id
    assert found[0]["reason"]
    assert ready.recordings == []
