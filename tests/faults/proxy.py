"""A TCP proxy before the engine's HTTP port: what passes can be cut or held silent.

Looks at nothing that passes.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # no lingering: the other side gets an RST


class Proxy:
    """Between `port`, on which it listens, and the port `behind`, both on loopback."""

    def __init__(self, port: int, behind: int) -> None:
        self.port = port
        self._behind = behind
        self._passing = asyncio.Event()
        self._passing.set()
        self._open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        for writers in self._open.values():
            for writer in writers:
                writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
                writer.transport.abort()

    def hold(self) -> None:
        """Let nothing through any more, and say so to nobody."""
        self._passing.clear()

    def let_go(self) -> None:
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = (writer,)
        try:
            with suppress(OSError):
                await self._passing.wait()
                back, forth = await asyncio.open_connection("127.0.0.1", self._behind)
                self._open[task] = (writer, forth)
                await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))
        finally:
            for one in self._open.pop(task):
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()
