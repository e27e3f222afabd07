"""A customer's server: posts requests and keeps the pushes that come back, call by call."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from huibo.stack.receiver import Receiver

PATIENCE_S = 110
ALL_STATUSES = "16191"


@dataclass(slots=True)
class Placed:
    """A call as its customer knows it."""

    call_id: str = ""
    statuses: list[dict[str, str]] = field(default_factory=list)
    keys: list[dict[str, str]] = field(default_factory=list)
    recordings: list[dict[str, str]] = field(default_factory=list)
    cdrs: list[dict[str, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def told(self) -> list[str]:
        """The status pushes in the order of their arrival, as "src ringing" or "dst refused 486"."""
        return [
            " ".join(filter(None, (s["userFlag"], s["callStatus"], s.get("errorCode"))))
            for s in self.statuses
        ]

    async def until_told(self, status: str) -> None:
        await self._until(lambda: status in self.told)

    async def until_keys(self, count: int) -> None:
        await self._until(lambda: len(self.keys) >= count)

    async def recording(self) -> dict[str, str]:
        await self._until(lambda: bool(self.recordings))
        return self.recordings[0]

    async def cdr(self) -> dict[str, str]:
        await self._until(lambda: bool(self.cdrs))
        return self.cdrs[0]

    async def _until(self, holds: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


class Customer:
    """Speaks to one huibo as its client does."""

    def __init__(self, base_url: str, receiver: Receiver) -> None:
        self.base_url = base_url
        self.receiver = receiver
        self.calls: dict[str, Placed] = defaultdict(Placed)

    async def __aenter__(self) -> Self:
        # a connection kept for later may be closed by the server at the moment it is used
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        self._sorting = asyncio.create_task(self._sort())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sorting.cancel()
        await self.http.close()

    async def post(self, body: Any, path: str = "/201511v3/callBack?id=demo") -> dict[str, str]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(self.base_url + path, data=data) as answer:
            assert answer.status == 200
            decoded: dict[str, str] = json.loads(await answer.read())
            return decoded

    async def call(self, src: str, dst: str, **fields: Any) -> Placed:
        """Place a call that tells everything; national digits. Asserts that it is accepted."""
        answer = await self.post(self.request(src, dst, **fields))
        assert answer["errorCode"] == "0", answer
        placed = self.calls[answer["callId"]]
        placed.call_id = answer["callId"]
        return placed

    def request(self, src: str, dst: str, **fields: Any) -> dict[str, Any]:
        return {
            "appId": "demo",
            "src": f"0086{src}",
            "dst": f"0086{dst}",
            "statusFlag": ALL_STATUSES,
            "statusUrl": self.receiver.url("status"),
            "hangupUrl": self.receiver.url("cdr"),
            "recordUrl": self.receiver.url("recording"),
        } | fields

    async def ready(self) -> bool:
        try:
            async with self.http.get(f"{self.base_url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def until_ready(self, ready: bool = True) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.ready() is not ready:
                await asyncio.sleep(0.05)

    async def _sort(self) -> None:
        while True:
            push = await self.receiver.arrived.get()
            placed = self.calls[push.body["callId"]]
            kinds = {
                "cdr": placed.cdrs,
                "key": placed.keys,
                "recording": placed.recordings,
                "status": placed.statuses,
            }
            kinds[push.kind].append(push.body)
            placed.changed.set()
