"""A process that a voice runs, with pipes to it, in a group of its own; it can be ended whatever it is doing.

asyncio's own Process cannot: its `wait` hangs when output that nobody reads fills the pipe, or while a
grandchild keeps it open.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, cast

_END_S = 1.0


class Program(asyncio.SubprocessProtocol):
    """What it says arrives in `pipe_data_received`, in the subclass."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self.transport: asyncio.SubprocessTransport

    async def start(self, argv: Sequence[str], cwd: Path | None = None, *, stderr: int | None = None) -> Self:
        """Raises `OSError` when it cannot be started."""
        loop = asyncio.get_running_loop()
        await loop.subprocess_exec(lambda: self, *argv, cwd=cwd, stderr=stderr, start_new_session=True)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.SubprocessTransport, transport)

    def process_exited(self) -> None:
        self.exited.set()

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Into its standard input. One that has closed it is no error here (uvloop says so at once)."""
        pipe = cast(asyncio.WriteTransport, self.transport.get_pipe_transport(0))
        with suppress(OSError, RuntimeError):
            pipe.write(data)
            if last:
                pipe.write_eof()

    async def end(self) -> None:
        """End it and what it started. What has left its group may live on, but holds up nobody."""
        with suppress(ProcessLookupError):
            os.killpg(self.transport.get_pid(), signal.SIGKILL)
        try:
            async with asyncio.timeout(_END_S):
                await self.exited.wait()
        except TimeoutError:
            pass
        finally:
            self.transport.close()
