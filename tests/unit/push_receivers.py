"""Customers' servers for the push tests: they do as they are told, and keep what they got."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Got:
    """A push as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """Answers the n-th request with the n-th of `answers`, and with the last one from then on.

    An answer is a status, a status with headers, or `Receiver.HANG`: nothing until `let_go` is set.
    """

    HANG = -1

    def __init__(self, *answers: int | tuple[int, dict[str, str]]) -> None:
        self.answers = answers or (200,)
        self.got: list[Got] = []
        self.let_go = asyncio.Event()
        self.at_once = self.most_at_once = self.finished = 0
        self.crowd: Counter[str] = Counter()  # requests at the same time, by path
        self.crowded: set[str] = set()  # paths that ever had more than one
        self._news = asyncio.Condition()
        self.base = ""

    def url(self, path: str = "/push") -> str:
        return self.base + path

    async def arrived(self, count: int) -> list[Got]:
        """Waits for the first `count` pushes."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def answered(self, count: int) -> None:
        """Waits until so many requests have been answered."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.finished >= count)

    async def handle(self, request: web.Request) -> web.Response:
        path = request.path
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.crowd[path] += 1
        if self.crowd[path] > 1:
            self.crowded.add(path)
        try:
            body = await request.read()
            answer = self.answers[min(len(self.got), len(self.answers) - 1)]
            async with self._news:
                self.got.append(Got(path, dict(request.headers), body))
                self._news.notify_all()
            if answer == self.HANG:
                await self.let_go.wait()
                answer = 200
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            return web.Response(status=status, headers=headers)
        finally:
            self.at_once -= 1
            self.crowd[path] -= 1
            async with self._news:
                self.finished += 1
                self._news.notify_all()


@asynccontextmanager
async def receiver(*answers: int | tuple[int, dict[str, str]]) -> AsyncIterator[Receiver]:
    served = Receiver(*answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    served.base = f"http://127.0.0.1:{server.port}"
    try:
        yield served
    finally:
        served.let_go.set()
        await server.close()


Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawReceiver:
    """Reads one request of every connection, then says what `talk` says, and closes."""

    def __init__(self, talk: Conversation) -> None:
        self.url = ""
        self.requests = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._talk = talk
        self._news = asyncio.Condition()

    async def arrived(self, count: int) -> None:
        """Waits for so many requests."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.requests >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            async with self._news:
                self.requests += 1
                self._news.notify_all()
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()


@asynccontextmanager
async def raw_receiver(talk: Conversation) -> AsyncIterator[RawReceiver]:
    served = RawReceiver(talk)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/push"
    try:
        yield served
    finally:
        server.close()
        tasks = list(served.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


class NameServer:
    """Answers for the names that it knows, once it is `awake`."""

    def __init__(self, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = names
        self.awake = threading.Event()
        monkeypatch.setattr("huibo.push.resolver.socket.getaddrinfo", self._answer)

    def _answer(self, host: str, port: int, **_: Any) -> list[Any]:
        self.awake.wait(PATIENCE_S)
        tcp = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *tcp, (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, *tcp, (address, port))
            for address in self.names[host]
        ]
