"""The engine's side of trunks, on a real Asterisk and carrier: how lines are, and dialling once more."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from huibo.clock import Clock
from huibo.engine.ari.adapter import AriEngine
from huibo.engine.events import LegAnswered, LegEnded, LegEvent, LegInvited, LegRinging
from huibo.engine.install.binary import Asterisk
from huibo.errors import EngineError, OutcomeUnknown
from huibo.model import Call, Leg, NumberFormat, Trunk, TrunkState
from huibo.numbers import shown, written
from huibo.ports import LineHealth
from huibo.recording.raw import RawRecordings
from huibo.sandbox.carrier import Account, Carrier, Terms
from huibo.stack.children import Child
from huibo.stack.ports import free_in_both
from tests.integration.test_ari import Server, running
from tests.integration.test_sandbox import running as answering

PATIENCE_S = 20
USER, PASSWORD = "caller", "secret"
CALL = Call(
    "c-1", "demo", "", "+8613800000009", "+8613900000009", "02131264133", "02131264133", "t", "t", 60, 1
)


class Desk:
    """An engine with its trunks, and all that it tells of legs."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.trunks: dict[str, Trunk] = {}
        self.events: asyncio.Queue[LegEvent] = asyncio.Queue()
        raw, warning = RawRecordings(folder), folder / "tone.wav"
        self.engine = AriEngine(server.settings(), 60, Clock(), raw, warning, self._find)
        self.back = asyncio.Event()

    async def know(self, *trunks: Trunk) -> None:
        self.trunks = {trunk.name: trunk for trunk in trunks}
        await self.engine.know_trunks(self.trunks)

    async def _find(self, name: str) -> Trunk | None:
        return self.trunks.get(name)

    def on_leg_event(self, event: LegEvent) -> None:
        self.events.put_nowait(event)

    async def on_engine_back(self) -> None:
        self.back.set()

    def on_engine_lost(self) -> None:
        raise AssertionError("the engine was lost")

    async def next(self) -> LegEvent:
        return await asyncio.wait_for(self.events.get(), PATIENCE_S)

    async def until(self, name: str, so: Callable[[LineHealth], bool]) -> LineHealth:
        async with asyncio.timeout(PATIENCE_S):
            while not so(self.engine.line(name)):
                await asyncio.sleep(0.05)
        return self.engine.line(name)


@asynccontextmanager
async def desk_at(server: Server, folder: Path, *trunks: Trunk) -> AsyncIterator[Desk]:
    desk = Desk(server, folder)
    await desk.know(*trunks)
    task = asyncio.create_task(desk.engine.run(desk))
    try:
        await asyncio.wait_for(desk.back.wait(), PATIENCE_S)
        yield desk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
async def server(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(asterisk, tmp_path_factory.mktemp("a")) as one:
        yield one


@pytest.fixture(scope="module")
async def carrier(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Carrier]:
    one = Carrier.create(asterisk, tmp_path_factory.mktemp("c") / "carrier", free_in_both())
    async with answering(one):
        yield one


def trunk_to(carrier: Carrier, name: str = "t", options_s: int = 1, **more: object) -> Trunk:
    return Trunk(name, "127.0.0.1", carrier.sip_port, options_s=options_s, **more)  # type: ignore[arg-type]


def child_of(carrier: Carrier) -> Child:
    async def answers() -> bool:
        return True

    instance = carrier.instance
    return Child("carrier", instance.argv, instance.env, instance.folder / "output", answers)


async def test_a_line_is_as_options_say(asterisk: Asterisk, server: Server, tmp_path: Path) -> None:
    carrier = Carrier.create(asterisk, tmp_path / "carrier", free_in_both())
    child = child_of(carrier)
    async with desk_at(server, tmp_path, trunk_to(carrier), trunk_to(carrier, "unasked", 0)) as desk:
        assert desk.engine.line("t").usable  # before anything is known
        await desk.until("t", lambda line: line.reachable is False)
        with pytest.raises(EngineError) as failed:
            await desk.engine.dial_caller(CALL, "t", 10, 60, 0)
        assert not isinstance(failed.value, OutcomeUnknown)
        await child.start()
        try:
            line = await desk.until("t", lambda line: line.reachable is True)
            assert line.roundtrip_ms is not None
            assert 0 < line.roundtrip_ms < 3000
            assert line.registered is None
            assert desk.engine.line("unasked") == LineHealth()
            assert desk.engine.line("unheard-of") == LineHealth()
            await desk.engine.dial_caller(CALL, "t", 10, 60, 0)
            while not isinstance(event := await desk.next(), LegEnded):
                pass
            assert event.sip_code == 503
        finally:
            await child.stop()
        await desk.until("t", lambda line: line.reachable is False)
        await desk.know()
        await desk.until("t", lambda line: line == LineHealth())


@pytest.mark.parametrize("up", [True, False])
async def test_what_is_known_of_a_line_outlives_the_control_plane(
    asterisk: Asterisk, server: Server, carrier: Carrier, tmp_path: Path, up: bool
) -> None:
    """Asterisk tells of changes only; who has just come asks how things are."""
    port = carrier.sip_port if up else free_in_both()
    trunk = Trunk("t", "127.0.0.1", port, options_s=1)
    async with desk_at(server, tmp_path, trunk) as desk:
        await desk.until("t", lambda line: line.reachable is up)
    async with desk_at(server, tmp_path, trunk) as desk:
        assert desk.engine.line("t").reachable is up


async def test_trunks_that_move_all_at_once_are_never_refused(
    server: Server, carrier: Carrier, tmp_path: Path
) -> None:
    """What is made anew in Asterisk sometimes goes with the old one of its name."""
    places = [carrier.sip_port, free_in_both()]
    names = [f"m{number}" for number in range(60)]
    with capture_logs() as logs:
        async with desk_at(server, tmp_path) as desk:
            for port in places * 2:
                await desk.know(*(Trunk(name, "127.0.0.1", port, options_s=1) for name in names))
                up = port == carrier.sip_port
                for name in names:
                    await desk.until(name, lambda line, up=up: line.reachable is up)  # type: ignore[misc]
            await desk.know()
            for name in names:
                await desk.until(name, lambda line: line == LineHealth())
    assert [one for one in logs if one["log_level"] == "error"] == []


async def test_a_line_that_has_not_been_asked_yet_is_not_taken_for_dead(
    server: Server, carrier: Carrier, tmp_path: Path
) -> None:
    """Asterisk says "offline" of both; the first OPTIONS may take as long as from one to the next."""
    trunk = trunk_to(carrier, "fresh", 3600)
    for _ in range(2):
        async with desk_at(server, tmp_path, trunk) as desk:
            assert desk.engine.line("fresh") == LineHealth()
            assert await desk.engine.take_stock([]) == []
    async with desk_at(server, tmp_path) as desk:
        await desk.engine.take_stock([])


@pytest.fixture(scope="module")
async def registrar(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Carrier]:
    terms = Terms(account=Account(USER, PASSWORD, register=True))
    one = Carrier.create(asterisk, tmp_path_factory.mktemp("r") / "carrier", free_in_both(), terms)
    child = child_of(one)
    await child.start()
    yield one
    await child.stop()


async def test_a_line_is_registered_when_the_carrier_has_agreed(
    server: Server, registrar: Carrier, tmp_path: Path
) -> None:
    good = trunk_to(registrar, "good", 0, username=USER, password=PASSWORD, register=True)
    bad = trunk_to(registrar, "bad", 0, username="nobody", password=PASSWORD, register=True)
    async with desk_at(server, tmp_path, good, bad) as desk:
        line = await desk.until("good", lambda line: line.registered is True)
        assert line.usable
        assert (desk.engine.line("bad").registered, desk.engine.line("bad").usable) == (False, False)
        await desk.know(good)
    async with desk_at(server, tmp_path, good) as desk:
        assert desk.engine.line("good").registered is True  # known at once, nothing is registered anew
        await desk.know()


async def test_without_asterisks_metrics_nothing_is_said_of_registration(
    asterisk: Asterisk, registrar: Carrier, tmp_path: Path
) -> None:
    async with running(asterisk, tmp_path / "a", without=("prometheus.conf",)) as bare:
        trunk = trunk_to(registrar, "t", 0, username=USER, password=PASSWORD, register=True)
        async with desk_at(bare, tmp_path, trunk) as desk:
            await desk.know(trunk, trunk_to(registrar, "later"))
            await desk.until("later", lambda line: line.reachable is not None)
            assert desk.engine.line("t") == LineHealth()


async def test_a_leg_is_told_of_once_though_its_line_is_watched(
    server: Server, carrier: Carrier, tmp_path: Path
) -> None:
    call = Call("c-2", "demo", "", "+8613800000001", "+8613900000001", "1", "1", "t", "t", 60, 1)
    async with desk_at(server, tmp_path, trunk_to(carrier)) as desk:
        await desk.until("t", lambda line: line.reachable is True)
        await desk.engine.dial_caller(call, "t", 10, 60, 0)
        told = [type(await desk.next())]
        while told[-1] is not LegEnded:
            told.append(type(await desk.next()))
        assert told == [LegInvited, LegRinging, LegAnswered, LegEnded]
        assert desk.events.empty()


async def test_a_leg_dialled_as_soon_as_its_last_attempt_has_ended_is_heard_of(
    server: Server, carrier: Carrier, tmp_path: Path
) -> None:
    """What failover rests on. Of a channel under the id of the last one, now and then nothing is told."""
    async with desk_at(server, tmp_path, trunk_to(carrier, "t"), trunk_to(carrier, "u")) as desk:
        for turn in range(200):
            await desk.engine.dial_caller(CALL, "tu"[turn % 2], 10, 60, turn)
            invited, ended = await desk.next(), await desk.next()
            assert isinstance(invited, LegInvited)
            assert isinstance(ended, LegEnded)
            assert (ended.call_id, ended.leg, ended.sip_code) == (CALL.call_id, Leg.CALLER, 503)
        assert desk.events.empty()


async def test_of_a_dial_that_fails_half_way_nothing_is_told(
    server: Server, carrier: Carrier, tmp_path: Path
) -> None:
    """More dial at once than the trunk's pace lets wait: their channels were there already."""
    slow = trunk_to(carrier, "slow", 0, calls_per_second=1)
    calls = [
        Call(f"h-{n}", "demo", "", "+8613800000009", "+8613900000009", "1", "1", "slow", "slow", 60, 1)
        for n in range(16)
    ]
    async with desk_at(server, tmp_path, slow, trunk_to(carrier, "t", 0)) as desk:

        async def dial(call: Call) -> bool:
            try:
                await desk.engine.dial_caller(call, "slow", 10, 60, 0)
            except OutcomeUnknown:
                raise
            except EngineError:
                await desk.engine.dial_caller(call, "t", 10, 60, 1)
                return True
            return False

        over = await asyncio.gather(*map(dial, calls))
        assert 4 <= sum(over) < len(calls)
        ended: dict[str, int | None] = {}
        while len(ended) < len(calls):
            event = await desk.next()
            if isinstance(event, LegEnded):
                assert event.call_id not in ended
                ended[event.call_id] = event.sip_code
        assert set(ended.values()) == {503}
        assert await desk.engine.take_stock([]) == []


async def test_a_trunk_that_is_off_is_not_dialled(server: Server, carrier: Carrier, tmp_path: Path) -> None:
    async with desk_at(server, tmp_path, trunk_to(carrier, state=TrunkState.OFF)) as desk:
        for name in ("t", "unheard-of"):
            with pytest.raises(EngineError, match=f"trunk {name}"):
                await desk.engine.dial_caller(CALL, name, 10, 60, 0)


@pytest.mark.parametrize("form", NumberFormat)
async def test_numbers_go_out_as_the_trunk_wants_them(
    server: Server, tmp_path: Path, form: NumberFormat
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
        place.bind(("127.0.0.1", 0))
        place.setblocking(False)
        trunk = Trunk(
            "t",
            "127.0.0.1",
            place.getsockname()[1],
            codecs="ulaw",
            from_domain="home.example",
            caller_format=form,
            dial_format=form,
            dial_prefix="9*#",
            options_s=0,
        )
        call = replace(CALL, call_id=f"f-{form.name}", caller="+861088880000", caller_display="075586013388")
        async with desk_at(server, tmp_path, trunk) as desk:
            await desk.engine.dial_caller(call, "t", 10, 60, 0)
            async with asyncio.timeout(PATIENCE_S):
                invite = (await asyncio.get_running_loop().sock_recv(place, 65536)).decode()
    dialled, display = written("+861088880000", form), shown("075586013388", form)
    assert invite.startswith(
        f"INVITE sip:9*%23{dialled}@127.0.0.1:{trunk.port} SIP/2.0\r\n"
    )  # RFC 3261, 25.1
    assert f"\nFrom: <sip:{display}@home.example>;" in invite
    assert re.search(r"m=audio \d+ RTP/AVP 0 ", invite)
