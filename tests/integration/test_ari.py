"""The line to Asterisk, on a real one: answers, errors, silence, death, and what is told of each in time."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

import huibo
from huibo.clock import Clock
from huibo.config import EngineSettings, load
from huibo.engine.ari.adapter import AriEngine
from huibo.engine.ari.client import AriClient, AriError
from huibo.engine.ari.trunks import Trunks
from huibo.engine.events import LegEvent
from huibo.engine.install.binary import Asterisk
from huibo.engine.install.instance import Instance, render
from huibo.errors import EngineError, OutcomeUnknown
from huibo.model import Trunk, TrunkState
from huibo.recording.raw import RawRecordings
from huibo.stack.children import Child
from huibo.stack.ports import free, free_in_both
from huibo.stack.stack import SYSTEM_CA

TEMPLATES = Path(huibo.__file__).parent / "engine/ari/etc"
PASSWORD = "right"
HEARTBEAT_S = 2.0
SLACK_S = 1.0  # of a machine that does other things, too
_apps = (f"app-{number}" for number in itertools.count(1))


@dataclass
class Server:
    """A running Asterisk, configured as the engine of a huibo.

    Each client is an application of its own: Asterisk ends the one that it knows by a name a moment after the
    connection, and with it another that has just begun under that name.
    """

    url: str
    child: Child

    def send(self, number: signal.Signals) -> None:
        """Send a signal; when this returns after SIGSTOP, nothing runs any more."""
        os.kill(self.child.pid, number)
        if number is signal.SIGSTOP:
            os.waitid(os.P_PID, self.child.pid, os.WSTOPPED | os.WNOWAIT)

    async def restart(self) -> None:
        assert self.child.process is not None
        await self.child.process.wait()
        await self.child.start()
        await self.child.wait_until_it_answers()

    def settings(self, **more: Any) -> EngineSettings:
        own = {"url": self.url, "password": PASSWORD, "app": next(_apps)}
        quick = {"heartbeat_s": HEARTBEAT_S, "reconnect_s": 0.1}
        return load().engine.model_copy(update=own | quick | more)

    def client(self, **more: Any) -> AriClient:
        given: dict[str, Any] = {
            "base_url": self.url,
            "username": "huibo",
            "password": PASSWORD,
            "app": next(_apps),
            "heartbeat_s": HEARTBEAT_S,
            "request_timeout_s": 10.0,
            "on_event": lambda _event: None,
        }
        return AriClient(**given | more)


@asynccontextmanager
async def running(asterisk: Asterisk, folder: Path, without: Container[str] = ()) -> AsyncIterator[Server]:
    http_port, tls_port, unverified_port = free(SOCK_STREAM, SOCK_STREAM, SOCK_STREAM)
    instance = Instance(asterisk, folder)
    values = {
        "http_port": http_port,
        "sip_bind": f"127.0.0.1:{free_in_both()}",
        "tls_bind": f"127.0.0.1:{tls_port}",
        "tls_unverified_bind": f"127.0.0.1:{unverified_port}",
        "ca_file": SYSTEM_CA,
        "rtp_start": 10000,
        "rtp_end": 20000,
        "ari_username": "huibo",
        "ari_password": PASSWORD,
        "ari_app": "huibo",
    }
    files = render(TEMPLATES, values)
    instance.write({name: text for name, text in files.items() if name not in without})

    async def answers() -> bool:
        asked = await asyncio.create_subprocess_exec(
            *instance.cli("core waitfullybooted"), env=instance.env, stdout=PIPE, stderr=PIPE
        )
        return b"fully booted" in (await asked.communicate())[0]

    child = Child("asterisk", instance.argv, instance.env, folder / "asterisk.log", answers)
    await child.start()
    try:
        await child.wait_until_it_answers()
        yield Server(f"http://127.0.0.1:{http_port}", child)
    finally:
        if child.alive:
            os.kill(child.pid, signal.SIGCONT)
        await child.stop()


@pytest.fixture(scope="module")
async def server(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """An Asterisk that all tests share; it may be stopped, but goes on afterwards."""
    async with running(asterisk, tmp_path_factory.mktemp("a")) as one:
        yield one


@pytest.fixture
async def own(asterisk: Asterisk, tmp_path: Path) -> AsyncIterator[Server]:
    """An Asterisk for this test alone: it may be killed."""
    async with running(asterisk, tmp_path / "a") as one:
        yield one


Connect = Callable[..., Awaitable[tuple[AriClient, asyncio.Task[None]]]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects clients, and reads for each of them in a task of its own."""
    async with AsyncExitStack() as exits:

        async def connect(client: AriClient) -> tuple[AriClient, asyncio.Task[None]]:
            await client.connect()
            reader = asyncio.create_task(client.run())
            exits.push_async_callback(asyncio.wait_for, client.close(), 10)
            exits.callback(reader.cancel)
            return client, reader

        yield connect


async def forgotten(client: AriClient) -> None:
    """Asterisk has seen that nobody is connected any more."""
    async with asyncio.timeout(10):
        while await client.fetch("applications"):
            await asyncio.sleep(0.02)


def since(began: float) -> float:
    return asyncio.get_running_loop().time() - began


async def test_requests_are_answered_each_with_its_own(server: Server, connect: Connect) -> None:
    client, _ = await connect(server.client())
    assert client.connected
    names = [f"HUIBO_TEST_{number}" for number in range(100)]
    nothing = await asyncio.gather(
        *(client.request("POST", "asterisk/variable", variable=name, value=f"是 {name}") for name in names)
    )
    assert set(nothing) == {None}  # an answer without a body
    found = await asyncio.gather(
        *(client.request("GET", "asterisk/variable", variable=name) for name in names)
    )
    assert found == [{"value": f"是 {name}"} for name in names]


async def test_a_body_is_sent_and_an_answer_decoded(server: Server, connect: Connect) -> None:
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    client, _ = await connect(server.client(app="greetings", on_event=events.put_nowait))
    body = {"variables": {"text": "名字", "other": "1"}}
    assert await client.request("POST", "events/user/hello", body, application="greetings") is None
    event = await asyncio.wait_for(events.get(), 5)
    assert (event["type"], event["eventname"]) == ("ChannelUserevent", "hello")
    assert event["userevent"]["text"] == "名字"
    made = await client.request("POST", "bridges", bridgeId="body", type="mixing")
    assert (made["id"], made["channels"]) == ("body", [])
    assert await client.request("DELETE", "bridges/body") is None


async def test_an_error_says_what_was_asked_and_why_not(server: Server, connect: Connect) -> None:
    client, reader = await connect(server.client())
    with pytest.raises(AriError, match=r"^GET bridges/nothing: 404 Bridge not found$") as failed:
        await client.request("GET", "bridges/nothing")
    assert failed.value.status == 404
    with pytest.raises(AriError) as failed:
        await client.request("POST", "channels", endpoint="PJSIP/1@nothing", app="any")
    assert failed.value.status >= 400
    assert not isinstance(failed.value, OutcomeUnknown)
    assert not reader.done()


async def test_events_come_in_the_order_in_which_they_happened(server: Server, connect: Connect) -> None:
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    client, _ = await connect(server.client(app="orders", on_event=events.put_nowait))
    sent = [f"event-{number}" for number in range(300)]
    await asyncio.gather(
        *(client.request("POST", f"events/user/{name}", application="orders") for name in sent)
    )
    came = [(await asyncio.wait_for(events.get(), 5))["eventname"] for _ in sent]
    assert came == sent


async def test_long_lists_are_fetched_over_http(server: Server, connect: Connect) -> None:
    """As one message over the WebSocket, a list of this size would crash Asterisk."""
    client, reader = await connect(server.client())
    assert await client.fetch("channels") == []
    made = [f"bridge-{number}" for number in range(1500)]
    for start in range(0, len(made), 100):
        some = made[start : start + 100]
        await asyncio.gather(
            *(client.request("POST", "bridges", bridgeId=name, type="mixing") for name in some)
        )
    listed = await client.fetch("bridges")
    assert {bridge["id"] for bridge in listed} == set(made)
    for start in range(0, len(made), 100):
        some = made[start : start + 100]
        await asyncio.gather(*(client.request("DELETE", f"bridges/{name}") for name in some))
    assert await client.fetch("bridges") == []
    assert not reader.done()
    for name in ("bridges", "channels", "endpoints", "applications"):
        with pytest.raises(ValueError, match=f"{name} is a list"):
            await client.request("GET", name)
    with pytest.raises(AriError, match=r"^GET bridges/nothing: 404") as failed:
        await client.fetch("bridges/nothing")
    assert failed.value.status == 404


async def test_before_the_connection_nothing_is_sent(server: Server) -> None:
    client = server.client()
    assert not client.connected
    with pytest.raises(EngineError, match="not connected") as failed:
        await client.request("GET", "asterisk/ping")
    assert not isinstance(failed.value, OutcomeUnknown)
    await client.close()


async def test_nobody_listens(server: Server) -> None:
    (port,) = free(SOCK_STREAM)
    client = server.client(base_url=f"http://127.0.0.1:{port}")
    for attempt in (client.connect, lambda: client.fetch("bridges")):
        with pytest.raises(EngineError, match=f"127.0.0.1:{port}"):
            await attempt()
    assert not client.connected
    await client.close()


async def test_a_wrong_password_is_told_and_not_repeated(server: Server) -> None:
    client = server.client(password="s3cret")
    for attempt in (client.connect, lambda: client.fetch("bridges")):
        with pytest.raises(EngineError, match="401") as failed:
            await attempt()
        assert "s3cret" not in str(failed.value)
    await client.close()


async def test_an_answer_that_is_late_is_an_unknown_outcome_and_disturbs_nobody(
    server: Server, connect: Connect
) -> None:
    client, reader = await connect(server.client(request_timeout_s=0.3, heartbeat_s=30.0))
    server.send(signal.SIGSTOP)
    try:
        with pytest.raises(OutcomeUnknown, match=r"^GET bridges/late: no answer"):
            await client.request("GET", "bridges/late")
        with pytest.raises(EngineError, match=r"^GET bridges/late"):
            await client.fetch("bridges/late")
    finally:
        server.send(signal.SIGCONT)
    # The late answer is an error; that of the next request must not be taken for it
    assert await client.request("GET", "asterisk/variable", variable="HUIBO_UNSET") == {"value": ""}
    assert not reader.done()


async def test_requests_are_taken_in_the_order_in_which_they_are_sent(
    server: Server, connect: Connect
) -> None:
    """Without waiting for one answer before the next is sent."""
    client, _ = await connect(server.client())
    answers = []
    for number in range(100):
        for method, value in (("POST", {"value": number}), ("GET", {})):
            sent = await client.send(method, "asterisk/variable", None, variable="HUIBO_ORDER", **value)
            answers.append(sent)
    said = await asyncio.gather(*answers)
    assert said == [answer for number in range(100) for answer in (None, {"value": str(number)})]


async def test_a_refusal_that_nobody_waits_for_is_logged_but_not_of_what_is_gone(
    server: Server, connect: Connect
) -> None:
    client, _ = await connect(server.client())
    with capture_logs() as logs:
        await client.tell("DELETE", "bridges/nothing")
        await client.tell("POST", "channels/create", endpoint="PJSIP/1@nothing", app="any")
        await client.request("GET", "asterisk/ping")  # answered after those
        await asyncio.sleep(0)
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("engine refused", "warning")
    assert entry["reason"].startswith("POST channels/create: 500 ")


async def test_what_nobody_waits_for_any_more_is_not_complained_of(own: Server, connect: Connect) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    client, reader = await connect(own.client(request_timeout_s=60.0))
    await client.send("GET", "bridges/nothing")  # an error
    given_up = asyncio.create_task(client.request("GET", "asterisk/ping"))
    await asyncio.sleep(0)
    given_up.cancel()
    await client.request("GET", "asterisk/ping")
    own.send(signal.SIGSTOP)
    for _ in range(3):
        await client.send("GET", "asterisk/ping")  # never answered
    own.send(signal.SIGKILL)
    await asyncio.wait_for(reader, SLACK_S)
    gc.collect()
    assert complaints == []


async def test_each_request_has_its_own_time(server: Server, connect: Connect) -> None:
    timeout_s = 0.6
    client, _ = await connect(server.client(request_timeout_s=timeout_s, heartbeat_s=30.0))
    loop, took = asyncio.get_running_loop(), []

    async def ask() -> None:
        began = loop.time()
        with pytest.raises(OutcomeUnknown, match=r"^GET asterisk/ping: no answer"):
            await client.request("GET", "asterisk/ping")
        took.append(since(began))

    assert (await client.request("GET", "asterisk/ping"))["ping"] == "pong"
    server.send(signal.SIGSTOP)
    try:
        asked = []
        for _ in range(4):
            asked.append(asyncio.create_task(ask()))
            await asyncio.sleep(timeout_s / 4)
        await asyncio.gather(*asked)
    finally:
        server.send(signal.SIGCONT)
    assert timeout_s - 0.01 <= min(took) <= max(took) < timeout_s + SLACK_S / 2
    assert (await client.request("GET", "asterisk/ping"))["ping"] == "pong"


async def test_silence_is_noticed_within_the_heartbeat(server: Server, connect: Connect) -> None:
    client, reader = await connect(server.client(request_timeout_s=60.0))
    server.send(signal.SIGSTOP)
    try:
        began = asyncio.get_running_loop().time()
        open_requests = [asyncio.create_task(client.request("GET", "asterisk/ping")) for _ in range(20)]
        await asyncio.wait_for(reader, HEARTBEAT_S + SLACK_S)
        assert since(began) > 0.3 * HEARTBEAT_S  # not by an accident
        results = await asyncio.wait_for(asyncio.gather(*open_requests, return_exceptions=True), SLACK_S)
        assert {type(result) for result in results} == {OutcomeUnknown}
        assert not client.connected
        assert client.heard_at is not None
        assert client.heard_at <= began
        with pytest.raises(EngineError, match="not connected"):
            await client.request("GET", "asterisk/ping")
    finally:
        server.send(signal.SIGCONT)
    await forgotten(client)
    await connect(client)  # the same client, once more
    assert (await client.request("GET", "asterisk/ping"))["ping"] == "pong"


async def test_death_is_noticed_at_once(own: Server, connect: Connect) -> None:
    client, reader = await connect(own.client(heartbeat_s=60.0, request_timeout_s=60.0))
    own.send(signal.SIGSTOP)  # so that the requests are open when it dies
    open_requests = [asyncio.create_task(client.request("GET", "asterisk/ping")) for _ in range(20)]
    await asyncio.sleep(0)
    died = asyncio.get_running_loop().time()
    own.send(signal.SIGKILL)
    await asyncio.wait_for(reader, SLACK_S)
    assert client.heard_at is not None
    assert client.heard_at >= died  # its sockets are closed in that moment
    results = await asyncio.wait_for(asyncio.gather(*open_requests, return_exceptions=True), SLACK_S)
    assert {type(result) for result in results} == {OutcomeUnknown}
    assert not client.connected
    await own.restart()
    await connect(client)
    assert (await client.request("GET", "asterisk/ping"))["ping"] == "pong"


async def test_closing_leaves_no_request_waiting(server: Server, connect: Connect) -> None:
    client, reader = await connect(server.client(request_timeout_s=60.0, heartbeat_s=60.0))
    server.send(signal.SIGSTOP)
    try:
        waiting = asyncio.create_task(client.request("GET", "asterisk/ping"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
    finally:
        server.send(signal.SIGCONT)
    await asyncio.wait_for(closing, 5)
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(asyncio.gather(reader, return_exceptions=True), 1)


TRUNK = Trunk("carrier", "192.0.2.1", 5080, "alaw", "user", "p;w= ä", options_s=0)
ACCOUNT = replace(TRUNK, register=True, more_addresses=("192.0.2.2:5081",), options_s=600)


async def attributes(client: AriClient, kind: str, name: str = "trunk-carrier") -> dict[str, str]:
    """What Asterisk holds of an object."""
    path = f"asterisk/config/dynamic/res_pjsip/{kind}/{name}"
    return {one["attribute"]: one["value"] for one in await client.request("GET", path)}


async def held(client: AriClient) -> set[tuple[str, str]]:
    """All objects of the trunk that Asterisk holds."""
    records = ("trunk-carrier", "trunk-carrier.2")
    names = [("auth", "trunk-carrier"), ("registration", "trunk-carrier"), ("endpoint", "trunk-carrier")]
    found = set()
    for kind, name in (*names, ("endpoint", "watch-carrier"), *(("aor", record) for record in records)):
        try:
            if await attributes(client, kind, name):
                found.add((kind, name))
        except AriError as error:
            if error.status != 404:
                raise
    return found


ALL = {
    ("auth", "trunk-carrier"),
    ("aor", "trunk-carrier"),
    ("aor", "trunk-carrier.2"),
    ("endpoint", "watch-carrier"),
    ("endpoint", "trunk-carrier"),
    ("registration", "trunk-carrier"),
}


def trunks_of(client: AriClient) -> Trunks:
    return Trunks(client, 60)


async def test_a_trunk_is_known_to_asterisk_from_then_on(own: Server, connect: Connect) -> None:
    client, _ = await connect(own.client())
    trunks = trunks_of(client)
    assert await trunks.ensure(TRUNK) == "trunk-carrier"
    endpoint = await attributes(client, "endpoint")
    assert (endpoint["allow"], endpoint["rtp_timeout"]) == ("(alaw)", "60")
    assert endpoint["outbound_auth"] == "trunk-carrier"
    assert (await attributes(client, "aor"))["contact"] == "sip:192.0.2.1:5080"
    auth = await attributes(client, "auth")
    assert (auth["username"], auth["password"]) == ("user", "p;w= ä")
    moved = replace(TRUNK, host="2001:db8::1", codecs="ulaw", password="other", from_domain="a.example")
    await trunks.ensure(moved)
    assert (await attributes(client, "aor"))["contact"] == "sip:[2001:db8::1]:5080"
    endpoint = await attributes(client, "endpoint")
    assert (endpoint["allow"], endpoint["from_domain"]) == ("(ulaw)", "a.example")
    assert (await attributes(client, "auth"))["password"] == "other"
    await trunks.ensure(TRUNK)
    assert (await attributes(client, "endpoint"))["from_domain"] == ""


async def test_what_a_trunk_no_longer_has_is_gone(server: Server, connect: Connect) -> None:
    client, _ = await connect(server.client())
    trunks = trunks_of(client)
    await trunks.ensure(ACCOUNT)
    assert await held(client) == ALL
    plain = Trunk("carrier", "192.0.2.1", 5080, options_s=0)
    await trunks.ensure(plain)
    assert (await attributes(client, "endpoint"))["outbound_auth"] == ""
    trunks.know({"carrier": plain})
    following = asyncio.create_task(trunks.run())
    try:
        await until_held(client, {("aor", "trunk-carrier"), ("endpoint", "trunk-carrier")})
        trunks.know({})
        await until_held(client, set())
    finally:
        following.cancel()


async def until_held(client: AriClient, wanted: set[tuple[str, str]]) -> None:
    async with asyncio.timeout(20):
        while await held(client) != wanted:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("restarted", [True, False], ids=["asterisk", "only-the-connection"])
async def test_after_a_loss_asterisk_has_the_trunks_again_and_no_others(
    own: Server, connect: Connect, restarted: bool
) -> None:
    client, reader = await connect(own.client())
    trunks = trunks_of(client)
    trunks.know({"carrier": ACCOUNT})
    await trunks.connected()
    await trunks.ensure(replace(TRUNK, name="other"))
    if restarted:
        own.send(signal.SIGKILL)
    else:
        await client.disconnect()
    await asyncio.wait_for(reader, SLACK_S)
    if restarted:
        await own.restart()
    await connect(client)
    assert bool(await held(client)) is not restarted  # it was in memory only
    trunks.know({"carrier": replace(ACCOUNT, register=False, more_addresses=())})
    await trunks.connected()
    assert await held(client) == ALL - {("registration", "trunk-carrier"), ("aor", "trunk-carrier.2")}
    assert {one["resource"] for one in await client.fetch("endpoints")} == {"trunk-carrier", "watch-carrier"}


async def test_a_trunk_is_pushed_when_it_changes_and_not_again(server: Server, connect: Connect) -> None:
    client, reader = await connect(server.client())
    trunks = trunks_of(client)
    await trunks.ensure(TRUNK)
    await client.disconnect()
    await asyncio.wait_for(reader, SLACK_S)
    assert await trunks.ensure(TRUNK) == "trunk-carrier"  # asks nobody
    with pytest.raises(EngineError, match="not connected"):
        await trunks.ensure(replace(TRUNK, codecs="ulaw"))


async def test_a_trunk_that_cannot_be_used_is_refused(server: Server, connect: Connect) -> None:
    client, _ = await connect(server.client())
    trunks, bad = trunks_of(client), replace(TRUNK, name="bad", codecs="no-such-codec")
    with pytest.raises(EngineError, match="trunk carrier is not in use"):
        await trunks.ensure(replace(TRUNK, state=TrunkState.OFF))
    with pytest.raises(AriError):
        await trunks.ensure(bad)
    trunks.know({"bad": bad, "carrier": TRUNK})
    await trunks.connected()  # one bad trunk keeps no other from being made
    assert ("endpoint", "trunk-carrier") in await held(client)
    assert (trunks.line("bad").usable, trunks.line("carrier").usable) == (False, True)
    trunks.know({"bad": replace(bad, codecs="alaw")})
    await trunks.connected()
    assert trunks.line("bad").usable


@dataclass
class Listener:
    """Writes down what the engine tells."""

    told: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def on_leg_event(self, event: LegEvent) -> None:
        self.told.put_nowait(type(event).__name__)

    async def on_engine_back(self) -> None:
        self.told.put_nowait("back")

    def on_engine_lost(self) -> None:
        self.told.put_nowait("lost")

    async def next(self, within_s: float) -> str:
        return await asyncio.wait_for(self.told.get(), within_s)


@asynccontextmanager
async def engine_of(
    server: Server, folder: Path, **settings: Any
) -> AsyncIterator[tuple[AriEngine, Listener]]:
    async def find_trunk(_name: str) -> Trunk | None:
        return None

    engine = AriEngine(
        server.settings(**settings), 60, Clock(), RawRecordings(folder), folder / "tone.wav", find_trunk
    )
    listener = Listener()
    task = asyncio.create_task(engine.run(listener))
    try:
        yield engine, listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(engine: AriEngine, ready: bool, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while engine.ready is not ready:
            await asyncio.sleep(0.02)


async def test_the_engine_is_ready_only_while_asterisk_answers(server: Server, tmp_path: Path) -> None:
    async with engine_of(server, tmp_path, lost_after_s=60.0, request_timeout_s=1.0) as (engine, listener):
        assert await listener.next(10) == "back"
        await until(engine, True, 5)
        server.send(signal.SIGSTOP)
        try:
            await until(engine, False, HEARTBEAT_S + SLACK_S)
        finally:
            server.send(signal.SIGCONT)
        await until(engine, True, 10)
        assert await listener.next(1) == "back"
        assert listener.told.empty()


async def test_what_nobody_takes_is_not_sent(server: Server, tmp_path: Path) -> None:
    """Nor after a new connection, which is a new application to Asterisk."""
    kinds: asyncio.Queue[str] = asyncio.Queue()
    async with engine_of(server, tmp_path) as (engine, listener):
        client, take = engine._client, engine._client._on_event

        def note(event: dict[str, Any]) -> None:
            kinds.put_nowait(event["type"])
            take(event)

        client._on_event = note
        for _ in range(2):
            assert await listener.next(10) == "back"
            await until(engine, True, 5)
            app = f"applications/{client.app}/subscription"
            await client.request("POST", "bridges/quiet", type="mixing")
            await client.request("POST", app, eventSource="bridge:quiet")
            await client.request("DELETE", "bridges/quiet")  # BridgeDestroyed
            await client.request("POST", "events/user/last", application=client.app)
            assert await asyncio.wait_for(kinds.get(), 5) == "ChannelUserevent"
            await client.disconnect()
            await until(engine, False, 5)


async def test_an_engine_that_stays_away_is_given_up(own: Server, tmp_path: Path) -> None:
    lost_after_s = 1.0
    async with engine_of(own, tmp_path, lost_after_s=lost_after_s) as (engine, listener):
        assert await listener.next(10) == "back"
        await until(engine, True, 5)
        began = asyncio.get_running_loop().time()
        own.send(signal.SIGKILL)
        await until(engine, False, SLACK_S)
        assert await listener.next(lost_after_s + 2) == "lost"
        assert since(began) >= lost_after_s
        await own.restart()
        await until(engine, True, 10)


@asynccontextmanager
async def impostor(version: str) -> AsyncIterator[str]:
    """A server that says it is an Asterisk of that version, and nothing else; its URL."""

    async def info(_request: web.Request) -> web.Response:
        return web.json_response({"system": {"version": version, "entity_id": "00:00:00:00:00:00"}})

    app = web.Application()
    app.router.add_get("/ari/asterisk/info", info)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize(("version", "why"), [("22.9.0", "deadlock"), ("20.6.0", "too old")])
async def test_a_version_that_must_not_be_used_ends_the_server_with_one_line(
    tmp_path: Path, version: str, why: str, form: str
) -> None:
    (port,) = free(SOCK_STREAM)
    async with impostor(version) as url:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HUIBO_")} | {
            "PYTHONPATH": str(Path(huibo.__file__).parents[1]),
            "HUIBO_DATABASE_URL": f"sqlite:///{tmp_path}/huibo.sqlite3",
            "HUIBO_HTTP__PORT": str(port),
            "HUIBO_ENGINE__URL": url,
            "HUIBO_LOG__FORMAT": form,
        }
        serve = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "huibo", "serve", env=env, cwd=tmp_path, stdout=PIPE, stderr=PIPE
        )
        try:
            out, err = await asyncio.wait_for(serve.communicate(), 20)
        finally:
            if serve.returncode is None:
                serve.kill()
    assert (serve.returncode, out) == (1, b"")
    lines = err.decode().splitlines()
    (line,) = [line for line in lines if line.startswith("huibo: ")]
    assert line == lines[-1]
    assert f"Asterisk {version} is" in line
    assert why in line
    assert "22.10.1 or newer" in line
    assert "Traceback" not in err.decode()
