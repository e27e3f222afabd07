"""A small receiver of pushes, such as a customer's server has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Received:
    """A push as it arrived: `kind` is the last part of the URL it was sent to."""

    kind: str
    body: dict[str, Any]
    headers: dict[str, str]


class Receiver:
    """Takes pushes at `url('status')`, `url('cdr')` … and keeps them in `arrived`."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[Received] = asyncio.Queue()
        self.port = 0

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.port}/{kind}"

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.arrived.put_nowait(Received(request.match_info["kind"], body, dict(request.headers)))
        return web.Response()


@asynccontextmanager
async def receiver(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on loopback; port 0: a free one."""
    one = Receiver()
    app = web.Application()
    app.router.add_post("/{kind}", one._take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        one.port = site.port
        yield one
    finally:
        await runner.cleanup()
