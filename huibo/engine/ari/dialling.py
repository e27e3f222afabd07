"""How a leg is dialled: created, put into the bridge, sent; and the recording and ringing tone with it.

Decides nothing about calls. Of what fails before the INVITE nobody is told but who asked for it, so that the
leg may be dialled over another trunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from huibo.config import EngineSettings
from huibo.engine.ari.channels import Names, Translator
from huibo.engine.ari.client import GONE, AriClient, AriError
from huibo.engine.ari.leftovers import Leftovers
from huibo.engine.ari.trunks import Trunks
from huibo.errors import EngineError, OutcomeUnknown
from huibo.lines.pace import Pace
from huibo.model import Call, Leg, Trunk
from huibo.numbers import shown, written
from huibo.recording.raw import RawRecordings

_THERE_ALREADY = 409
_RING_MARGIN_S = 5  # Asterisk's own ring timer is only the second guard


class _Gone(EngineError):
    """The channel has come to its end, and that has been told."""


class Dialler:
    """Dials on one Asterisk, over the trunks that `trunks` has made known to it."""

    def __init__(
        self,
        client: AriClient,
        trunks: Trunks,
        names: Names,
        translator: Translator,
        leftovers: Leftovers,
        settings: EngineSettings,
        raw: RawRecordings,
        find_trunk: Callable[[str], Awaitable[Trunk | None]],
    ) -> None:
        self._client = client
        self._trunks = trunks
        self._names = names
        self._translator = translator
        self._leftovers = leftovers
        self._settings = settings
        self._raw = raw
        self._find_trunk = find_trunk
        self._paces: dict[str, Pace] = {}
        self._arrivals: dict[str, asyncio.Future[None]] = {}  # channels on their way into the application

    def take(self, event: dict[str, Any]) -> None:
        """A channel has come into the application, or is gone."""
        arrival = self._arrivals.get(event["channel"]["id"])
        if arrival is not None and not arrival.done():
            if event["type"] == "StasisStart":
                arrival.set_result(None)
            else:
                arrival.set_exception(_Gone("the channel is gone"))

    async def caller(self, call: Call, trunk: str, ring_s: int, guard_s: int, attempt: int) -> None:
        await self._dial(call, Leg.CALLER, trunk, ring_s, guard_s, attempt)

    async def callee(
        self, call: Call, trunk: str, ring_s: int, guard_s: int, record: bool, attempt: int
    ) -> None:
        caller = self._names.of(call.call_id, Leg.CALLER)
        if attempt:
            await self._mend(call.call_id, caller, record)
        else:
            if record:
                await self._record(call.call_id, caller)
            # its answer is not waited for: without a bridge the joining fails
            await self._client.tell("POST", "bridges", bridgeId=call.call_id, type="mixing")
        await self._dial(call, Leg.CALLEE, trunk, ring_s, guard_s, attempt, () if attempt else (caller,))

    async def start_ringback(self, call_id: str, over_media: bool) -> None:
        """An indicated tone gives way to the first audio from the bridge, whether or not anybody is there to
        end it; a played one takes the caller out of the bridge.
        """
        caller = self._names.of(call_id, Leg.CALLER)
        if over_media:
            tone, playback = "tone:ring;tonezone=cn", _ringback_of(call_id)
            await self._client.request("POST", f"channels/{caller}/play", media=tone, playbackId=playback)
        else:
            await self._client.tell("POST", f"channels/{caller}/ring")

    async def stop_ringback(self, call_id: str, over_media: bool) -> None:
        if over_media:
            await self._client.delete(f"playbacks/{_ringback_of(call_id)}")
        else:
            await self._client.tell("DELETE", f"channels/{self._names.of(call_id, Leg.CALLER)}/ring")

    async def _dial(
        self,
        call: Call,
        leg: Leg,
        line: str,
        ring_s: int,
        guard_s: int,
        attempt: int,
        beside: tuple[str, ...] | None = None,
    ) -> None:
        """Create a leg in the application, and then send its INVITE.

        Not by originating: that would let a carrier's redirection (302) dial whatever it names. `beside`:
        what comes into the bridge in between and with it, for the caller is to hear the network's own
        announcements; None: there is no bridge.
        """
        trunk = await self._find_trunk(line)
        if trunk is None:
            raise EngineError(f"there is no trunk {line}")
        endpoint = await self._trunks.ensure(trunk)
        channel = self._names.begin(call.call_id, leg, attempt)
        number, display = (
            (call.caller, call.caller_display) if leg is Leg.CALLER else (call.callee, call.callee_display)
        )
        variables = {
            "TIMEOUT(absolute)": str(guard_s),
            # the connected line becomes the From of the INVITE
            "CONNECTEDLINE(num,i)": shown(display, trunk.caller_format),
            "CONNECTEDLINE(name,i)": "",
        }
        self._leftovers.forget(f"channels/{channel}")
        with self._arrival(channel) as arrival:
            try:
                await self._client.request(
                    "POST",
                    "channels/create",
                    {"variables": variables},
                    endpoint=f"PJSIP/{trunk.dial_prefix}{written(number, trunk.dial_format)}@{endpoint}",
                    app=self._settings.app,
                    channelId=channel,
                    formats=trunk.codecs,  # without them the offer has an order of its own
                )
            except AriError:
                self._names.gone(channel)
                raise
            try:
                await arrival  # before it is in the application it cannot be dialled
                if beside is not None:
                    await self._join(call.call_id, ",".join((*beside, channel)))
                await self._in_turn(trunk)
                await self._client.request(
                    "POST", f"channels/{channel}/dial", timeout=ring_s + _RING_MARGIN_S
                )
            except OutcomeUnknown:
                raise
            except EngineError as error:
                if not isinstance(error, _Gone):
                    self._translator.ignore(channel)
                    self._names.gone(channel)
                    with suppress(EngineError):  # it is asked for again
                        await self._leftovers.end(f"channels/{channel}")
                raise EngineError(f"{leg.name.lower()} not dialled: {error}") from error

    async def _in_turn(self, trunk: Trunk) -> None:
        """INVITEs that were let go one by one may have caught up with each other on their way here."""
        if trunk.calls_per_second is not None:
            await self._paces.setdefault(trunk.name, Pace()).turn(trunk.calls_per_second)

    async def _mend(self, call_id: str, caller: str, record: bool) -> None:
        """Do what an earlier attempt has not done.

        A channel that plays must not be asked for anything: nobody gets an answer until its tone is over.
        """
        if await self._joined(call_id, caller):
            return
        recorded = not record or await self._get(caller, "HUIBO_RECORDED") == "yes"
        playing = await self._client.delete(f"playbacks/{_ringback_of(call_id)}")
        if not recorded:
            await self._record(call_id, caller)
        await self._bridge(call_id, caller)
        if playing:
            await self.start_ringback(call_id, over_media=True)

    async def _bridge(self, call_id: str, caller: str) -> None:
        try:
            await self._client.request("POST", "bridges", bridgeId=call_id, type="mixing")
        except AriError as error:
            if error.status != _THERE_ALREADY:
                raise
        await self._join(call_id, caller)

    async def _join(self, call_id: str, channels: str) -> None:
        """Neither is told of the other: each leg shows the number that it was given when it was made."""
        path = f"bridges/{call_id}/addChannel"
        await self._client.request("POST", path, channel=channels, inhibitConnectedLineUpdates="true")

    async def _joined(self, call_id: str, caller: str) -> bool:
        try:
            bridge = await self._client.request("GET", f"bridges/{call_id}")
        except AriError as error:
            if error.status != GONE:
                raise
            return False
        return caller in bridge["channels"]

    async def _record(self, call_id: str, caller: str) -> None:
        """Through a few lines of dialplan and back: ARI itself cannot start a recording of both directions.

        The subscription is what keeps events of the channel coming while it is out of the application.
        """
        app, variable = f"applications/{self._settings.app}/subscription", f"channels/{caller}/variable"
        files = {"HUIBO_SAID": self._raw.said(call_id), "HUIBO_HEARD": self._raw.heard(call_id)}
        answers = [await self._client.send("POST", app, eventSource=f"channel:{caller}")]
        for name, file in files.items():
            answers.append(await self._client.send("POST", variable, variable=name, value=str(file)))
        await asyncio.gather(*answers)
        with self._arrival(caller) as arrival:
            await self._client.request(
                "POST", f"channels/{caller}/continue", context="record", extension="s", priority=1
            )
            await arrival

    async def _get(self, channel: str, variable: str) -> str:
        """A variable; "" when it has none of that name."""
        try:
            found = await self._client.request("GET", f"channels/{channel}/variable", variable=variable)
        except AriError as error:
            if error.status != GONE:
                raise
            return ""
        return str(found["value"])

    @contextmanager
    def _arrival(self, channel: str) -> Iterator[asyncio.Future[None]]:
        """Within: await a channel's coming into the application; raises `EngineError` when it does not."""
        loop = asyncio.get_running_loop()
        arrival = self._arrivals[channel] = loop.create_future()
        arrival.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may not be awaited
        late = loop.call_later(self._settings.request_timeout_s, _never_arrived, arrival, channel)
        try:
            yield arrival
        finally:
            late.cancel()
            del self._arrivals[channel]
            arrival.cancel()


def _never_arrived(arrival: asyncio.Future[None], channel: str) -> None:
    if not arrival.done():
        arrival.set_exception(EngineError(f"channel {channel} never arrived"))


def _ringback_of(call_id: str) -> str:
    """The id of the playback of the ringing tone."""
    return f"{call_id}-ringback"
