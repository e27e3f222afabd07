"""The limit: a script of its own that makes two-leg calls over one ARI WebSocket and does nothing else.

No database, no admission, no timers, no recovery. Run by `bench.calls`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from typing import Any

import aiohttp
import uvloop

from bench.carrier import callee_of, caller_of
from bench.load import arguments, load


class Bare:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._work: set[asyncio.Task[None]] = set()
        self.failed: list[BaseException] = []

    async def request(self, method: str, uri: str, **query: str) -> None:
        number = str(next(self._ids))
        message: dict[str, Any] = {
            "type": "RESTRequest",
            "request_id": number,
            "method": method,
            "uri": uri,
            "query_strings": [{"name": name, "value": value} for name, value in query.items()],
        }
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps(message))
        status = await self._waiting[number]
        if status >= 400 and status != 404:
            raise RuntimeError(f"{method} {uri}: {status}")

    async def read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            kind = event["type"]
            if kind == "RESTResponse":
                self._waiting.pop(event["request_id"]).set_result(event["status_code"])
            elif kind in ("StasisStart", "ChannelDestroyed"):
                task = asyncio.create_task(self.on(kind, *event["channel"]["id"].split("-")))
                self._work.add(task)
                task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed.append(error)

    async def on(self, kind: str, n: str, leg: str) -> None:
        if kind == "StasisStart" and leg == "a":
            await self.dial(n, "b", callee_of(int(n)))
        elif kind == "StasisStart":
            await self.request("POST", "bridges", bridgeId=n, type="mixing")
            await self.request("POST", f"bridges/{n}/addChannel", channel=f"{n}-a,{n}-b")
        elif leg == "b":
            await self.request("DELETE", f"channels/{n}-a")
            await self.request("DELETE", f"bridges/{n}")

    async def dial(self, n: str, leg: str, number: str) -> None:
        await self.request(
            "POST", "channels", endpoint=f"PJSIP/{number}@carrier", app="bare", channelId=f"{n}-{leg}"
        )

    async def place(self, n: int) -> None:
        await self.dial(str(n), "a", caller_of(n))


async def run(options: argparse.Namespace) -> None:
    headers = {"Authorization": aiohttp.encode_basic_auth("bench", "bench")}
    url = f"http://127.0.0.1:{options.port}/ari/events?app=bare&subscribeAll=false"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=headers, max_msg_size=0) as socket,
    ):
        bare = Bare(socket)
        reader = asyncio.create_task(bare.read())
        placed = await load(options, bare.place)
        reader.cancel()
        if bare.failed and not placed.over:
            raise bare.failed[0]
        placed.print()  # a call in which something failed has no end, and counts as failed


def main() -> None:
    parser = argparse.ArgumentParser()
    arguments(parser)
    parser.add_argument("--port", type=int, required=True, help="of Asterisk's HTTP server")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
