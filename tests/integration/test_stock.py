"""Taking stock of a real Asterisk: of many channels, of strays, and of what would not go at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from huibo.engine.ari.adapter import AriEngine
from huibo.engine.ari.client import AriClient
from huibo.engine.events import LegEvent
from huibo.engine.install.binary import Asterisk
from huibo.errors import EngineError
from huibo.model import Leg
from huibo.ports import LiveLeg
from tests.integration.test_ari import Connect, Server, connect, engine_of, running, since, until

__all__ = ["connect"]

CALLS = 750  # two channels each; a list of 1,200 over the WebSocket is the death of Asterisk


@pytest.fixture(scope="module")
async def server(asterisk: Asterisk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with running(asterisk, tmp_path_factory.mktemp("a")) as one:
        yield one


@dataclass
class Keeper:
    """Owns some calls, and takes stock whenever the engine is there."""

    engine: AriEngine
    owned: Collection[str]
    found: list[LiveLeg] = field(default_factory=list)
    took_s: float = 0.0

    def on_leg_event(self, event: LegEvent) -> None:
        pass

    async def on_engine_back(self) -> None:
        began = asyncio.get_running_loop().time()
        self.found = await self.engine.take_stock(self.owned)
        self.took_s = since(began)

    def on_engine_lost(self) -> None:
        pass


async def make(client: AriClient, *calls: str) -> None:
    """Two undialled channels for each call, and a bridge."""
    for first in range(0, len(calls), 50):
        some = calls[first : first + 50]
        await asyncio.gather(
            *(
                client.request(
                    "POST",
                    "channels/create",
                    endpoint="Local/s@nowhere",
                    app=client.app,
                    channelId=f"{call}-a",
                    otherChannelId=f"{call}-b",
                )
                for call in some
            ),
            *(client.request("POST", "bridges", bridgeId=call, type="mixing") for call in some),
        )


async def names(client: AriClient) -> set[str]:
    """All that there is."""
    channels, bridges = await client.fetch("channels"), await client.fetch("bridges")
    return {one["id"] for one in (*channels, *bridges)}


def all_of(*calls: str) -> set[str]:
    return {name for call in calls for name in (call, f"{call}-a", f"{call}-b")}


async def test_1500_channels_are_counted_and_strays_among_them_ended(
    server: Server, connect: Connect, tmp_path: Path
) -> None:
    client, _ = await connect(server.client())
    calls = [f"12-261122-{number:032x}" for number in range(CALLS)]
    await make(client, *calls)
    await client.request(
        "POST",
        "channels/create",
        endpoint="Local/s@nowhere",
        app=client.app,
        channelId="carrier-probe",
        otherChannelId="somebody-else",
    )
    assert len(await client.fetch("channels")) == 2 * CALLS + 2
    async with engine_of(server, tmp_path) as (engine, _):
        await until(engine, True, 30)
        engine._listener = keeper = Keeper(engine, calls[:2])
        await keeper.on_engine_back()
        print(f"stock of {2 * CALLS} channels taken in {keeper.took_s:.2f} s")
        assert keeper.took_s < 5
        assert {(leg.call_id, leg.leg) for leg in keeper.found} == {
            (c, leg) for c in calls[:2] for leg in Leg
        }
        async with asyncio.timeout(30):
            while len(await client.fetch("channels")) > 4:
                await asyncio.sleep(0.2)
            while await names(client) != all_of(*calls[:2]):
                await asyncio.sleep(0.1)
        assert engine.ready
    await asyncio.gather(*(client.delete(f"channels/{call}-a") for call in calls[:2]))
    await asyncio.gather(*(client.delete(f"bridges/{call}") for call in calls[:2]))


async def test_what_could_not_be_ended_is_ended_later(
    server: Server, connect: Connect, tmp_path: Path
) -> None:
    client, _ = await connect(server.client())
    await make(client, "kept", "left")
    async with engine_of(server, tmp_path, reconnect_s=0.5) as (engine, _):
        await until(engine, True, 10)
        engine._listener = Keeper(engine, ["kept", "left"])
        await engine._client.disconnect()
        for leg in Leg:
            with pytest.raises(EngineError):
                await engine.hang_up("left", leg)
        with pytest.raises(EngineError):
            await engine.release("left")
        async with asyncio.timeout(30):  # no list names it as a stray
            while await names(client) != all_of("kept"):
                await asyncio.sleep(0.1)
    await client.delete("channels/kept-a")
    await client.delete("bridges/kept")
