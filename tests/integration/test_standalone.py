"""The Asterisk that `huibo asterisk` makes ready: it starts by its script, and a huibo finds it in order."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SOCK_STREAM

import aiohttp

import huibo
from huibo.engine.install.binary import Asterisk
from huibo.stack import ports

PATIENCE_S = 60.0


async def output_of(*words: str, env: dict[str, str] | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, output.decode()
    return output.decode()


@asynccontextmanager
async def running(*words: str, env: dict[str, str] | None = None) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *words, env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), PATIENCE_S)


async def test_what_it_makes_runs_and_a_huibo_is_ready(asterisk: Asterisk, tmp_path: Path) -> None:
    del asterisk  # only that there is one
    folder = tmp_path / "asterisk"
    http, engine, tls, unverified = ports.free(*(SOCK_STREAM,) * 4)
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUIBO_")}
    env |= {
        "HUIBO_DATABASE_URL": f"sqlite:///{tmp_path}/huibo.sqlite3",
        "HUIBO_HTTP__PORT": str(http),
        "HUIBO_ENGINE__URL": f"http://127.0.0.1:{engine}",
        "HUIBO_ENGINE__PASSWORD": "geheim",
        "HUIBO_PROMPTS__FOLDER": str(tmp_path / "prompts"),
        "HUIBO_RECORDING__FOLDER": str(tmp_path / "recordings"),
        "HUIBO_RECORDING__RAW_FOLDER": str(tmp_path / "raw"),
        "PYTHONPATH": str(Path(huibo.__file__).parents[1]),
    }
    if "HUIBO_ASTERISK" in os.environ:
        env["HUIBO_ASTERISK"] = os.environ["HUIBO_ASTERISK"]
    if "HUIBO_CACHE_DIR" in os.environ:
        env["HUIBO_CACHE_DIR"] = os.environ["HUIBO_CACHE_DIR"]
    command = (sys.executable, "-m", "huibo")
    told = await output_of(
        *(*command, "asterisk", str(folder), "--sip", f"127.0.0.1:{ports.free_in_both()}"),
        *("--tls-port", str(tls), "--tls-unverified-port", str(unverified)),
        *("--public-address", "203.0.113.5", "--local-net", "10.0.0.0/8"),
        env=env,
    )
    assert "is ready in" in told
    console = str(folder / "console")
    async with running(str(folder / "start")):
        async with asyncio.timeout(PATIENCE_S):
            while "fully booted" not in await output_of(
                "sh", "-c", f"'{console}' core waitfullybooted; true"
            ):
                await asyncio.sleep(0.1)
        transport = await output_of(console, "pjsip", "show", "transport", "udp")
        assert "203.0.113.5" in transport
        async with running(*command, "serve", env=env), aiohttp.ClientSession() as session:
            async with asyncio.timeout(PATIENCE_S):
                while not await ready(session, http):
                    await asyncio.sleep(0.1)


async def ready(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
