"""A customer that places callbacks as fast as it is told. Run by `bench.calls`.

Raw HTTP on kept connections, for it is not to be what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import cast

import uvloop

from bench.carrier import callee_of, caller_of
from bench.load import arguments, load

_CONNECTIONS = 24


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) >= length and self._answer is not None:
            self._buffer = b""
            self._answer.set_result(body)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("closed"))

    async def post(self, path: str, body: bytes) -> bytes:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        return await self._answer


async def run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    idle: deque[_Connection] = deque()
    for _ in range(_CONNECTIONS):
        _, one = await loop.create_connection(_Connection, "127.0.0.1", options.port)
        idle.append(one)
    free = asyncio.Semaphore(_CONNECTIONS)
    fields = json.loads(options.fields)
    if options.flood:
        await _flood(options, idle, fields)
        return

    async def place(n: int) -> None:
        async with free:
            connection = idle.popleft()
            try:
                await _place(connection, n, options.app, fields)
            finally:
                idle.append(connection)

    (await load(options, place)).print()


async def _place(connection: _Connection, n: int, apps: Sequence[str], fields: Mapping[str, str]) -> None:
    app = apps[n % len(apps)]
    body = {"appId": app, "src": f"0086{caller_of(n)}", "dst": f"0086{callee_of(n)}", **fields}
    answer = await connection.post(f"/201511v3/callBack?id={app}", json.dumps(body).encode())
    if json.loads(answer)["errorCode"] != "0":
        raise RuntimeError(answer.decode())


async def _flood(
    options: argparse.Namespace, connections: deque[_Connection], fields: Mapping[str, str]
) -> None:
    """Requests back to back on all connections; says how many were accepted a second, and what that took."""
    numbers = itertools.count(options.first)
    took: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()

    async def worker(connection: _Connection) -> None:
        while time.perf_counter() < began + options.seconds or options.count:
            n, sent = next(numbers), time.perf_counter()
            if options.count and n >= options.first + options.count:
                return
            await _place(connection, n, options.app, fields)
            took.append(1000 * (time.perf_counter() - sent))

    await asyncio.gather(*map(worker, connections))
    per_s = len(took) / (time.perf_counter() - began)
    json.dump(
        {"count": len(took), "per_s": per_s, "ms": took, "cpu_ms": 1000 * (time.process_time() - cpu)},
        sys.stdout,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    arguments(parser)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--app", action="append", required=True, help="one of those that call, by turns")
    parser.add_argument("--fields", default="{}", help="of every request, beside appId, src and dst")
    parser.add_argument("--flood", action="store_true", help="only have requests accepted")
    parser.add_argument("--count", type=int, default=0, help="so many of them, however long that takes")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
