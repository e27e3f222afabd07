"""A flood of requests: it is refused cheaply, and neither a live call nor another customer notices it."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio import StreamReader, StreamWriter
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest

from huibo.http.flood import Rate
from huibo.http.origin import Proxies, origin
from huibo.stack.stack import Stack
from tests.integration.conftest import StartStack
from tests.integration.test_slow_clients import ASK, connect, reply, site

REFUSED = b'{"errorCode":"-423","msg":"too many requests"}'
PER_S = 20


async def flood(port: int, where: str, until: asyncio.Event) -> Counter[bytes]:
    """Ask for what another asks, as fast as it goes, over some connections. Returns what was answered."""
    answers: Counter[bytes] = Counter()

    async def one() -> None:
        async with connect(port, where) as (reader, writer):
            while not until.is_set():
                writer.write(ASK)
                answers[(await reply(reader))[1]] += 1

    await asyncio.gather(*(one() for _ in range(8)))
    return answers


async def test_a_live_call_goes_on_undisturbed(own: StartStack) -> None:
    stack, customer = await own({"http": {"requests_per_s": PER_S}, "abuse": {"refusals": 0}})
    port, over = int(stack.base_url.rpartition(":")[2]), asyncio.Event()
    flooding = asyncio.create_task(flood(port, "127.0.3.1", over))
    try:
        began = monotonic()
        call = await customer.call("13800000100", "13900000101")  # the callee hangs up 5 s after its answer
        assert monotonic() - began < 5
        cdr = await call.cdr()
    finally:
        over.set()
        answers = await flooding
    assert cdr["callEndStatus"] == "1"
    assert 4 <= int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"]) <= 7
    assert call.told[:6] == [
        *("src invite", "src ringing", "src answered"),
        *("dst invite", "dst ringing", "dst answered"),
    ]
    took = monotonic() - began
    passed = sum(count for body, count in answers.items() if body != REFUSED)
    assert PER_S <= passed <= PER_S * (took + 2)
    assert answers[REFUSED] > 10 * passed
    told = _log(stack).count('"too many requests"')
    assert 1 <= told <= took / 10 + 2  # not a line each


def _log(stack: Stack) -> str:
    return stack.log.read_text()


async def turned_away(asking: bytes, reader: StreamReader, writer: StreamWriter) -> tuple[bytes, bytes]:
    """How it is said: Retry-After, and the body. Where a second has passed meanwhile, one request passes."""
    for _ in range(20):
        writer.write(asking)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
        if b" 429 " in head or b"too many requests" in body:
            break
    return b"".join(re.findall(rb"\r\nretry-after: (.*)\r\n", head)), body


async def test_each_api_says_it_in_its_own_words(tmp_path: Path) -> None:
    async with site(tmp_path, requests_per_s="1") as port, connect(port) as (reader, writer):
        writer.write(ASK)
        assert json.loads((await reply(reader))[1])["errorCode"] == "-401"
        for path, body in (
            ("getStatus", REFUSED),
            ("callBack", REFUSED[:-1] + b',"requestId":""}'),
            ("getCdr", b'{"errorCode":"-423","result":"too many requests","msg":"too many requests"}'),
        ):
            asking = ASK.replace(b"getStatus", path.encode())
            assert await turned_away(asking, reader, writer) == (b"", body)
        for path in ("/v1/apps", "/recordings/x"):
            asking = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode()
            retry_after, body = await turned_away(asking, reader, writer)
            assert re.fullmatch(rb"[1-9]", retry_after)
            told = json.loads(body)
            assert (told["status"], told["detail"]) == (429, "too many requests from this address")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reply(reader))[0] == 200
        async with connect(port, "127.0.3.2") as (other, asking):
            asking.write(ASK)
            assert json.loads((await reply(other))[1])["errorCode"] == "-401"


async def test_behind_a_trusted_proxy_each_customer_has_its_own_rate(tmp_path: Path) -> None:
    proxy = {"trusted_proxies": '["127.0.0.1"]'}
    async with site(tmp_path, requests_per_s="1", **proxy) as port, connect(port) as (reader, writer):
        for number, code in ((1, "-401"), (2, "-401"), (1, "-423")):
            writer.write(ASK.replace(b"Host: h", b"X-Forwarded-For: 203.0.113.%d\r\nHost: h" % number))
            assert json.loads((await reply(reader))[1])["errorCode"] == code


def test_a_rate_holds_over_any_time_and_forgets_who_is_gone() -> None:
    now = 1000.0
    rate = Rate(5, lambda: now)
    assert [rate.wait_s("a") == 0 for _ in range(7)] == [True] * 5 + [False] * 2
    assert 0 < rate.wait_s("a") <= 0.2
    assert rate.wait_s("b") == 0
    passed = 0
    for _ in range(1000):
        now += 0.01
        passed += rate.wait_s("a") == 0
    assert 49 <= passed <= 51
    now += 10
    assert rate.wait_s("c") == 0
    assert len(rate) == 1
    for number in range(100_000):
        rate.wait_s(str(number))
    assert len(rate) <= 65_536


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
        (":", ":"),
        ("x" * 100, "x" * 64),
        ("", ""),
    ],
)
def test_whom_an_address_stands_for(host: str, whose: str) -> None:
    assert origin(host) == whose


def test_who_is_a_proxy() -> None:
    proxies = Proxies(["127.0.0.1", "10.1.0.0/16", "2001:db8::/32"])
    assert all(host in proxies for host in ("127.0.0.1", "10.1.2.3", "2001:db8::9", "::ffff:127.0.0.1"))
    assert not any(host in proxies for host in ("127.0.0.2", "10.2.0.1", "", "x"))
    assert "127.0.0.1" not in Proxies([])
