"""The routes behind the real HTTP server, spoken to byte by byte: what odd clients send, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from frontdesk import ASKED, BODY_TIMEOUT_S, MAX_BODY_BYTES, TAKEN, Desk

from huibo.config import load
from huibo.http.connections import Connections
from huibo.wire.http11 import limited

TOO_LARGE = f'{{"errorCode":"-2","msg":"body: larger than {MAX_BODY_BYTES} bytes","requestId":""}}'.encode()
POST = b"POST /201511v3/callBack?id=test HTTP/1.1\r\n"
HOST = b"Host: pstn.example.com\r\n"


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


WHOLE = POST + HOST + length(ASKED) + b"\r\n" + ASKED


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class Connection:
    """One TCP connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def head(self) -> tuple[bytes, dict[bytes, bytes]]:
        """A status line and the headers below it, names in lower case."""
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        pairs = (line.split(b": ", 1) for line in lines[1:] if line)
        return lines[0], {name.lower(): value for name, value in pairs}

    async def answer(self) -> bytes:
        """The body of the next answer, which is a 200 with one JSON object."""
        status, headers = await self.head()
        assert status == b"HTTP/1.1 200 OK"
        assert headers[b"content-type"] == b"application/json;charset=utf-8"
        async with asyncio.timeout(10):
            body = await self.reader.readexactly(int(headers[b"content-length"]))
        assert isinstance(json.loads(body), dict)
        return body

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read(1) == b""

    def leave(self) -> None:
        self.writer.transport.abort()


class Site:
    """A running server with a desk behind it."""

    def __init__(self, desk: Desk, port: int) -> None:
        self.desk, self.port = desk, port

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            yield connection
        finally:
            connection.leave()

    async def ask(self, *parts: bytes) -> bytes:
        async with self.connect() as connection:
            await connection.send(*parts)
            return await connection.answer()


@pytest.fixture
async def site(desk: Desk) -> AsyncIterator[Site]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(
            desk.app(),
            http=limited(Connections(load().http)),
            lifespan="off",
            log_config=None,
            access_log=False,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(10):
        await server.up.wait()
    yield Site(desk, listener.getsockname()[1])
    server.should_exit = True
    async with asyncio.timeout(20):
        await running


async def test_a_plain_request(site: Site) -> None:
    assert await site.ask(WHOLE) == TAKEN
    assert site.desk.identities == [("1400000001", "test", "127.0.0.1")]
    async with asyncio.timeout(10):
        await site.desk.dispatched.wait()


NO_HOST = b'{"errorCode":"-5","msg":"host header missing","requestId":"r-1"}'


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("host", [b"", b"Host:\r\n", b"Host:   \r\n"])
async def test_a_request_without_a_host_is_told_so(site: Site, version: bytes, host: bytes) -> None:
    line = b"POST /201511v3/callBack?id=test HTTP/" + version + b"\r\n"
    assert await site.ask(line, host, length(ASKED), b"\r\n", ASKED) == NO_HOST
    assert site.desk.requests == []


async def test_http_1_0_with_a_host_is_served_and_closed(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert await connection.answer() == TAKEN
        assert await connection.ended()


@pytest.mark.parametrize(
    "host", [b"http://127.0.0.1:8080", b"pstn.avc.example.com", b"[", b"a b", b"\xe4\xb8\xad"]
)
async def test_any_host_value_is_served(site: Site, host: bytes) -> None:
    assert await site.ask(WHOLE.replace(b"pstn.example.com", host)) == TAKEN


@pytest.mark.parametrize(
    "headers",
    [
        b"Accept: application/json;\r\nContent-Type: application/json;charset=utf-8;\r\n",
        b"Content-Type: application/x-www-form-urlencoded\r\n",
        b"content-type:\r\n",
        b"Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        b"Connection: keep-alive\r\nCookie: a=b\r\nX-Empty:\r\n",
    ],
)
async def test_odd_headers_are_served(site: Site, headers: bytes) -> None:
    assert await site.ask(POST, HOST, headers, length(ASKED), b"\r\n", ASKED) == TAKEN


OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"upgrade:websocket\r\nCONNECTION:\tupgrade\r\nSec-WebSocket-Version: 13\r\n",
    b"Upgrade: h2c\r\nUpgrade: foo/2\r\nConnection: close, Upgrade\r\n",
]


@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_to_upgrade_is_ignored(site: Site, offer: bytes) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(ASKED), ASKED)
    assert await site.ask(POST, HOST, offer, length(ASKED), b"\r\n", ASKED) == TAKEN
    assert await site.ask(POST, HOST, offer, b"Transfer-Encoding: chunked\r\n\r\n", chunked) == TAKEN
    assert await site.ask(POST, offer, length(ASKED), b"\r\n", ASKED) == NO_HOST
    assert (
        json.loads(await site.ask(b"GET /201511v3/x HTTP/1.1\r\n", HOST, offer, b"\r\n"))["errorCode"] == "-2"
    )


async def test_offers_to_upgrade_on_one_connection_in_one_segment_and_byte_by_byte(site: Site) -> None:
    offering = POST + HOST + OFFERS[0] + length(ASKED) + b"\r\n" + ASKED
    async with site.connect() as connection:
        await connection.send(offering + WHOLE + offering + offering)
        for _ in range(4):
            assert await connection.answer() == TAKEN
        connection.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await connection.send(*(offering[at : at + 1] for at in range(len(offering))))
        assert await connection.answer() == TAKEN
        await connection.send(WHOLE)
        assert await connection.answer() == TAKEN
    assert len(site.desk.requests) == 6


@pytest.mark.parametrize("offer", [b"", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"])
async def test_what_follows_the_last_request_of_a_connection_does_no_harm(site: Site, offer: bytes) -> None:
    async with site.connect() as connection:
        await connection.send(
            POST + HOST + offer + b"Connection: close\r\n" + length(ASKED) + b"\r\n" + ASKED + b"x"
        )
        assert await connection.answer() == TAKEN
        assert await connection.ended()


@pytest.mark.parametrize("line", [b"CONNECT pstn.example.com:443 HTTP/1.1\r\n", b"nonsense\r\n"])
async def test_what_is_no_request_is_a_400_and_the_end(site: Site, line: bytes) -> None:
    async with site.connect() as connection:
        await connection.send(line, HOST, OFFERS[0], b"\r\n")
        assert (await connection.head())[0] == b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize(
    "line",
    [b"GET /201511v3/callBack?id=test HTTP/1.1\r\n", b"PUT /201511v3/callBack/ HTTP/1.1\r\n"],
)
async def test_another_method_with_and_without_a_body(site: Site, line: bytes) -> None:
    assert await site.ask(line, HOST, b"\r\n") == b'{"errorCode":"-2","msg":"use POST","requestId":""}'
    with_body = await site.ask(line, HOST, length(ASKED), b"\r\n", ASKED)
    assert with_body == b'{"errorCode":"-2","msg":"use POST","requestId":"r-1"}'


async def test_a_path_with_a_trailing_slash_and_an_absolute_one(site: Site) -> None:
    assert await site.ask(WHOLE.replace(b"callBack?", b"callBack/?")) == TAKEN
    assert await site.ask(WHOLE.replace(b" /2015", b" http://pstn.example.com/2015")) == TAKEN
    assert await site.ask(WHOLE.replace(b"callBack?", b"call%42ack?")) == TAKEN


async def test_a_post_without_a_body(site: Site) -> None:
    empty = b'{"errorCode":"-2","msg":"body: empty","requestId":""}'
    assert await site.ask(POST, HOST, b"\r\n") == empty
    assert await site.ask(POST, HOST, b"Content-Length: 0\r\n\r\n") == empty


async def test_a_body_of_a_declared_size_beyond_the_limit_is_not_awaited(site: Site) -> None:
    assert await site.ask(POST, HOST, b"Content-Length: 100000000000\r\n\r\n") == TOO_LARGE


async def test_a_huge_body_gets_its_answer_and_the_connection_goes_on(site: Site) -> None:
    huge = b'{"a":"' + b"x" * 3_000_000 + b'"}'
    async with site.connect() as connection:
        sending = asyncio.create_task(connection.send(POST, HOST, length(huge), b"\r\n", huge))
        assert await connection.answer() == TOO_LARGE
        await sending
        await connection.send(WHOLE)
        assert await connection.answer() == TAKEN


async def test_a_huge_body_of_undeclared_size_is_refused_while_it_is_still_coming(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(POST, HOST, b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.send(b"%x\r\n" % (MAX_BODY_BYTES + 1), b"x" * (MAX_BODY_BYTES + 1), b"\r\n")
        assert await connection.answer() == TOO_LARGE


async def test_a_body_in_chunks_is_served(site: Site) -> None:
    parts = [b"%x\r\n%b\r\n" % (1, ASKED[at : at + 1]) for at in range(len(ASKED))]
    assert await site.ask(POST, HOST, b"Transfer-Encoding: chunked\r\n\r\n", *parts, b"0\r\n\r\n") == TAKEN


async def test_a_client_that_waits_for_100_is_told_to_continue(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(POST, HOST, length(ASKED), b"Expect: 100-continue\r\n\r\n")
        assert await connection.head() == (b"HTTP/1.1 100 Continue", {})
        await connection.send(ASKED)
        assert await connection.answer() == TAKEN


async def test_a_body_that_stops_coming_is_given_up(site: Site) -> None:
    async with site.connect() as connection:
        started = asyncio.get_running_loop().time()
        await connection.send(POST, HOST, length(ASKED), b"\r\n", ASKED[:-1])
        status, headers = await connection.head()
        told = await connection.reader.readexactly(int(headers[b"content-length"]))
        assert status == b"HTTP/1.1 200 OK"
        assert headers[b"connection"] == b"close"
        assert told == b'{"errorCode":"-2","msg":"body: not received in time","requestId":""}'
        assert asyncio.get_running_loop().time() - started >= BODY_TIMEOUT_S * 0.9
        assert await connection.ended()
    assert site.desk.identities == []


async def test_a_client_that_leaves_before_its_body_is_complete_rings_nobody(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(POST, HOST, length(ASKED), b"\r\n", ASKED[:-1])
    assert await site.ask(WHOLE) == TAKEN
    assert len(site.desk.identities) == len(site.desk.requests) == 1


async def test_a_call_is_dispatched_although_its_client_left_before_the_answer(site: Site) -> None:
    site.desk.may_answer.clear()
    async with site.connect() as connection:
        await connection.send(WHOLE)
        async with asyncio.timeout(10):
            await site.desk.accepting.wait()
    assert not site.desk.dispatched.is_set()
    site.desk.may_answer.set()
    async with asyncio.timeout(10):
        await site.desk.dispatched.wait()
    assert site.desk.seen == ["accept", "dispatch"]


async def test_nothing_is_dispatched_before_the_call_is_accepted(site: Site) -> None:
    site.desk.may_answer.clear()
    async with site.connect() as connection:
        await connection.send(WHOLE)
        async with asyncio.timeout(10):
            await site.desk.accepting.wait()
        assert site.desk.seen == ["accept"]
        site.desk.may_answer.set()
        assert await connection.answer() == TAKEN


async def test_requests_that_follow_each_other_on_one_connection(site: Site) -> None:
    async with site.connect() as connection:
        await connection.send(WHOLE + WHOLE.replace(b"callBack", b"getVirtualNum") + WHOLE)
        assert await connection.answer() == TAKEN
        assert json.loads(await connection.answer())["msg"] == "operation not supported: getVirtualNum"
        assert await connection.answer() == TAKEN
    assert len(site.desk.requests) == 2


async def test_a_failure_shows_the_client_no_trace(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.desk.failure = RuntimeError("secret")
    with caplog.at_level(logging.ERROR, logger="uvicorn.error"):
        told = await site.ask(WHOLE)
    assert told == b'{"errorCode":"-501","msg":"server disabled","requestId":"r-1"}'
    assert caplog.records == []  # the server itself noticed nothing


@pytest.mark.parametrize("line", [b"GET /healthz HTTP/1.1\r\n", b"GET /nothing HTTP/1.1\r\n"])
async def test_other_paths_go_to_the_application(site: Site, line: bytes) -> None:
    async with site.connect() as connection:
        await connection.send(line, HOST, b"\r\n")
        status, _ = await connection.head()
    assert status == (b"HTTP/1.1 200 OK" if b"healthz" in line else b"HTTP/1.1 404 Not Found")
