"""Targets that refuse, break, talk nonsense, or must not be talked to: what becomes of the push."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import unused_port
from push_office import Journal, Office, cdr, ids, status
from push_receivers import NameServer, raw_receiver, receiver

pytest_plugins = ["push_fixtures"]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("ftp://127.0.0.1/x", "the URL is not usable"),
        ("http://127.0.0.1:99999/", "the URL is not usable"),
        ("http://[::1", "the URL is not usable"),
        ("http:///push", "the URL is not usable"),
        ("", "the URL is not usable"),
        ("http://does-not-exist.invalid/", "the name does-not-exist.invalid does not resolve"),
        (f"http://{'a' * 70}.invalid/", f"the name {'a' * 70}.invalid does not resolve"),
        ("http://127.0.0.1:{closed}/", "connection refused"),
    ],
)
async def test_targets_that_cannot_be_reached(office: Office, journal: Journal, url: str, error: str) -> None:
    office.open(cdr_retry_s=[])
    await office.owe(cdr("c1", 1, url.replace("{closed}", str(unused_port()))))
    await journal.heard("push dead")
    await office.stop()
    assert await office.outcome() == ("dead", 1, error)


async def test_a_receiver_that_closes_the_connection(office: Office, journal: Journal) -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with raw_receiver(close) as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url))
        await journal.heard("push dead")
        await office.stop()
    assert customer.requests == 3
    assert await office.outcome() == ("dead", 3, "connection closed without an answer")


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 20x OK\r\n\r\n"])
async def test_an_answer_that_is_not_http(office: Office, journal: Journal, nonsense: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(nonsense)
        await writer.drain()

    async with raw_receiver(talk) as customer:
        office.open(cdr_retry_s=[])
        await office.owe(cdr("c1", 1, customer.url))
        await journal.heard("push dead")
        await office.stop()
    assert await office.outcome() == ("dead", 1, "the answer is not proper HTTP")


async def test_a_receiver_that_speaks_no_tls(office: Office, journal: Journal) -> None:
    async with receiver() as customer:
        office.open(cdr_retry_s=[])
        await office.owe(cdr("c1", 1, customer.url().replace("http:", "https:")))
        (entry,) = await journal.heard("push dead")
    assert entry["error"].startswith("TLS: ")


@pytest.mark.parametrize("body", ["drips", "never ends", "breaks off"])
async def test_the_answer_counts_and_not_its_body(
    office: Office, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huibo.push.sender._REPLY_S", 0.1)
    sent = 0

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 999999999\r\n\r\n")
        while body != "breaks off":
            writer.write(b"x" * (1 if body == "drips" else 65536))
            sent += 1 if body == "drips" else 65536
            await writer.drain()
            await asyncio.sleep(0.01 if body == "drips" else 0)
        await writer.drain()

    async with raw_receiver(talk) as customer:
        office.open()
        await office.owe(status("c1", 1, customer.url), status("c1", 2, customer.url))
        await customer.arrived(2)
        await office.stop()
    assert await office.rows("state", "attempts") == [("delivered", 1)] * 2
    assert sent < 8 * 1024 * 1024, "far less than it offers is taken; the rest is what sockets buffer"


LOOPBACK = "is loopback: not in push.allowed_networks"


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("127.0.0.1", f"address 127.0.0.1 {LOOPBACK}"),
        ("localhost", LOOPBACK),
        ("[::1]", f"address ::1 {LOOPBACK}"),
        ("[::ffff:127.0.0.1]", f"address ::ffff:7f00:1 {LOOPBACK}"),
        ("[64:ff9b::7f00:1]", f"address 64:ff9b::7f00:1 {LOOPBACK}"),
        ("１２７.0.0.1", f"address 127.0.0.1 {LOOPBACK}"),
        ("0x7f.1", LOOPBACK),
        ("0x7f000001", LOOPBACK),
        ("0", "unusual form"),
        ("127.1", "unusual form"),
        ("2130706433", "unusual form"),
        ("0177.0.0.1", "unusual form"),
        ("0.0.0.0", "address 0.0.0.0 is unspecified: not in push.allowed_networks"),
    ],
)
async def test_targets_that_are_refused(office: Office, journal: Journal, host: str, error: str) -> None:
    """Each of them would reach the server, and none does. The schedule goes on."""
    async with receiver() as customer:
        office.open(allowed_networks=[], cdr_retry_s=[3600])
        await office.owe(cdr("c1", 1, customer.url().replace("127.0.0.1", host)))
        (entry,) = await journal.heard("push failed")
        await office.stop()
        assert customer.got == []
    state, attempts, last_error = await office.outcome()
    assert (state, attempts) == ("pending", 1)
    assert error in last_error
    assert entry["error"] == last_error
    assert len(last_error) <= 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_targets_that_the_operator_allows(office: Office, host: str) -> None:
    async with receiver() as customer:
        office.open(allowed_networks=["127.0.0.0/8"])
        await office.owe(cdr("c1", 1, customer.url().replace("127.0.0.1", host)))
        await customer.arrived(1)
        await office.stop()
    assert await office.outcome() == ("delivered", 1, None)


async def test_of_a_names_addresses_only_those_allowed_are_used(
    office: Office, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "mixed.example": ["10.0.0.1", "169.254.169.254", "127.0.0.1"],
        "inside.example": ["fd00::1", "10.0.0.1"],
    }
    NameServer(names, monkeypatch).awake.set()
    async with receiver() as customer:
        office.open(cdr_retry_s=[])
        await office.owe(*(cdr(name, 1, customer.url().replace("127.0.0.1", name)) for name in names))
        await customer.arrived(1)
        await journal.heard("push dead")
        await office.stop()
    assert ids(customer) == ["mixed.example-1"]
    assert await office.rows("state", "last_error") == [
        (
            "dead",
            "address fd00::1 is private: not in push.allowed_networks, "
            "address 10.0.0.1 is private: not in push.allowed_networks",
        ),
        ("delivered", None),
    ]


async def test_networks_that_are_none_are_told_at_once(office: Office) -> None:
    with pytest.raises(ValueError, match=r"push\.allowed_networks"):
        office.open(allowed_networks=["everything"])
