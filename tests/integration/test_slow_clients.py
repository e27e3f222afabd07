"""Clients that take their time, send too much or come in thousands: others notice nothing of them."""

from __future__ import annotations

import asyncio
import json
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.test_tls import PATIENCE_S, answer, serving

HEAD_S, IDLE_S, SEND_S, BODY_S = 2, 3, 2, 2
LIMITS = {
    "head_timeout_s": str(HEAD_S),
    "idle_timeout_s": str(IDLE_S),
    "send_timeout_s": str(SEND_S),
    "body_timeout_s": str(BODY_S),
    "max_head_bytes": "4096",
    "max_headers": "20",
}
BODY = b'{"appId":"nobody"}'
ASK = b"POST /201511v3/getStatus?id=x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
SLACK_S = 20  # on a busy machine


@asynccontextmanager
async def site(folder: Path, **http: str) -> AsyncIterator[int]:
    """The port of a server with these limits that answers."""
    async with serving(folder, **LIMITS | http) as (_, port):
        await answer(f"http://127.0.0.1:{port}/healthz", True)
        yield port


@asynccontextmanager
async def connect(port: int, origin: str = "127.0.0.1") -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(origin, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def reply(reader: StreamReader) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def ended(reader: StreamReader) -> bytes:
    """What else comes until the connection has ended."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@asynccontextmanager
async def dripping(writer: StreamWriter, piece: bytes) -> AsyncIterator[None]:
    """Sends a little again and again."""

    async def drip() -> None:
        with suppress(ConnectionError):
            while not writer.transport.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.1)

    task = asyncio.create_task(drip())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def served(port: int) -> float:
    """Has a customer's request answered; returns how long that took."""
    began = monotonic()
    async with connect(port, "127.0.9.9") as (reader, writer):
        writer.write(ASK)
        status, body = await reply(reader)
    assert status == 200
    assert json.loads(body)["errorCode"] in ("-401", "-423")  # either is in the database
    return monotonic() - began


async def test_thousands_of_slow_connections_keep_nobody_waiting(tmp_path: Path) -> None:
    origins = [f"127.0.1.{last}" for last in range(1, 31)]
    limits = {"max_connections": "800", "max_connections_per_address": "100", "head_timeout_s": "30"}
    async with site(tmp_path, **limits) as port:
        began: list[tuple[StreamReader, StreamWriter]] = []
        try:
            await served(port)
            longest = 0.0
            for _ in range(100):
                some = (
                    asyncio.open_connection("127.0.0.1", port, local_addr=(origin, 0)) for origin in origins
                )
                began += await asyncio.gather(*some)
                for _, writer in began:
                    if not writer.transport.is_closing():
                        writer.write(
                            b"POST /201511v3/callBack HTTP/1.1\r\nX: " if writer is began[-1][1] else b"x"
                        )
                longest = max(longest, await served(port))
            assert len(began) == 3000
            assert longest < 1.0
            open_ones = [writer for reader, writer in began if not reader.at_eof() and not gone(reader)]
            assert 100 <= len(open_ones) <= 800
        finally:
            for _, writer in began:
                writer.transport.abort()


def gone(reader: StreamReader) -> bool:
    return reader.exception() is not None


async def test_one_address_gets_no_more_than_its_share(tmp_path: Path) -> None:
    async with site(tmp_path, max_connections_per_address="5", head_timeout_s="60") as port:
        kept = [
            await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.2.1", 0)) for _ in range(5)
        ]
        try:
            async with connect(port, "127.0.2.1") as (reader, _):
                assert (await reply(reader))[0] == 503
                assert await ended(reader) == b""
            await served(port)
            kept[0][1].transport.abort()
            async with asyncio.timeout(PATIENCE_S):
                while True:  # until the server has noticed
                    async with connect(port, "127.0.2.1") as (reader, writer):
                        writer.write(ASK)
                        with suppress(ConnectionError, asyncio.IncompleteReadError):
                            if (await reply(reader))[0] == 200:
                                break
        finally:
            for _, writer in kept:
                writer.transport.abort()


@pytest.mark.parametrize(
    "begun", [b"", b"\r\n", b"GET /", b"POST /201511v3/callBack HTTP/1.1\r\nHost: h\r\nX: "]
)
@pytest.mark.parametrize("after", [b"", ASK])
async def test_a_head_that_does_not_come_is_not_awaited(tmp_path: Path, begun: bytes, after: bytes) -> None:
    async with site(tmp_path) as port, connect(port) as (reader, writer):
        if after:
            writer.write(after)
            assert (await reply(reader))[0] == 200
        began = monotonic()
        writer.write(begun)
        async with dripping(writer, begun[-1:]):
            told = await ended(reader)
        assert told == b"" or told.startswith(b"HTTP/1.1 408 ")
        assert bool(told) == (begun.strip() != b"")
        least = IDLE_S if after and not begun else HEAD_S
        assert least * 0.9 <= monotonic() - began <= least + SLACK_S


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /" + b"a" * 5000, 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X:\r\n" * 10000, 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost h\r\n\r\n", 400),
    ],
)
async def test_a_head_beyond_the_limits_is_refused(tmp_path: Path, sent: bytes, status: int) -> None:
    async with site(tmp_path) as port, connect(port) as (reader, writer):
        writer.write(ASK)
        assert (await reply(reader))[0] == 200
        writer.write(sent)
        assert (await reply(reader))[0] == status
        assert await ended(reader) == b""
        async with connect(port) as (reader, writer):
            writer.write(ASK + ASK + sent)
            assert [(await reply(reader))[0] for _ in range(2)] == [200, 200]
            assert await ended(reader) == b""


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: ",
        b"POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
        b"POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
)
async def test_a_header_a_trailer_and_an_extension_without_end_are_cut_off(
    tmp_path: Path, begun: bytes
) -> None:
    slow = {"head_timeout_s": "300", "body_timeout_s": "300"}
    async with site(tmp_path, **slow) as port, connect(port) as (reader, writer):
        writer.write(begun)
        sent = 0
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while not writer.transport.is_closing() and not reader.at_eof():
                    writer.write(b"a" * 1024)
                    sent += 1024
                    await writer.drain()
                    await asyncio.sleep(0)
        await ended(reader)
        assert sent < 64 << 20
        await served(port)


async def test_a_trailer_is_no_header(tmp_path: Path) -> None:
    """Else a client could name its own address behind the proxy's back."""
    async with serving(tmp_path, trusted_proxies='["127.0.0.1"]') as (process, port):
        await answer(f"http://127.0.0.1:{port}/healthz", True)
        async with connect(port) as (reader, writer):
            head = ASK.partition(b"Content-Length")[0] + b"X-Forwarded-For: 203.0.113.7\r\n"
            body = b"%x\r\n%b\r\n0\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n" % (len(BODY), BODY)
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
            assert json.loads((await reply(reader))[1])["errorCode"] == "-401"
        process.terminate()
        _, said = await process.communicate()
        assert b"203.0.113.7" in said
        assert b"198.51.100.1" not in said


async def test_a_body_that_nobody_wants_is_not_awaited_for_ever(tmp_path: Path) -> None:
    async with site(tmp_path) as port, connect(port) as (reader, writer):
        writer.write(b"POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
        assert (await reply(reader))[0] == 405
        began = monotonic()
        async with dripping(writer, b"x"):
            assert await ended(reader) == b""
        assert BODY_S * 0.9 <= monotonic() - began <= BODY_S + SLACK_S


async def test_a_client_that_reads_nothing_is_cut_off(tmp_path: Path) -> None:
    async with site(tmp_path) as port:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, b"GET /v1/openapi.json HTTP/1.1\r\nHost: h\r\n\r\n" * 60)
            began = monotonic()
            async with asyncio.timeout(PATIENCE_S):
                while one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    await asyncio.sleep(0.05)
                    with suppress(BlockingIOError):
                        one.send(b"\r\n")
            assert monotonic() - began >= SEND_S * 0.9


async def test_requests_that_are_not_awaited_pile_up_only_so_far(tmp_path: Path) -> None:
    async with site(tmp_path, requests_per_s="0") as port, connect(port) as (reader, writer):
        writer.write(ASK * 5000)
        told = await ended(reader)
        assert told.count(b"HTTP/1.1 200 OK") < 1000
        await served(port)
