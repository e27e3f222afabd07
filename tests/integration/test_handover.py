"""Calls in every state while the control plane is stopped or killed and started again; draining."""

from __future__ import annotations

import asyncio
import io
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import soundfile
from aiohttp import web
from sqlalchemy import text

from huibo.clock import Clock
from huibo.config import load
from huibo.engine.ari.client import AriClient
from huibo.office import tokens
from huibo.office.author import Author
from huibo.office.tokens import NewToken
from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.sandbox.tones import hears, tone_of
from huibo.stack.stack import Stack
from huibo.storage.database import open_engine
from huibo.storage.tokens import Role
from tests.integration import cli
from tests.integration.conftest import QUICK, StartStack
from tests.integration.customer import PATIENCE_S, Customer, Placed

LIMIT_S = 14
# some 15 s, longer than any restart: it goes on meanwhile; the other one is over by then
LONG, SHORT = "您好，这里是回拨平台，您有一个来电" * 4, "请按一"


def menu(prompt: str) -> dict[str, object]:
    return {"interruptPrompt": prompt, "keyList": [{"key": "1", "operate": "1"}], "repeatTimes": "0"}


@asynccontextmanager
async def deaf_at_first() -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, str]]]]:
    """A receiver that leaves the first push without an answer: its URL, and what arrives there."""
    arrived: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    never = asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        arrived.put_nowait(await request.json())
        if arrived.qsize() == 1 and not never.is_set():
            never.set()
            await asyncio.sleep(3600)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}/", arrived
    finally:
        await runner.cleanup()


async def limited(stack: Stack, customer: Customer, caller: str, callee: str) -> Placed:
    """A call that may last `LIMIT_S`: the callback API counts in minutes."""
    engine = open_engine(load(stack.settings_file).database_url)
    with engine.begin() as connection:
        by = Author("tests", "cli", Clock().now_ms())
        token = tokens.make(connection, by, NewToken(name="tests", role=Role.OPERATOR)).token
    engine.dispose()
    answered = {"leg": "callee", "moment": "answered"}
    body = {"app_id": "demo", "caller": caller, "callee": callee, "max_talk_s": LIMIT_S, "status": [answered]}
    body |= {"status_url": customer.receiver.url("status"), "cdr_url": customer.receiver.url("cdr")}
    headers = {"authorization": f"Bearer {token}"}
    async with customer.http.post(f"{stack.base_url}/v1/calls", json=body, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        call_id = (await answer.json())["call_id"]
    placed = customer.calls[call_id]
    placed.call_id = call_id
    return placed


async def cancel(customer: Customer, call: Placed) -> dict[str, str]:
    return await customer.post({"appId": "demo", "callId": call.call_id}, "/201511v3/callCancel?id=demo")


def once(call: Placed) -> list[str]:
    """What was told, in order; what had not been marked as delivered before a kill comes twice."""
    return list(dict.fromkeys(call.told))


class Knocking:
    """Requests, one after the other, whatever becomes of the server."""

    def __init__(self, customer: Customer) -> None:
        self._customer = customer
        self.accepted: list[str] = []
        self.unknown = 0
        self._task = asyncio.create_task(self._knock())

    async def _knock(self) -> None:
        for number in range(10_000):
            try:
                body = self._customer.request(f"1360{number:05d}07", f"1350{number:05d}07")
                answer = await self._customer.post(body)
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)
            except aiohttp.ClientError:
                self.unknown += 1  # the connection broke before the answer
            else:
                assert answer["errorCode"] in ("0", "-501"), answer
                if answer["errorCode"] == "0":
                    self.accepted.append(answer["callId"])

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_calls_in_every_state_outlive_the_control_plane(own: StartStack, how: signal.Signals) -> None:
    patient = {
        "push": {"status_retry_s": [0.2] * 50, "cdr_retry_s": [0.2] * 50},
        # a caller who answers while nobody is there has to be found before the ring timer is over
        "calls": QUICK["calls"] | {"caller_ring_s": 45},
    }
    stack, customer = await own(patient)
    async with deaf_at_first() as (url, pushed):
        talking = await customer.call("13800001200", "13900001200")
        going = await customer.call("13800001300", "13900001300")
        recorded = await customer.call("13800001400", "13900001402", record="1")
        bounded = await limited(stack, customer, "13800001500", "13900001500")
        calls = (talking, going, recorded, bounded)
        await asyncio.gather(*(call.until_told("dst answered") for call in calls))
        long = await customer.call("13800001011", "13900001001", preCallerHandle=menu(LONG))
        short = await customer.call("13800001111", "13900001101", preCallerHandle=menu(SHORT))
        left = await customer.call("13800001600", "13900001601")  # the callee hangs up after 5 s
        ringing = await customer.call("13800001703", "13900001701")
        callee_rings = await customer.call("13800001800", "13900001803")
        nobody_answers = await customer.call("13800001900", "13900001904")
        owed = await customer.call("13800002007", "13900002001", hangupUrl=url)
        await asyncio.gather(
            long.until_told("src answered"),
            short.until_told("src answered"),
            ringing.until_told("src ringing"),
            callee_rings.until_told("dst ringing"),
            nobody_answers.until_told("dst ringing"),
            left.until_told("dst answered"),
        )
        first = await asyncio.wait_for(pushed.get(), PATIENCE_S)
        knocking = Knocking(customer)
        while len(knocking.accepted) < 3:
            await asyncio.sleep(0.02)
        assert (await cancel(customer, going))["errorCode"] == "0"
        process = stack.control_child.process
        assert process is not None
        process.send_signal(how)
        ended = await asyncio.wait_for(process.wait(), 20)
        assert ended == (0 if how is signal.SIGTERM else -signal.SIGKILL)
        async for event in journal.follow(stack.carrier.calls_log):
            if event.number == "13900001601" and event.event is PhoneMoment.HUNG_UP:
                left_at = event.at.timestamp()
                break
        began = asyncio.get_running_loop().time()
        await stack.control_child.start()
        await customer.until_ready()
        print(f"owned {asyncio.get_running_loop().time() - began:.2f} s after the start")
        await knocking.stop()
        second = await asyncio.wait_for(pushed.get(), PATIENCE_S)
        assert first["callId"] == second["callId"] == owed.call_id

    assert (await cancel(customer, talking))["errorCode"] == "0"
    cdr = await talking.cdr()
    assert cdr["callEndStatus"] == "1"
    assert set(once(talking)[-2:]) == {"dst disaccept", "src disaccept"}  # whichever phone is quicker
    assert (await going.cdr())["callEndStatus"] == "1"

    cdr = await bounded.cdr()
    assert LIMIT_S <= int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"]) <= LIMIT_S + 3

    cdr = await left.cdr()  # nobody saw it: it is charged until huibo was last known to see anything
    assert cdr["callEndStatus"] == "1"
    assert int(cdr["endCallTime"]) <= left_at + 1

    for call in (long, short):
        assert (await call.cdr())["callEndStatus"] == "1"
        assert once(call)[:5] == ["src invite", "src ringing", "src answered", "dst invite", "dst ringing"]
    assert (await ringing.cdr())["callEndStatus"] == "1"
    assert once(ringing)[:4] == ["src invite", "src ringing", "src answered", "dst invite"]
    assert (await cancel(customer, callee_rings))["errorCode"] == "0"
    await callee_rings.cdr()
    assert (await nobody_answers.cdr())["callEndStatus"] == "3"
    assert once(nobody_answers)[-2:] == ["dst failed 408", "src disaccept"]

    cdr = await recorded.cdr()
    assert once(recorded)[-2:] == ["dst disaccept", "src disaccept"]
    async with customer.http.get((await recorded.recording())["recordUrl"]) as answer:
        samples, rate = soundfile.read(io.BytesIO(await answer.read()))
    length = len(samples) / rate
    assert 14 <= length <= 17
    for side, number in enumerate(("13800001400", "13900001402")):
        assert hears(samples[:, side], tone_of(number)).seconds > length - 1

    for call_id in knocking.accepted:
        await customer.calls[call_id].cdr()
    rung = Counter(e.number for e in journal.read(stack.carrier.calls_log) if e.event is PhoneMoment.INVITED)
    assert set(rung.values()) == {1}, [number for number, times in rung.items() if times > 1]
    await nothing_is_left(stack, len(knocking.accepted) + knocking.unknown + 12)


async def nothing_is_left(stack: Stack, at_most: int) -> None:
    """No channel, no bridge, and every call that there ever was has its end."""
    settings = load(stack.settings_file)
    own = settings.engine
    client = AriClient(
        own.url,
        own.username,
        own.password,
        "tests",
        heartbeat_s=5,
        request_timeout_s=10,
        on_event=lambda _: None,
    )
    try:
        async with asyncio.timeout(60):
            while await client.fetch("channels") or await client.fetch("bridges"):
                await asyncio.sleep(0.1)
    finally:
        await client.close()
    engine = open_engine(settings.database_url)
    with engine.connect() as connection:
        calls, over = connection.execute(text("SELECT count(*), count(ended_at) FROM calls")).one()
        records = connection.scalar(text("SELECT count(*) FROM cdrs"))
    engine.dispose()
    assert calls == over == records
    assert calls <= at_most


async def test_a_drained_cell_finishes_its_calls_and_takes_no_others(own: StartStack) -> None:
    stack, customer = await own()
    call = await customer.call("13800003000", "13900003002")
    await call.until_told("dst answered")
    given_up = await cli.huibo(stack, "drain", "--timeout", "3")
    assert given_up.code == 1
    assert "1 call goes on after 3 s" in given_up.err
    assert (await customer.post(customer.request("13800003100", "13900003100")))["errorCode"] == "-501"
    async with customer.http.get(f"{stack.base_url}/readyz") as answer:
        assert (answer.status, (await answer.json())["reason"]) == (503, "draining")
    health = await cli.huibo(stack, "health", "--json")
    assert (health.code, health.json["cells"][0]["draining"]) == (1, True)

    assert (await cli.huibo(stack, "drain", "--undo")).code == 0
    await customer.until_ready()
    other = await customer.call("13800003200", "13900003200")
    await other.until_told("dst answered")

    waiting = await cli.start(stack, "drain")
    await customer.until_ready(False)
    refused = await customer.post(customer.request("13800003300", "13900003300"))
    assert (refused["errorCode"], "draining" in refused["msg"]) == ("-501", True)
    await call.cdr()
    assert waiting.returncode is None
    assert (await cancel(customer, other))["errorCode"] == "0"
    said, complained = await asyncio.wait_for(waiting.communicate(), PATIENCE_S)
    assert complained == b""
    assert await waiting.wait() == 0
    assert [line for line in said.decode().splitlines() if "goes on" in line or "has none" in line]
    assert said.decode().splitlines()[-1] == "cell main takes no more calls and has none"

    await stack.control_child.stop()
    await stack.control_child.start()
    await customer.until_ready()  # a start ends it
    assert (await cli.huibo(stack, "drain", "--cell", "nobody")).code == 1
    told = await cli.huibo(stack, "drain", "--no-wait")
    assert told.out == "cell main takes no more calls; no call goes on\n"


async def test_legs_that_wait_for_their_trunk_are_dialled_after_a_restart(own: StartStack) -> None:
    stack, customer = await own()
    assert (await cli.huibo(stack, "trunk", "set", "sandbox", "calls-per-second=1")).code == 0
    calls = [await customer.call(f"13800004{n}00", f"13900004{n}01") for n in range(4)]
    await calls[0].until_told("src answered")
    await stack.control_child.stop()
    await stack.control_child.start()
    for cdr in await asyncio.gather(*(call.cdr() for call in calls)):
        assert cdr["callEndStatus"] == "1"
    invited = [e.number for e in journal.read(stack.carrier.calls_log) if e.event is PhoneMoment.INVITED]
    assert len(invited) == len(set(invited)) == 8
