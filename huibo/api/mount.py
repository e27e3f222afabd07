"""Where the operators' API stands in a server: below /v1, and loaded when the server has come to rest.

What it is made of takes as long to load as all the rest, and no call waits for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send


class OperatorsApi:
    """An ASGI application that is made when it is told to, or asked something: beside the event loop."""

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._made: asyncio.Task[ASGIApp] | None = None

    def load(self) -> asyncio.Task[ASGIApp]:
        """Begin to make it, unless that has begun. Awaited, it raises what made it impossible."""
        if self._made is None:
            self._made = asyncio.create_task(asyncio.to_thread(self._make), name="operators' API")
        return self._made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await asyncio.shield(self.load())
        await app(scope, receive, send)

    def route(self) -> BaseRoute:
        """All that is below /v1, whatever characters follow."""
        mount = Mount("/v1", self)
        mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
        return mount
