"""HTTPS by settings: the certificate of the operator, and errors in it that are told at the start."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from socket import SOCK_STREAM
from time import monotonic

import aiohttp
import pytest
import trustme

from huibo.stack.ports import free

PATIENCE_S = 60


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    return authority


@asynccontextmanager
async def serving(folder: Path, **http: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A control plane without an engine: it answers all the same."""
    (port,) = free(SOCK_STREAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUIBO_")}
    environment |= {"HUIBO_DATABASE_URL": f"sqlite:///{folder}/huibo.sqlite3", "HUIBO_HTTP__PORT": str(port)}
    environment |= {f"HUIBO_HTTP__{name.upper()}": value for name, value in http.items()}
    for section in ("RECORDING__FOLDER", "RECORDING__RAW_FOLDER", "PROMPTS__FOLDER"):
        environment[f"HUIBO_{section}"] = str(folder / section.lower())
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "huibo", "serve"), env=environment, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process, port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def answer(url: str, trust: ssl.SSLContext | bool) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with session.get(url, ssl=trust) as reply:
                    return reply.status, await reply.read()
            except (aiohttp.ClientConnectorCertificateError, aiohttp.ServerDisconnectedError):
                raise
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)


async def test_https_with_a_certificate_of_ones_own(authority: trustme.CA, tmp_path: Path) -> None:
    file = str(tmp_path / "both.pem")
    async with serving(tmp_path, tls_certificate=file, tls_key=file) as (_, port):
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        assert await answer(f"https://127.0.0.1:{port}/healthz", trust) == (200, b'{"alive":true}')
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await answer(f"https://127.0.0.1:{port}/healthz", True)
        refusal = f"https://127.0.0.1:{port}/201511v3/callBack?id=x"
        async with aiohttp.ClientSession() as session, session.post(refusal, data=b"{}", ssl=trust) as reply:
            assert (await reply.json(content_type=None))["errorCode"] == "-2"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: {"tls_certificate": file}, "tls_certificate and tls_key belong together"),
        (lambda file: {"tls_certificate": file, "tls_key": f"{file}x"}, "is not there, or cannot be read"),
    ],
)
async def test_what_is_wrong_with_the_files_is_told(
    authority: trustme.CA, tmp_path: Path, spoil: Callable[[str], dict[str, str]], says: str
) -> None:
    del authority
    async with serving(tmp_path, **spoil(str(tmp_path / "both.pem"))) as (process, _):
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 1
        assert says in said.decode()
        assert "Traceback" not in said.decode()


async def closed(reader: asyncio.StreamReader) -> None:
    """Waits until the server has ended the connection."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            assert await reader.read() == b""


def abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_handshake_that_is_not_finished_is_not_awaited(authority: trustme.CA, tmp_path: Path) -> None:
    """Nor does it take the place of anybody: those in it are counted and give way like all others."""
    file = str(tmp_path / "both.pem")
    limits = {"head_timeout_s": "2", "max_connections": "40", "max_connections_per_address": "30"}
    async with serving(tmp_path, tls_certificate=file, tls_key=file, **limits) as (_, port):
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        health = f"https://127.0.0.1:{port}/healthz"
        await answer(health, trust)
        hello = ssl.MemoryBIO()
        client = trust.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        said = hello.read()
        began = monotonic()
        async with AsyncExitStack() as exits:
            for begun in (b"", said[:3], said[:60]):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                exits.callback(abort, writer)
                writer.write(begun)
                await closed(reader)
            assert 2 * 0.9 <= monotonic() - began <= 3 * 2 + 20
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            exits.callback(abort, writer)
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")  # no TLS at all
            async with asyncio.timeout(PATIENCE_S):
                with suppress(ConnectionError):
                    assert b"HTTP" not in await reader.read()
            for number in range(100):
                where = (f"127.0.3.{number % 10}", 0)
                _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=where)
                exits.callback(abort, writer)
            assert await answer(health, trust) == (200, b'{"alive":true}')
            held = [
                await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.4.1", 0))
                for _ in range(31)
            ]
            for _, writer in held:
                exits.callback(abort, writer)
            await closed(held[-1][0])


async def test_a_request_in_one_breath_with_the_handshake(authority: trustme.CA, tmp_path: Path) -> None:
    """What follows the client's last message of the handshake in the same packet is not lost."""
    file = str(tmp_path / "both.pem")
    async with serving(tmp_path, tls_certificate=file, tls_key=file) as (_, port):
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        await answer(f"https://127.0.0.1:{port}/healthz", trust)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        client.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        writer.write(outgoing.read())
                        incoming.write(await reader.read(65536))
                client.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                writer.write(outgoing.read())  # the end of the handshake, and the request
                plain = b""
                while b"alive" not in plain:
                    incoming.write(await reader.read(65536))
                    with suppress(ssl.SSLWantReadError):
                        plain += client.read(65536)
        finally:
            writer.transport.abort()
        assert plain.startswith(b"HTTP/1.1 200 OK")
