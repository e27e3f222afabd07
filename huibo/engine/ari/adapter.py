"""The engine as the flow sees it, on Asterisk over ARI.

Owns the connection's life (connect, check the version, take stock, run, reconnect) and the recipes by which
legs are dialled, joined and ended. Decides nothing about calls. With `client`, `channels` and `trunks` beside
it, this is the only place that knows Asterisk's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import structlog

from huibo.clock import Clock
from huibo.config import EngineSettings
from huibo.engine.ari.channels import Translator, channel_of, leg_of, play_of
from huibo.engine.ari.client import AriClient, AriError
from huibo.engine.ari.trunks import Trunks
from huibo.engine.events import LegEvent
from huibo.engine.install.version import check
from huibo.errors import EngineError, OutcomeUnknown
from huibo.model import Call, Leg, Trunk
from huibo.numbers import national
from huibo.ports import LineHealth, LiveLeg
from huibo.recording.raw import RawRecordings

log = structlog.get_logger()

_GONE = (404,)  # the channel, bridge or playback exists no more
_RING_MARGIN_S = 5  # Asterisk's own ring timer is only the second guard


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
        self._find_trunk = find_trunk
        self._raw = raw
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
        self._trunks = Trunks(self._client, no_audio_s)
        self._translator = Translator()
        self._listener: EngineListener | None = None
        self._arrivals: dict[
            str, asyncio.Future[None]
        ] = {}  # created channels on their way into the application
        self._ready = False

    @property
    def ready(self) -> bool:
        return self._ready

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
        del trunk
        return LineHealth()

    async def dial_caller(self, call: Call, trunk: str, ring_s: int, guard_s: int) -> None:
        variables = {
            "TIMEOUT(absolute)": str(guard_s),
            "CALLERID(num)": call.callee_display,  # in the bridge it goes over the callee's From
            "CALLERID(name)": "",
        }
        await self._dial(call, Leg.CALLER, trunk, call.caller_display, variables, ring_s)

    async def dial_callee(
        self, call: Call, trunk: str, ring_s: int, guard_s: int, record: bool, again: bool
    ) -> None:
        caller = channel_of(call.call_id, Leg.CALLER)
        if record and not again:
            await self._record(call.call_id, caller)
        if not again:
            await self._client.request("POST", "bridges", bridgeId=call.call_id, type="mixing")
            await self._client.request("POST", f"bridges/{call.call_id}/addChannel", channel=caller)
        # in the bridge before the INVITE: the caller is to hear the network's own announcements
        variables = {"TIMEOUT(absolute)": str(guard_s)}
        await self._dial(call, Leg.CALLEE, trunk, call.callee_display, variables, ring_s, bridge=call.call_id)

    async def start_ringback(self, call_id: str) -> None:
        await self._client.request(
            "POST",
            f"channels/{channel_of(call_id, Leg.CALLER)}/play",
            media="tone:ring;tonezone=cn",
            playbackId=f"{call_id}-ringback",
        )

    async def stop_ringback(self, call_id: str) -> None:
        await self._delete(f"playbacks/{call_id}-ringback")

    async def play(self, call_id: str, turn: int, path: str) -> None:
        await self._client.request(
            "POST",
            f"channels/{channel_of(call_id, Leg.CALLER)}/play/{play_of(call_id, turn)}",
            media=_sound(path),
        )

    async def stop_play(self, call_id: str, turn: int) -> None:
        await self._delete(f"playbacks/{play_of(call_id, turn)}")

    async def warn(self, call_id: str, leg: Leg) -> None:
        await self._client.request(
            "POST", f"channels/{channel_of(call_id, leg)}/play", media=_sound(self._warning)
        )

    async def guard_talk(self, call_id: str, seconds: int) -> None:
        for leg in Leg:
            await self._client.request(
                "POST",
                f"channels/{channel_of(call_id, leg)}/variable",
                variable="TIMEOUT(absolute)",
                value=seconds,
            )

    async def hang_up(self, call_id: str, leg: Leg) -> None:
        await self._delete(f"channels/{channel_of(call_id, leg)}")

    async def release(self, call_id: str) -> None:
        await self._delete(f"bridges/{call_id}")

    async def take_stock(self, owned: Collection[str]) -> list[LiveLeg]:
        legs, strays = [], []
        for channel in await self._client.fetch("channels"):
            if (ours := leg_of(channel["id"])) is None:
                continue
            if ours[0] in owned:
                legs.append(LiveLeg(*ours, answered=channel["state"] == "Up"))
            else:
                strays.append(f"channels/{channel['id']}")
        bridges = [one["id"] for one in await self._client.fetch("bridges") if one["creator"] == "Stasis"]
        strays += [f"bridges/{bridge}" for bridge in bridges if bridge not in owned]
        for stray in strays:
            log.warning("stray ended", what=stray)
            await self._delete(stray)
        return legs

    async def _serve(self, listener: EngineListener) -> None:
        """One connection, from connecting to its loss."""
        about = await self._client.fetch("asterisk/info?only=system")
        check(about["system"]["version"])
        await self._client.connect()
        self._trunks.forget()
        reader = asyncio.create_task(self._client.run(), name="ari-reader")
        heart = asyncio.create_task(self._beat(), name="ari-heart")
        try:
            await self._client.request("GET", "asterisk/ping")
            await listener.on_engine_back()
            self._ready = True
            log.info("engine ready", version=about["system"]["version"])
            await reader
        finally:
            self._ready = False
            for task in (heart, reader):
                task.cancel()
            await asyncio.gather(heart, reader, return_exceptions=True)

    async def _dial(
        self,
        call: Call,
        leg: Leg,
        line: str,
        shown: str,
        variables: dict[str, str],
        ring_s: int,
        bridge: str | None = None,
    ) -> None:
        """Create a leg in the application, and then send its INVITE.

        Not by originating: that would let a carrier's redirection (302) dial whatever it names.
        """
        trunk = await self._find_trunk(line)
        if trunk is None:
            raise EngineError(f"there is no trunk {line}")
        endpoint, channel = await self._trunks.ensure(trunk), channel_of(call.call_id, leg)
        number = national(call.caller if leg is Leg.CALLER else call.callee)
        # the connected line becomes the From of the INVITE
        variables = variables | {"CONNECTEDLINE(num,i)": shown, "CONNECTEDLINE(name,i)": ""}
        with self._arrival(channel) as arrived:
            await self._client.request(
                "POST",
                "channels/create",
                {"variables": variables},
                endpoint=f"PJSIP/{number}@{endpoint}",
                app=self._settings.app,
                channelId=channel,
                formats=trunk.codecs,  # without them the offer has an order of its own
            )
            try:
                await arrived()  # before it is in the application it cannot be dialled
                if bridge is not None:
                    await self._client.request("POST", f"bridges/{bridge}/addChannel", channel=channel)
                await self._client.request(
                    "POST", f"channels/{channel}/dial", timeout=ring_s + _RING_MARGIN_S
                )
            except OutcomeUnknown:
                raise
            except EngineError as error:
                self._translator.ignore(channel)
                await self._delete(f"channels/{channel}")
                raise EngineError(f"{leg.name.lower()} not dialled: {error}") from error

    async def _record(self, call_id: str, caller: str) -> None:
        """Through a few lines of dialplan and back: ARI itself cannot start a recording of both directions.

        The subscription is what keeps events of the channel coming while it is out of the application.
        """
        app = self._settings.app
        await self._client.request(
            "POST", f"applications/{app}/subscription", eventSource=f"channel:{caller}"
        )
        for variable, path in (
            ("HUIBO_SAID", self._raw.said(call_id)),
            ("HUIBO_HEARD", self._raw.heard(call_id)),
        ):
            await self._client.request(
                "POST", f"channels/{caller}/variable", variable=variable, value=str(path)
            )
        with self._arrival(caller) as arrived:
            await self._client.request(
                "POST", f"channels/{caller}/continue", context="record", extension="s", priority=1
            )
            await arrived()

    @contextmanager
    def _arrival(self, channel: str) -> Iterator[Callable[[], Awaitable[None]]]:
        """Within: await a channel's coming into the application; raises `EngineError` when it does not."""
        arrival = self._arrivals[channel] = asyncio.get_running_loop().create_future()
        arrival.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may not be awaited

        async def arrived() -> None:
            try:
                async with asyncio.timeout(self._settings.request_timeout_s):
                    await arrival
            except TimeoutError:
                raise EngineError(f"channel {channel} never arrived") from None

        try:
            yield arrived
        finally:
            del self._arrivals[channel]
            arrival.cancel()

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
        if event.get("type") in ("StasisStart", "ChannelDestroyed"):
            arrival = self._arrivals.get(event["channel"]["id"])
            if arrival is not None and not arrival.done():
                if event["type"] == "StasisStart":
                    arrival.set_result(None)
                else:
                    arrival.set_exception(EngineError("the channel is gone"))
        for leg_event in self._translator.take(event, self._clock.now_ms()):
            if self._listener is not None:
                self._listener.on_leg_event(leg_event)

    async def _delete(self, path: str) -> None:
        try:
            await self._client.request("DELETE", path)
        except AriError as error:
            if error.status not in _GONE:
                raise


def _sound(path: str) -> str:
    """The media URI of a WAV file; Asterisk adds the ending itself."""
    return f"sound:{path.removesuffix('.wav')}"
