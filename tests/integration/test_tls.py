"""HTTPS by settings: the certificate of the operator, and errors in it that are told at the start."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SOCK_STREAM

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
