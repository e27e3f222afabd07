"""Customers' receivers of pushes, each with a temper that can be changed while it works.

Keeps every push as it came, with what was done to it. Decides nothing about pushes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Self

from aiohttp import web

from tests.faults.evidence import Arrived

TEMPERS = ("500", "hang", "redirect", "drip", "cut")
_HANGS_S = 60
_DRIPS_S = 0.5  # a byte each


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Receiver:
    """One server on loopback. Of what comes, `share` is answered with one of `tempers`, the rest with 200."""

    def __init__(self, name: str, chance: Random, tempers: Sequence[str] = (), share: float = 0.0) -> None:
        self.name = name
        self.tempers = tempers
        self.share = share
        self.arrived: list[Arrived] = []
        self._chance = chance
        self._port = 0
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{kind}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = site.port
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self._port}/{kind}"

    async def _take(self, request: web.Request) -> web.StreamResponse:
        at, body = now_ms(), await request.json()
        bad = self.tempers and self._chance.random() < self.share
        temper = self._chance.choice(self.tempers) if bad else "200"
        kind, webhook_id = request.match_info["kind"], request.headers["webhook-id"]
        self.arrived.append(Arrived(at, self.name, kind, body, webhook_id, temper))
        match temper:
            case "500":
                return web.Response(status=500)
            case "redirect":
                return web.Response(status=307, headers={"location": self.url("elsewhere")})
            case "hang":
                await self._until_closing(_HANGS_S)
            case "drip":
                return await self._drip(request)
            case "cut":
                assert request.transport is not None
                request.transport.abort()
        return web.Response()

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        """A reply that never comes to its end."""
        response = web.StreamResponse(headers={"content-length": "1000"})
        with suppress(ConnectionError):  # whoever pushes has gone: as it should
            await response.prepare(request)
            for _ in range(int(_HANGS_S / _DRIPS_S)):
                await response.write(b".")
                if await self._until_closing(_DRIPS_S):
                    break
        return response

    async def _until_closing(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return False
        return True
