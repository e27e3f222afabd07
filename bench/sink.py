"""A receiver of pushes that answers 200 and keeps when what came. Run by `bench.calls`.

Raw HTTP, for it is not to be what is measured. On SIGUSR1 it writes and forgets what it has: a line a push,
"UNIX-seconds kind body".
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import uvloop

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Receiver(asyncio.Protocol):
    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(rest) < length:
                return
            kind = head.split(b" ", 2)[1].rpartition(b"/")[2]
            self._lines.append(b"%.6f %s %s\n" % (time.time(), kind, rest[:length]))
            self._buffer = rest[length:]
            assert self._transport is not None
            self._transport.write(_OK)


def listens(port: int) -> Callable[[], Awaitable[bool]]:
    """Whether something takes connections at that port."""

    async def answers() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return answers


async def run(port: int, file: Path, hosts: list[str]) -> None:
    lines: list[bytes] = []
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def write() -> None:
        partial = file.with_suffix(".partial")
        partial.write_bytes(b"".join(lines))
        partial.replace(file)
        lines.clear()

    loop.add_signal_handler(signal.SIGUSR1, write)
    async with await loop.create_server(lambda: _Receiver(lines), hosts, port, backlog=1000):
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ["127.0.0.1"]))
