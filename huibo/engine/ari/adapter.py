"""The engine as the flow sees it, on Asterisk over ARI.

Owns the connection's life (connect, check the version, take stock, run, reconnect) and the recipes by which
legs are played to and ended. Decides nothing about calls. With its siblings this is the only place that knows
Asterisk's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

from huibo.clock import Clock
from huibo.config import EngineSettings
from huibo.engine.ari.channels import Names, Translator, is_probe, leg_of, play_of
from huibo.engine.ari.client import AriClient, AriError
from huibo.engine.ari.dialling import Dialler
from huibo.engine.ari.leftovers import Leftovers
from huibo.engine.ari.stamps import Stamps
from huibo.engine.ari.trunks import Trunks
from huibo.engine.events import LegEvent
from huibo.engine.install.version import check
from huibo.errors import EngineError
from huibo.model import Call, Leg, Trunk
from huibo.ports import LineHealth, LiveLeg
from huibo.recording.raw import RawRecordings

log = structlog.get_logger()

# What Asterisk tells of every call, and nobody here takes. Not the other way round, by what is allowed: that
# would stop answers to requests, too.
_UNWANTED = {
    "disallowed": [
        {"type": kind}
        for kind in (
            *("BridgeCreated", "BridgeDestroyed", "ChannelEnteredBridge", "ChannelLeftBridge"),
            *("ChannelCallerId", "ChannelConnectedLine", "ChannelDialplan", "ChannelVarset"),
            *("ChannelCreated", "StasisEnd", "PlaybackStarted"),
        )
    ]
}


class EngineListener(Protocol):
    """Who is told what the engine reports."""

    def on_leg_event(self, event: LegEvent) -> None:
        """Something happened on a leg. Must not block."""

    async def on_engine_back(self) -> None:
        """Connected, after a start or a loss: reconcile. New calls are refused until this returns."""

    def on_engine_lost(self) -> None:
        """The engine has been away for too long: its calls are over."""


class AriEngine:
    """`huibo.ports.Engine` on one Asterisk. `run` keeps it connected."""

    def __init__(
        self,
        settings: EngineSettings,
        no_audio_s: int,
        clock: Clock,
        raw: RawRecordings,
        warning: Path,
        find_trunk: Callable[[str], Awaitable[Trunk | None]],
    ) -> None:
        """`raw`: where recordings are written. `warning`: the WAV file of the warning tone."""
        self._settings = settings
        self._warning = str(warning)
        self._clock = clock
        self._client = AriClient(
            settings.url,
            settings.username,
            settings.password,
            settings.app,
            heartbeat_s=settings.heartbeat_s,
            request_timeout_s=settings.request_timeout_s,
            on_event=self._take,
        )
        self._find_trunk = find_trunk
        self._trunks = Trunks(self._client, no_audio_s)
        self._names = Names()
        self._translator = Translator()
        self._stamps = Stamps()
        self._leftovers = Leftovers(self._client)
        self._dialler = Dialler(
            self._client,
            self._trunks,
            self._names,
            self._translator,
            self._leftovers,
            settings,
            raw,
            find_trunk,
        )
        self._takers: Mapping[str, tuple[Callable[[dict[str, Any]], None], ...]] = {
            "ContactStatusChange": (self._trunks.take,),
            "StasisStart": (self._dialler.take,),
            "Dial": (self._tell,),
            "ChannelStateChange": (self._tell,),
            "ChannelDtmfReceived": (self._tell,),
            "PlaybackFinished": (self._tell,),
            "ChannelHangupRequest": (self._tell,),
            "ChannelDestroyed": (self._dialler.take, self._leftovers.take, self._names.take, self._tell),
        }
        self._listener: EngineListener | None = None
        self._ready = False
        self._heard_at: int | None = None
        self._began_at: int | None = None

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def heard_at(self) -> int | None:
        return self._heard_at

    @property
    def began_at(self) -> int | None:
        return self._began_at

    async def run(self, listener: EngineListener) -> None:
        """Stay connected until cancelled. Raises `UnsuitableAsterisk` when that version must not be used."""
        self._listener = listener
        lost_at: float | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await self._serve(listener)
                except EngineError as error:
                    if lost_at is None:
                        log.warning("engine unavailable", reason=str(error))
                        lost_at = loop.time()
                else:
                    log.warning("engine connection lost")
                    lost_at = loop.time()
                if loop.time() - lost_at > self._settings.lost_after_s:
                    listener.on_engine_lost()
                await asyncio.sleep(self._settings.reconnect_s)
        finally:
            await self._client.close()

    def line(self, trunk: str) -> LineHealth:
        return self._trunks.line(trunk)

    async def know_trunks(self, trunks: Mapping[str, Trunk]) -> None:
        """These are all trunks from now on: Asterisk is made to agree as soon as there is one."""
        self._trunks.know(trunks)

    async def dial_caller(self, call: Call, trunk: str, ring_s: int, guard_s: int, attempt: int) -> None:
        await self._dialler.caller(call, trunk, ring_s, guard_s, attempt)

    async def dial_callee(
        self, call: Call, trunk: str, ring_s: int, guard_s: int, record: bool, attempt: int
    ) -> None:
        await self._dialler.callee(call, trunk, ring_s, guard_s, record, attempt)

    async def start_ringback(self, call_id: str, over_media: bool) -> None:
        await self._dialler.start_ringback(call_id, over_media)

    async def stop_ringback(self, call_id: str, over_media: bool) -> None:
        await self._dialler.stop_ringback(call_id, over_media)

    async def play(self, call_id: str, turn: int, path: str) -> None:
        await self._client.request(
            "POST",
            f"channels/{self._names.of(call_id, Leg.CALLER)}/play/{play_of(call_id, turn)}",
            media=_sound(path),
        )

    async def stop_play(self, call_id: str, turn: int) -> None:
        await self._client.delete(f"playbacks/{play_of(call_id, turn)}")

    async def plays(self, call_id: str, turn: int) -> bool:
        try:
            await self._client.request("GET", f"playbacks/{play_of(call_id, turn)}")
        except AriError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def warn(self, call_id: str, leg: Leg) -> None:
        await self._client.request(
            "POST", f"channels/{self._names.of(call_id, leg)}/play", media=_sound(self._warning)
        )

    async def guard_talk(self, call_id: str, seconds: int) -> None:
        for leg in Leg:
            path = f"channels/{self._names.of(call_id, leg)}/variable"
            await self._client.tell("POST", path, variable="TIMEOUT(absolute)", value=seconds)

    async def shorten_path(self, call_id: str, trunks: Collection[str]) -> None:
        """Asterisk looks for the best way only when something about a bridge changes, and the callee's answer
        does not count: it came into the bridge before. Muting and unmuting does. Sent together, for nobody is
        to stay mute because the connection is lost in between.
        """
        for name in trunks:
            trunk = await self._find_trunk(name)
            if trunk is None or not trunk.direct_media:
                return
        mute = f"channels/{self._names.of(call_id, Leg.CALLEE)}/mute"
        answers = [await self._client.send(method, mute, direction="in") for method in ("POST", "DELETE")]
        await asyncio.gather(*answers)

    async def hang_up(self, call_id: str, leg: Leg) -> None:
        await self._leftovers.end(f"channels/{self._names.of(call_id, leg)}")

    async def release(self, call_id: str) -> None:
        await self._leftovers.end(f"bridges/{call_id}")

    async def take_stock(self, owned: Collection[str]) -> list[LiveLeg]:
        """Strays are ended afterwards: there may be many, and one that resists must not hold up the rest."""
        legs = []
        states = {channel["id"]: channel["state"] for channel in await self._client.fetch("channels")}
        current = self._names.take_stock(states)
        for name, state in states.items():
            ours = leg_of(name)
            if ours is not None and ours[0] in owned and current[ours] == name:
                legs.append(LiveLeg(*ours, answered=state == "Up", ringing=state == "Ringing"))
            elif ours is not None or is_probe(name):
                self._leftovers.add(f"channels/{name}")
        for bridge in await self._client.fetch("bridges"):
            if bridge["creator"] == "Stasis" and bridge["id"] not in owned:
                self._leftovers.add(f"bridges/{bridge['id']}")
        return legs

    async def _serve(self, listener: EngineListener) -> None:
        """One connection, from connecting to its loss."""
        about = await self._client.fetch("asterisk/info?only=system,status")
        check(about["system"]["version"])
        self._began_at = round(datetime.fromisoformat(about["status"]["startup_time"]).timestamp() * 1000)
        await self._client.connect()
        self._stamps = Stamps()
        reader = asyncio.create_task(self._client.run(), name="ari-reader")
        tasks = [reader, asyncio.create_task(self._beat(), name="ari-heart")]
        try:
            await self._client.request("GET", "asterisk/ping")
            await self._client.request("PUT", f"applications/{self._client.app}/eventFilter", _UNWANTED)
            await self._trunks.connected()
            tasks.append(asyncio.create_task(self._trunks.run(), name="ari-trunks"))
            await listener.on_engine_back()
            self._ready = True
            tasks.append(asyncio.create_task(self._leftovers.run(), name="ari-leftovers"))
            log.info("engine ready", version=about["system"]["version"])
            await reader
        finally:
            if self._ready:  # else what there is has not been compared with what should be
                self._heard_at = self._heard()
            self._ready = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _heard(self) -> int | None:
        """When Asterisk gave its last sign of life, by huibo's clock."""
        if (at := self._client.heard_at) is None:
            return None
        ago_s = max(0.0, asyncio.get_running_loop().time() - at)
        return self._clock.now_ms() - round(ago_s * 1000)

    async def _beat(self) -> None:
        """Let go of a connection that lives but serves nothing.

        Asterisk 22 may drop the application of a connection that came right after another of the same name.
        """
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            try:
                await self._client.request("GET", "asterisk/ping")
            except EngineError as error:
                log.warning("engine answers nothing", reason=str(error))
                await self._client.disconnect()

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("type", "")
        try:
            for take in self._takers.get(kind, ()):
                take(event)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # one event that is not as it should be must not cost the connection, and with it every call
            log.error("event not understood", type=str(kind), reason=repr(error))

    def _tell(self, event: dict[str, Any]) -> None:
        """What it means for a leg."""
        at = self._stamps.moment(event, self._clock.now_ms())
        for leg_event in self._translator.take(event, at):
            if self._listener is not None:
                self._listener.on_leg_event(leg_event)


def _sound(path: str) -> str:
    """The media URI of a WAV file; Asterisk adds the ending itself."""
    return f"sound:{path.removesuffix('.wav')}"
