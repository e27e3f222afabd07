"""How a leg is dialled: created, put into the bridge, sent; and the recording and ringing tone with it.

Decides nothing about calls. Whatever fails before the INVITE leaves no channel behind, so that the leg may be
dialled over another trunk under the same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from huibo.config import EngineSettings
from huibo.engine.ari.channels import Translator, channel_of
from huibo.engine.ari.client import AriClient, AriError
from huibo.engine.ari.leftovers import Leftovers
from huibo.engine.ari.trunks import Trunks
from huibo.errors import EngineError, OutcomeUnknown
from huibo.lines.pace import Pace
from huibo.model import Call, Leg, Trunk
from huibo.numbers import shown, written
from huibo.recording.raw import RawRecordings

_GONE = 404  # the channel, bridge, playback or variable exists no more
_THERE_ALREADY = 409
_LAST_WORDS_S = 1.0  # the last event of a channel may come after it is gone
_RING_MARGIN_S = 5  # Asterisk's own ring timer is only the second guard


class Dialler:
    """Dials on one Asterisk, over the trunks that `trunks` has made known to it."""

    def __init__(
        self,
        client: AriClient,
        trunks: Trunks,
        translator: Translator,
        leftovers: Leftovers,
        settings: EngineSettings,
        raw: RawRecordings,
        find_trunk: Callable[[str], Awaitable[Trunk | None]],
    ) -> None:
        self._client = client
        self._trunks = trunks
        self._translator = translator
        self._leftovers = leftovers
        self._settings = settings
        self._raw = raw
        self._find_trunk = find_trunk
        self._paces: dict[str, Pace] = {}
        self._arrivals: dict[str, asyncio.Future[None]] = {}  # channels on their way into the application
        self._leaving: dict[str, asyncio.Future[None]] = {}  # channels whose end is waited for

    def take(self, event: dict[str, Any]) -> None:
        """An event of Asterisk."""
        kind = event.get("type")
        if kind not in ("StasisStart", "ChannelDestroyed"):
            return
        channel = event["channel"]["id"]
        arrival, leaving = self._arrivals.get(channel), self._leaving.get(channel)
        if arrival is not None and not arrival.done():
            if kind == "StasisStart":
                arrival.set_result(None)
            else:
                arrival.set_exception(EngineError("the channel is gone"))
        if kind == "ChannelDestroyed" and leaving is not None and not leaving.done():
            leaving.set_result(None)

    async def caller(self, call: Call, trunk: str, ring_s: int, guard_s: int) -> None:
        variables = {
            "TIMEOUT(absolute)": str(guard_s),
            # in the bridge it goes over the callee's From
            "CALLERID(num)": await self._shown_to_callee(call, call.callee_trunk),
            "CALLERID(name)": "",
        }
        await self._dial(call, Leg.CALLER, trunk, call.caller_display, variables, ring_s)

    async def callee(
        self, call: Call, trunk: str, ring_s: int, guard_s: int, record: bool, again: bool
    ) -> None:
        caller = channel_of(call.call_id, Leg.CALLER)
        if again:
            await self._mend(call, caller, await self._shown_to_callee(call, trunk), record)
        else:
            if record:
                await self._record(call.call_id, caller)
            await self._bridge(call.call_id, caller)
        # in the bridge before the INVITE: the caller is to hear the network's own announcements
        variables = {"TIMEOUT(absolute)": str(guard_s)}
        await self._dial(call, Leg.CALLEE, trunk, call.callee_display, variables, ring_s, bridge=call.call_id)

    async def start_ringback(self, call_id: str, over_media: bool) -> None:
        """An indicated tone gives way to the first audio from the bridge, whether or not anybody is there to
        end it; a played one takes the caller out of the bridge.
        """
        caller = channel_of(call_id, Leg.CALLER)
        if over_media:
            tone, playback = "tone:ring;tonezone=cn", _ringback_of(call_id)
            await self._client.request("POST", f"channels/{caller}/play", media=tone, playbackId=playback)
        else:
            await self._client.request("POST", f"channels/{caller}/ring")

    async def stop_ringback(self, call_id: str, over_media: bool) -> None:
        if over_media:
            await self._client.delete(f"playbacks/{_ringback_of(call_id)}")
        else:
            await self._client.delete(f"channels/{channel_of(call_id, Leg.CALLER)}/ring")

    async def _dial(
        self,
        call: Call,
        leg: Leg,
        line: str,
        display: str,
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
        number = written(call.caller if leg is Leg.CALLER else call.callee, trunk.dial_format)
        # the connected line becomes the From of the INVITE
        display = shown(display, trunk.caller_format)
        self._leftovers.forget(f"channels/{channel}")
        variables = variables | {"CONNECTEDLINE(num,i)": display, "CONNECTEDLINE(name,i)": ""}
        with self._arrival(channel) as arrived:
            await self._client.request(
                "POST",
                "channels/create",
                {"variables": variables},
                endpoint=f"PJSIP/{trunk.dial_prefix}{number}@{endpoint}",
                app=self._settings.app,
                channelId=channel,
                formats=trunk.codecs,  # without them the offer has an order of its own
            )
            try:
                await arrived()  # before it is in the application it cannot be dialled
                if bridge is not None:
                    await self._client.request("POST", f"bridges/{bridge}/addChannel", channel=channel)
                await self._in_turn(trunk)
                await self._client.request(
                    "POST", f"channels/{channel}/dial", timeout=ring_s + _RING_MARGIN_S
                )
            except OutcomeUnknown:
                raise
            except EngineError as error:
                await self._undo(channel)
                raise EngineError(f"{leg.name.lower()} not dialled: {error}") from error

    async def _undo(self, channel: str) -> None:
        """End a channel that nobody is to hear of; the next attempt may have its name when it is gone."""
        self._translator.ignore(channel)
        gone = self._leaving[channel] = asyncio.get_running_loop().create_future()
        try:
            there = await self._client.delete(f"channels/{channel}")
            async with asyncio.timeout(self._settings.request_timeout_s if there else _LAST_WORDS_S):
                await gone
        except TimeoutError:
            self._translator.heed(channel)
            if there:
                raise OutcomeUnknown(f"channel {channel} does not end") from None
        finally:
            del self._leaving[channel]

    async def _in_turn(self, trunk: Trunk) -> None:
        """INVITEs that were let go one by one may have caught up with each other on their way here."""
        if trunk.calls_per_second is not None:
            await self._paces.setdefault(trunk.name, Pace()).turn(trunk.calls_per_second)

    async def _shown_to_callee(self, call: Call, trunk: str) -> str:
        line = await self._find_trunk(trunk)
        return shown(call.callee_display, line.caller_format) if line else call.callee_display

    async def _mend(self, call: Call, caller: str, display: str, record: bool) -> None:
        """Do what an earlier attempt has not done, or has done for another trunk.

        A channel that plays must not be asked for anything: nobody gets an answer until its tone is over.
        """
        joined = await self._joined(call.call_id, caller)
        recorded = joined or not record or await self._get(caller, "HUIBO_RECORDED") == "yes"
        told = await self._get(caller, "CALLERID(num)") == display
        if joined and told:
            return
        playing = await self._client.delete(f"playbacks/{_ringback_of(call.call_id)}")
        if not recorded:
            await self._record(call.call_id, caller)
        if not told:
            await self._set(caller, "CALLERID(num)", display)
        if not joined:
            await self._bridge(call.call_id, caller)
        if playing:
            await self.start_ringback(call.call_id, over_media=True)

    async def _bridge(self, call_id: str, caller: str) -> None:
        try:
            await self._client.request("POST", "bridges", bridgeId=call_id, type="mixing")
        except AriError as error:
            if error.status != _THERE_ALREADY:
                raise
        await self._client.request("POST", f"bridges/{call_id}/addChannel", channel=caller)

    async def _joined(self, call_id: str, caller: str) -> bool:
        try:
            bridge = await self._client.request("GET", f"bridges/{call_id}")
        except AriError as error:
            if error.status != _GONE:
                raise
            return False
        return caller in bridge["channels"]

    async def _record(self, call_id: str, caller: str) -> None:
        """Through a few lines of dialplan and back: ARI itself cannot start a recording of both directions.

        The subscription is what keeps events of the channel coming while it is out of the application.
        """
        app = self._settings.app
        await self._client.request(
            "POST", f"applications/{app}/subscription", eventSource=f"channel:{caller}"
        )
        await self._set(caller, "HUIBO_SAID", str(self._raw.said(call_id)))
        await self._set(caller, "HUIBO_HEARD", str(self._raw.heard(call_id)))
        with self._arrival(caller) as arrived:
            await self._client.request(
                "POST", f"channels/{caller}/continue", context="record", extension="s", priority=1
            )
            await arrived()

    async def _get(self, channel: str, variable: str) -> str:
        """A variable; "" when it has none of that name."""
        try:
            found = await self._client.request("GET", f"channels/{channel}/variable", variable=variable)
        except AriError as error:
            if error.status != _GONE:
                raise
            return ""
        return str(found["value"])

    async def _set(self, channel: str, variable: str, value: str) -> None:
        await self._client.request("POST", f"channels/{channel}/variable", variable=variable, value=value)

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


def _ringback_of(call_id: str) -> str:
    """The id of the playback of the ringing tone."""
    return f"{call_id}-ringback"
