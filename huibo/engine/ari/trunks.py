"""Makes Asterisk agree with the trunks that there are, over ARI: live at once and without a reload.

Asterisk holds them in memory only. What it has is remembered here by connection; what it had before is found
out after a reconnect. Calls that talk keep what they were made with, whatever becomes of their trunk.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

import structlog

from huibo.engine.ari.channels import probe_of
from huibo.engine.ari.client import AriClient, AriError
from huibo.engine.ari.health import Health
from huibo.engine.ari.objects import Fields, PjsipObject, endpoint_of, objects_of, trunk_of, watch_of, watched
from huibo.errors import EngineError
from huibo.model import Trunk, TrunkState
from huibo.ports import LineHealth

log = structlog.get_logger()

_NOT_FOUND = 404
_TRIES, _AGAIN_S = 200, 0.01
_LOOK_S = 3.0  # between two looks at registrations, and tries with what Asterisk refused
_SOON_S = 1.0  # the same while a registration is waited for
_NO_CONTACT = 500  # "Allocation failed"
_CONFIG = "asterisk/config/dynamic/res_pjsip"
_PROBE_S = 10
_GOODBYE_S = 2.0  # what un-registering may take
# Nothing is taken away before what refers to it.
_REMOVAL = ("registration", "endpoint", "aor", "auth")

Key = tuple[str, str]  # kind and name of an object
Held = dict[Key, Fields | None]  # None: it may be there, with anything in it


class Trunks:
    """The trunks of one Asterisk. `run` keeps them as `know` says; `ensure` is for who cannot wait for it."""

    def __init__(self, client: AriClient, no_audio_s: int) -> None:
        self._client = client
        self._no_audio_s = no_audio_s
        self._wanted: Mapping[str, Trunk] = {}
        self._held: dict[str, Held] = {}
        self._pushed: dict[str, Trunk] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._woken = asyncio.Event()
        self._goodbyes: dict[str, float] = {}  # until when a trunk's password is kept, loop time
        self._health = Health()
        self._no_list = False

    def line(self, name: str) -> LineHealth:
        """What is known of a trunk at this moment."""
        return self._health.of(name)

    def take(self, event: dict[str, Any]) -> None:
        """News of a contact."""
        self._health.take(event)

    def know(self, trunks: Mapping[str, Trunk]) -> None:
        """These are all trunks from now on."""
        self._wanted = dict(trunks)
        self._woken.set()

    async def connected(self) -> None:
        """A new connection: find out what Asterisk has, and make it agree. Raises `EngineError`."""
        self._held.clear()
        self._pushed.clear()
        self._goodbyes.clear()
        self._health.forget()
        self._no_list = False
        for endpoint in await self._endpoints():
            if (name := trunk_of(endpoint)) is not None:
                self._held[name] = await self._found(name, endpoint)
        await self._agree()
        await self._look()

    async def run(self) -> None:
        """Follow every change, until cancelled. A lost connection is for others to notice."""
        while True:
            self._woken.clear()
            try:
                await self._agree()
                await self._look()
            except EngineError as error:
                log.warning("trunks not brought to the engine", reason=str(error))
            try:
                async with asyncio.timeout(_SOON_S if self._health.unregistered else _LOOK_S):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def ensure(self, trunk: Trunk) -> str:
        """The endpoint to dial over. Raises `EngineError` when Asterisk will not have it."""
        if trunk.state is TrunkState.OFF:
            raise EngineError(f"trunk {trunk.name} is not in use")
        if not self._has(trunk):
            await self._push(trunk)
        return endpoint_of(trunk)

    async def _agree(self) -> None:
        """Raises `EngineError` when Asterisk cannot be asked; what it refuses of a trunk is that trunk's."""
        for name in list(self._wanted):
            trunk = self._wanted_now(name)
            try:
                if trunk is not None:
                    await self._push(trunk)
            except AriError as error:
                if self._health.refuse(name, str(error)):
                    log.error("trunk refused by the engine", trunk=name, reason=str(error))
        for name in list(self._held):
            await self._remove_unless_wanted(name)

    def _wanted_now(self, name: str) -> Trunk | None:
        trunk = self._wanted.get(name)
        return trunk if trunk is not None and trunk.state is not TrunkState.OFF else None

    def _has(self, trunk: Trunk) -> bool:
        """Asterisk has this trunk as it is, and nothing is being changed about it."""
        return self._pushed.get(trunk.name) == trunk and trunk.name not in self._goodbyes

    async def _push(self, trunk: Trunk) -> None:
        async with self._locks[trunk.name]:
            if self._has(trunk):
                return
            held = self._held.setdefault(trunk.name, {})
            objects = objects_of(trunk, self._no_audio_s)
            self._pushed.pop(trunk.name, None)
            self._health.begin(trunk)
            moved = [
                one for one in objects if one.kind == "aor" and _moved(held.get((one.kind, one.name)), one)
            ]
            if moved:
                held.pop(("endpoint", watch_of(trunk.name)), None)
            changed = [one for one in objects if held.get((one.kind, one.name)) != one.fields]
            found_up = await self._put(trunk, held, moved, changed)
            wanted = {(one.kind, one.name) for one in objects}
            await self._delete(trunk.name, held, [key for key in held if key not in wanted])
            self._pushed[trunk.name] = trunk
            self._health.begun(trunk.name, found_up)

    async def _put(
        self, trunk: Trunk, held: Held, moved: Iterable[PjsipObject], changed: Iterable[PjsipObject]
    ) -> bool | None:
        """Its state as of now; None: not known, or not watched.

        What is dialled, all at once: it is taken in this order, and no dial comes between. An address that
        changes has its record made anew, and the endpoint that watches it: that would be online for ever.
        """
        objects = {(one.kind, one.name): one for one in changed}
        key = ("endpoint", watch_of(trunk.name))
        watch, anew = objects.pop(key, None), key not in held
        if moved:
            await self._drop(key)
        held.update(dict.fromkeys(objects))
        leaving = [self._drop((one.kind, one.name)) for one in moved]
        await _all_of(*leaving, *map(self._put_one, objects.values()))
        held.update({key: one.fields for key, one in objects.items()})
        if watch is None:
            return None
        held[key] = None
        if anew:
            await self._gone(watch.name)
        await self._put_one(watch)
        await self._listen("POST", watch.name)
        held[key] = watch.fields  # else it is made and listened to once more
        # what it has come to before we listened is never told
        return True if await self._state_of(watch.name) == "online" else await self._untold(trunk)

    async def _listen(self, method: str, endpoint: str) -> None:
        path = f"applications/{self._client.app}/subscription"
        await self._client.request(method, path, eventSource=f"endpoint:PJSIP/{endpoint}")

    async def _drop(self, key: Key) -> bool:
        """Whether it was still there.

        Asterisk's late news that a watched endpoint has gone would end our listening to the next of its name.
        """
        kind, name = key
        if watched(name) is not None:
            try:
                await self._listen("DELETE", name)
            except AriError as error:
                log.debug("endpoint was not listened to", endpoint=name, reason=str(error))
        return await self._client.delete(f"{_CONFIG}/{kind}/{name}")

    async def _gone(self, endpoint: str) -> None:
        """Asterisk buries an endpoint a little after it was deleted, and with it one made anew meanwhile.

        One that is still there in the end was not deleted.
        """
        for _ in range(_TRIES):
            if await self._state_of(endpoint) is None:
                return
            await asyncio.sleep(_AGAIN_S)

    async def _state_of(self, endpoint: str) -> str | None:
        """None: there is no such endpoint, or not yet."""
        try:
            state: str = (await self._client.request("GET", f"endpoints/PJSIP/{endpoint}"))["state"]
        except AriError as error:
            if error.status != _NOT_FOUND:
                raise
            return None
        return state

    async def _untold(self, trunk: Trunk) -> bool | None:
        """Whether a trunk that is not online is down or has not been asked yet; only what dials is told.

        A channel is made, which sends nothing, and taken away.
        """
        channel = probe_of(trunk.name)
        try:
            await self._client.request(
                "POST",
                "channels/create",
                {"variables": {"TIMEOUT(absolute)": str(_PROBE_S)}},  # what is not dialled lives for ever
                endpoint=f"PJSIP/{endpoint_of(trunk)}",
                app=self._client.app,
                channelId=channel,
            )
        except AriError as error:
            if error.status == _NO_CONTACT:
                return False
        await self._client.delete(f"channels/{channel}")
        return None

    async def _put_one(self, one: PjsipObject) -> None:
        body = {"fields": [{"attribute": key, "value": value} for key, value in one.fields.items()]}
        await self._client.request("PUT", f"{_CONFIG}/{one.kind}/{one.name}", body)

    async def _remove_unless_wanted(self, name: str) -> None:
        async with self._locks[name]:
            if self._wanted_now(name) is not None:
                return
            held = self._held.get(name, {})
            self._pushed.pop(name, None)
            await self._delete(name, held, list(held))
            if not held:
                self._held.pop(name, None)
                log.info("trunk taken from the engine", trunk=name)
            self._health.end(name)

    async def _delete(self, name: str, held: Held, keys: Iterable[Key]) -> None:
        """What says goodbye to a carrier needs its password for that: such a one goes a little later."""
        now = asyncio.get_running_loop().time()
        for key in sorted(keys, key=lambda key: _REMOVAL.index(key[0])):
            if key[0] == "auth" and now < self._goodbyes.get(name, 0.0):
                return
            was_there = await self._drop(key)
            del held[key]
            if was_there and key[0] == "registration":
                self._goodbyes[name] = now + _GOODBYE_S
        self._goodbyes.pop(name, None)

    async def _endpoints(self) -> list[str]:
        """Over plain HTTP: the list names every channel."""
        try:
            return [one["resource"] for one in await self._client.fetch("endpoints")]
        except AriError as error:
            log.warning("old trunks stay in the engine: is res_ari_endpoints loaded?", reason=str(error))
            return []

    async def _found(self, name: str, endpoint: str) -> Held:
        """All objects of a trunk that Asterisk may have had from an earlier connection."""
        records = (await self._fields("endpoint", endpoint)).get("aors", "").split(",")
        keys = [("endpoint", endpoint), ("endpoint", watch_of(name))]
        found: Held = dict.fromkeys([*keys, ("auth", endpoint), ("registration", endpoint)])
        for record in filter(None, records):
            found["aor", record] = {"contact": (await self._fields("aor", record)).get("contact", "")}
        return found

    async def _fields(self, kind: str, name: str) -> Fields:
        try:
            fields = await self._client.request("GET", f"{_CONFIG}/{kind}/{name}")
        except AriError:
            return {}
        return {one["attribute"]: one["value"] for one in fields}

    async def _look(self) -> None:
        """ARI tells nothing of registrations; Asterisk's metrics do, beside ARI."""
        if not self._health.registering:
            return
        try:
            metrics = await self._client.fetch_text("metrics")
        except AriError as error:
            if not self._no_list:
                log.warning("registrations are not seen: is prometheus.conf there?", reason=str(error))
            self._no_list = True
            return
        self._health.take_registrations(metrics)


def _moved(held: Fields | None, record: PjsipObject) -> bool:
    return held is not None and held.get("contact") != record.fields["contact"]


async def _all_of(*requests: Awaitable[None] | Awaitable[bool]) -> None:
    """All are sent at once, and all have ended, whatever becomes of one. Raises the first error."""
    for done in await asyncio.gather(*requests, return_exceptions=True):
        if isinstance(done, BaseException):
            raise done
