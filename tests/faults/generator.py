"""The customers: what they ask for, over all that the sandbox's phones do, and what they remember of it.

Speaks to huibo as a customer's server does, over HTTP alone. Every choice comes from one source of chance.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from random import Random
from typing import Any

import aiohttp

from huibo.sandbox.phones import PHONES
from huibo.sandbox.tones import RINGBACK_HZ, tone_of
from tests.faults.evidence import Answer, Asked
from tests.faults.receivers import now_ms
from tests.faults.world import FREE, PREPAID, World

_ALL_STATUSES = "16191"
_PERSISTS_S = 75  # with a request that gets no answer
_UNAVAILABLE = "-501"
_BURST = 8
STORM = ("09", "26", "27", "04", "24")
_DIGITS = tuple(phone.digits for phone in PHONES)
_TALKERS = ("00", "01", "02", "03", "11", "12", "19", "24")  # who answers sooner or later
_SAYS, _NOTICE = "请按一", "您好，这里是回拨平台，您有一个来电"
_MENUS = (
    [{"key": "1", "operate": "1"}, {"key": "2", "operate": "2"}, {"key": "3", "operate": "3"}],
    [{"key": "*", "operate": "1"}, {"key": "A", "operate": "3"}],
    [{"key": "9", "operate": "1"}],
)


class Customers:
    """`place` asks for one call; all that was asked so far is in `asked`."""

    def __init__(self, world: World, chance: Random) -> None:
        self.asked: list[Asked] = []
        self.failures: list[BaseException] = []
        self._world = world
        self._chance = chance
        self._serial = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, per_second: float) -> None:
        """Calls at random moments, now and then a burst of them, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.expovariate(per_second))
            for _ in range(_BURST if self._chance.random() < 0.03 else 1):
                self.place()

    def storm(self, calls: int) -> None:
        """Many calls at once to phones whose carriers fail."""
        for _ in range(calls):
            self.place(self._chance.choice(STORM), self._chance.choice((*STORM, "01")))

    def place(self, caller: str | None = None, callee: str | None = None, app: str | None = None) -> Asked:
        """Ask for a call of phones with these last digits, which goes its way from now on."""
        body = self._request(caller or self._digits(), callee or self._digits(), app)
        asked = Asked(f"key-{self._serial}", body, now_ms())
        self.asked.append(asked)
        self._aside(self._follow(asked))
        return asked

    async def finish(self, within_s: float) -> None:
        """Wait for what customers still mean to do, and have them do no more after that."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        await self.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self, asked: Asked, flag: str = "0") -> None:
        """Have a call ended, if it is known under its id."""
        if (call_id := _call_id(asked)) is not None:
            await self._ask("callCancel", asked.body["appId"], callId=call_id, cancelFlag=flag)

    # --- one call ---

    async def _follow(self, asked: Asked) -> None:
        chance, repeats = self._chance, 0
        if chance.random() < 0.25:
            repeats = chance.randrange(1, 4)
        at_once = repeats if chance.random() < 0.5 else 0
        await asyncio.gather(*(self._until_answered(asked) for _ in range(1 + at_once)))
        if _call_id(asked) is None:
            return
        for _ in range(repeats - at_once):
            await asyncio.sleep(chance.uniform(0, 10))
            await self._until_answered(asked)
        await self._meddle(asked)

    async def _until_answered(self, asked: Asked) -> None:
        """With the same key, until there is an answer; who is told to come back later comes back."""
        until = now_ms() + _PERSISTS_S * 1000
        while now_ms() < until:
            answer = await self._post("callBack", asked.body["appId"], _unpacked(asked.body), asked.key)
            if answer is not None:
                asked.answers.append(Answer(now_ms(), answer["errorCode"], answer.get("callId")))
                if answer["errorCode"] != _UNAVAILABLE:
                    return
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))

    async def _meddle(self, asked: Asked) -> None:
        """Queries, and a cancel at some moment for most calls that would not end by themselves soon."""
        chance, app, call_id = self._chance, asked.body["appId"], _call_id(asked)
        assert call_id is not None
        if chance.random() < 0.3:
            await self._ask("getStatus", app, callId=call_id)
        endless = _stays(asked.body["src"]) and _stays(asked.body["dst"])
        if chance.random() < (0.7 if endless else 0.15):
            await asyncio.sleep(chance.choice((0, chance.uniform(0, 3), chance.uniform(2, 25))))
            await self.cancel(asked, chance.choice("000001234"))
            if endless and chance.random() < 0.8:
                await asyncio.sleep(chance.uniform(5, 20))
                await self.cancel(asked)
        if chance.random() < 0.2:
            await asyncio.sleep(chance.uniform(0, 20))
            await self._ask("getCdr", app, callId=call_id)

    async def _ask(self, operation: str, app: str, **fields: str) -> None:
        await self._post(operation, app, {"appId": app} | fields)

    async def _post(
        self, operation: str, app: str, body: dict[str, Any], key: str | None = None
    ) -> dict[str, Any] | None:
        """The answer; None when none came."""
        url = f"{self._world.stack.base_url}/201511v3/{operation}?id={app}"
        headers = {"Idempotency-Key": key} if key else {}
        try:
            async with self._world.http.post(url, data=json.dumps(body), headers=headers) as answer:
                found: dict[str, Any] = json.loads(await answer.read())
                return found
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    # --- what is asked for ---

    def _digits(self) -> str:
        return self._chance.choice(_TALKERS if self._chance.random() < 0.6 else _DIGITS)

    def _request(self, caller: str, callee: str, app: str | None) -> dict[str, str]:
        chance, receivers = self._chance, self._world.receivers
        src, dst = self._numbers(caller, callee)
        receiver = receivers[chance.choices(tuple(receivers), (6, 2, 2))[0]]
        body = {
            "appId": app or chance.choice((PREPAID, FREE)),
            "requestId": f"request-{self._serial}",
            "src": f"0086{src}",
            "dst": f"0086{dst}",
            "hangupUrl": receiver.url("cdr"),
            "statusUrl": receiver.url("status"),
            "recordUrl": receiver.url("recording"),
            "statusFlag": _ALL_STATUSES if chance.random() < 0.8 else "0",
            "record": chance.choice("01"),
            "bizId": f"Biz{self._serial}",
        }
        if chance.random() < 0.7 or (_stays(src) and _stays(dst)):
            body["maxAllowTime"] = "1"
        if caller in ("11", "12", "13", "19", "20", "22", "23") or chance.random() < 0.15:
            body["preCallerHandle"] = json.dumps(self._menu(receiver.url("key")), ensure_ascii=False)
        if chance.random() < 0.1:
            body["ringRecognition"] = "1"
        return body

    def _menu(self, key_url: str) -> dict[str, Any]:
        chance = self._chance
        menu: dict[str, Any] = {
            "interruptPrompt": _SAYS,
            "keyList": chance.choice(_MENUS),
            "repeatTimes": chance.choice("012"),
        }
        if chance.random() < 0.4:
            menu["readPrompt"] = _NOTICE
        if chance.random() < 0.7:
            menu["keyPressUrl"] = key_url
        return menu

    def _numbers(self, caller: str, callee: str) -> tuple[str, str]:
        """Numbers that nobody has had, with tones that tell them apart."""
        while True:
            self._serial += 1
            numbers = f"138{self._serial:06d}{caller}", f"139{self._serial:06d}{callee}"
            tones = {tone_of(number) for number in numbers}
            if len(tones) == 2 and RINGBACK_HZ not in tones:
                return numbers

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)


def _unpacked(body: dict[str, str]) -> dict[str, Any]:
    """As it is posted."""
    handle = body.get("preCallerHandle")
    return body if handle is None else body | {"preCallerHandle": json.loads(handle)}


def _call_id(asked: Asked) -> str | None:
    return next((answer.call_id for answer in asked.answers if answer.error_code == "0"), None)


def _stays(number: str) -> bool:
    """Its phone does not hang up by itself."""
    return number[-2:] not in ("01", "02", "04", "05", "06", "07", "08", "09", "25", "26", "27")
