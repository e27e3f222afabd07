"""Receivers that answer as they like: bounded in time and in what is taken of it, and nobody else waits."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import Counter
from contextlib import AsyncExitStack
from time import monotonic

import pytest
from push_office import Journal, Office, cdr, ids, status
from push_receivers import Conversation, NameServer, raw_receiver, receiver

pytest_plugins = ["push_fixtures"]

TIMED_OUT, NOT_HTTP = "timed out after 1.5 s", "the answer is not proper HTTP"
CUT, RESET = "connection closed without an answer", "connection reset by peer"
HEAD = b"HTTP/1.1 200 OK\r\n"
LONG = 200 << 20  # bytes that are offered
SOCKETS = 16 << 20  # bytes that systems may take and keep for us


def says(begin: bytes, again: bytes = b"", every_s: float = 0) -> Conversation:
    """Says something, then something again and again."""

    async def talk(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(begin)
        await writer.drain()
        for _ in range(LONG // len(again) if again else 0):
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(every_s)

    return talk


async def resets(_reader: StreamReader, writer: StreamWriter) -> None:
    writer.transport.abort()


async def hangs(_reader: StreamReader, _writer: StreamWriter) -> None:
    await asyncio.Event().wait()


FILL = b"x" * 65536
HOSTILE: dict[str, tuple[Conversation, set[str]]] = {
    "hangs": (hangs, {TIMED_OUT}),
    "drips its status line": (says(b"HTTP/1.1 200 ", b"O", 0.02), {TIMED_OUT}),
    "drips a header": (says(HEAD + b"X: ", b"x", 0.02), {TIMED_OUT}),
    "drips headers": (says(HEAD, b"X: y\r\n", 0.02), {TIMED_OUT, NOT_HTTP}),
    "has to be continued": (says(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.02), {TIMED_OUT, NOT_HTTP}),
    "an endless status line": (says(b"HTTP/1.1 200 ", FILL), {NOT_HTTP}),
    "an endless header": (says(HEAD + b"X: ", FILL), {NOT_HTTP}),
    "endless headers": (says(HEAD, b"X: y\r\n" * 1000), {NOT_HTTP}),
    "garbage": (says(b"\x00\x16\x03\x01" * 100), {NOT_HTTP}),
    "endless garbage": (says(b"", b"\xff\x00" * 30000), {NOT_HTTP}),
    "is cut in its head": (says(b"HTTP/1.1 200 OK\r\nContent-Le"), {CUT, NOT_HTTP}),
    "a chunk that is none": (says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n"), {NOT_HTTP}),
    "closes": (says(b""), {CUT}),
    "resets": (resets, {RESET, CUT}),
    "moves": (says(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), {"HTTP 302 (redirects are not followed)"}),
}
ENOUGH: dict[str, Conversation] = {
    "100 MB": says(HEAD + b"Content-Length: 104857600\r\n\r\n", FILL),
    "a body without end": says(HEAD + b"\r\n", FILL),
    "chunks without end": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + FILL + b"\r\n"),
    "a body that drips": says(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 0.02),
    "a body that ends early": says(HEAD + b"Content-Length: 1000\r\n\r\nx"),
    "what claims to be packed": says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz"),
}


async def test_hostile_answers_all_at_once(office: Office, journal: Journal) -> None:
    taken: Counter[str] = Counter()

    def counting(name: str, talk: Conversation) -> Conversation:
        async def count(reader: StreamReader, writer: StreamWriter) -> None:
            write = writer.write

            def counted(data: bytes) -> None:
                taken[name] += len(data)
                write(data)

            writer.write = counted  # type: ignore[method-assign,assignment]
            await talk(reader, writer)

        return count

    async with AsyncExitStack() as exits:
        talks = {name: talk for name, (talk, _) in HOSTILE.items()} | ENOUGH
        urls = {}
        for name, talk in talks.items():
            urls[name] = (await exits.enter_async_context(raw_receiver(counting(name, talk)))).url
        fine = await exits.enter_async_context(receiver())
        office.open(timeout_s=1.5, cdr_retry_s=[])
        began = monotonic()
        await office.owe(*(cdr(name, 1, url) for name, url in urls.items()))
        for n in range(20):
            await office.owe(status(f"f{n}", 1, fine.url()))
        await fine.arrived(20)
        assert monotonic() - began < 1.5, "nobody waits for those that hang"
        await journal.heard("push dead", len(HOSTILE))
        await office.stop()
    rows = await office.rows("call_id", "state", "attempts", "last_error")
    ends = {name: (state, error) for name, state, made, error in rows if made == 1}
    assert {name: ends[name] for name in ENOUGH} == dict.fromkeys(ENOUGH, ("delivered", None))
    assert {name for name, (_, errors) in HOSTILE.items() if ends[name][1] not in errors} == set(), ends
    assert max(taken.values()) < SOCKETS, taken.most_common(3)


async def test_a_drip_of_a_byte_a_time_is_cut_at_the_limit_for_all_of_it(
    office: Office, journal: Journal
) -> None:
    """Each byte comes well within any limit for a single read, the head is whole just before the end."""

    async def talk(_reader: StreamReader, writer: StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.8
        writer.write(HEAD)
        while loop.time() < end:
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.05)
        writer.write(b"Content-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_receiver(talk) as customer:
        office.open(timeout_s=1)
        await office.owe(cdr("c1", 1, customer.url), cdr("c2", 1, customer.url))
        await customer.arrived(2)
        await office.until(lambda states: states == ["delivered"] * 2)
        await office.stop()


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_an_idle_connection_that_is_closed_under_the_request_costs_no_attempt(
    office: Office, how: str
) -> None:
    """The receiver takes the second request over it and closes without a word, as if it had not seen it."""
    connections = 0

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # of the second; its own body was small and came with the first
        if how == "reset":
            writer.transport.abort()

    async with raw_receiver(talk) as customer:
        office.open(cdr_retry_s=[])
        for n in range(4):
            await office.owe(cdr(f"c{n}", 1, customer.url))
            await office.until(lambda states: "pending" not in states)
        await office.stop()
    assert await office.rows("state", "attempts") == [("delivered", 1)] * 4
    assert connections >= 3


async def test_a_name_that_changes_its_mind_is_judged_each_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: first an address that is allowed, then one that is not."""
    names = NameServer({"rebind.example": ["127.0.0.1"]}, monkeypatch)
    names.awake.set()
    async with receiver((200, {"Connection": "close"})) as customer:
        office.open(cdr_retry_s=[])
        url = customer.url().replace("127.0.0.1", "rebind.example")
        await office.owe(cdr("c1", 1, url))
        await customer.arrived(1)
        await office.stop()
        names.names["rebind.example"] = ["169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
        office.open(cdr_retry_s=[])
        await office.owe(cdr("c2", 1, url))
        await office.until(lambda states: states[1] == "dead")
        await office.stop()
        assert ids(customer) == ["c1-1"]
    _, (_, error) = await office.rows("state", "last_error")
    assert "not in push.allowed_networks" in error
