"""The tools of the fault suite do what the suite believes of them."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path
from socket import SOCK_STREAM

import pytest

from huibo.engine.events import KeyPressed, LegAnswered, LegEnded, LegEvent, LegInvited, LegRinging
from huibo.model import Leg
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.stack.ports import free
from tests.faults.control_plane import LeveredClock, Shaken
from tests.faults.evidence import Answer, Arrived, Asked, Evidence, Fault, Held
from tests.faults.levers import Levers, Pulled
from tests.faults.proxy import Proxy


def test_evidence_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    evidence = Evidence(
        "sqlite:///x",
        {"limits": {"app": {"calls_at_once": 1}}},
        tmp_path,
        [Asked("key", {"src": "1"}, 1, [Answer(2, "0", "call"), Answer(3, "-501")])],
        [Arrived(1, "good", "cdr", {"callId": "call"}, "id", "200")],
        {"sandbox": [PhoneEvent(datetime.now(UTC), "1", "2", PhoneMoment.REFUSED, "3", code=486)]},
        [Fault("kill -9: talking", 1, 2)],
        [Held(1, "engine", ["call-a"], [])],
        7,
    )
    evidence.save(tmp_path / "evidence.json")
    assert Evidence.load(tmp_path / "evidence.json") == evidence


class Listener:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[LegEvent] = []

    def on_leg_event(self, event: LegEvent) -> None:
        self.heard.append(event)

    async def on_engine_back(self) -> None: ...

    def on_engine_lost(self) -> None: ...


def story(call: str, leg: Leg) -> list[LegEvent]:
    middle = (LegInvited(call, leg, 1), LegRinging(call, leg, 2), LegAnswered(call, leg, 3))
    return [*middle, KeyPressed(call, leg, 4, "1"), LegEnded(call, leg, 5)]


@pytest.mark.parametrize("seed", range(3))
async def test_shaken_events_keep_their_order_within_a_leg(tmp_path: Path, seed: int) -> None:
    random.seed(seed)
    levers, listener = Levers(tmp_path / "levers.json"), Listener()
    levers.pull(Pulled(shake=True))
    shaken = Shaken(listener, levers)
    lines = [(f"call{number}", leg) for number in range(20) for leg in Leg]
    for events in zip(*(story(*line) for line in lines), strict=True):
        for event in events:
            shaken.on_leg_event(event)
    async with asyncio.timeout(20):
        while sum(isinstance(event, LegEnded) for event in set(listener.heard)) < len(lines):
            await asyncio.sleep(0.05)
    for line in lines:
        heard = [event for event in listener.heard if (event.call_id, event.leg) == line]
        assert list(dict.fromkeys(heard)) == story(*line)
        assert isinstance(heard[-1], LegEnded)
        assert sum(isinstance(event, KeyPressed) for event in heard) == 1
    assert len(listener.heard) > len(set(listener.heard)), "some came twice"
    ends = [event.call_id for event in listener.heard if isinstance(event, LegEnded)]
    assert list(dict.fromkeys(ends)) != [f"call{number}" for number in range(20)], "and some too late"


def test_a_clock_that_is_pulled_is_followed_by_a_process_that_starts_then(tmp_path: Path) -> None:
    levers = Levers(tmp_path / "levers.json")
    before = LeveredClock(levers)
    began = before.now_ms()
    Levers(tmp_path / "levers.json").pull(Pulled(clock_ms=3_600_000))
    while levers.now.clock_ms == 0:
        pass
    assert before.now_ms() - began < 1000
    assert LeveredClock(levers).now_ms() - began >= 3_600_000


async def test_a_proxy_passes_holds_and_cuts() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    behind, port = free(*(SOCK_STREAM,) * 2)
    async with await asyncio.start_server(echo, "127.0.0.1", behind), Proxy(port, behind) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.hold()
        writer.write(b"two")
        held = asyncio.create_task(reader.readexactly(3))
        assert not (await asyncio.wait([held], timeout=0.3))[0]
        proxy.let_go()
        assert await asyncio.wait_for(held, 5) == b"two"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"new")
        assert await asyncio.wait_for(reader.readexactly(3), 5) == b"new"
        writer.close()
