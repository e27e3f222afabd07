"""`huibo up`, `huibo demo` and the command line on a running stack, as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import huibo
from huibo.engine.install.binary import Asterisk
from huibo.engine.install.settings import install_settings
from huibo.stack.stack import Ready

PATIENCE_S = 60
REPO = Path(huibo.__file__).parents[1]


@pytest.fixture
def environment(asterisk: Asterisk, tmp_path: Path) -> dict[str, str]:
    """A cache of its own that knows the Asterisk that there is already."""
    cache = tmp_path / "cache"
    cache.mkdir()
    if (prefixes := install_settings().cache / "prefix").is_dir():
        (cache / "prefix").symlink_to(prefixes)
    return dict(os.environ) | {"HUIBO_CACHE_DIR": str(cache), "PYTHONPATH": str(REPO)}


async def start(environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "huibo",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    process = await start(environment, *arguments)
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def until(found: Callable[[], Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not (result := found()):
            await asyncio.sleep(0.05)
    return result


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@asynccontextmanager
async def up(environment: dict[str, str], ready_file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start(environment, "up", "--ready-file", str(ready_file))
    try:
        await until(lambda: ready_file.exists() or process.returncode is not None)
        assert ready_file.exists(), (await process.communicate())[0].decode()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def post(ready: dict[str, Any], **fields: str) -> dict[str, str]:
    body = {"appId": ready["app_id"], "src": "008613800000105", "dst": "008613900000100"} | fields
    url = f"{ready['base_url']}/201511v3/callBack?id={ready['id']}"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        decoded: dict[str, str] = json.loads(await answer.read())
        return decoded


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_up_tells_scripts_what_runs_and_leaves_nothing_behind(
    environment: dict[str, str], tmp_path: Path, stop: signal.Signals
) -> None:
    file = tmp_path / "ready.json"
    async with up(environment, file) as process:
        ready = json.loads(file.read_text())
        assert list(ready) == [field.name for field in fields(Ready)]
        pids = [ready[name] for name in ("pid", "engine_pid", "carrier_pid")]
        assert all(map(alive, pids))
        assert (await post(ready))["errorCode"] == "0"
        process.send_signal(stop)
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    assert "curl -s" in output.decode()
    assert not any(map(alive, pids))
    assert not file.exists()


async def test_up_starts_again_what_dies(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    async with up(environment, file):
        ready = json.loads(file.read_text())
        for name in ("carrier_pid", "pid", "engine_pid"):
            os.kill(ready[name], signal.SIGKILL)
            now = await until(lambda before=ready, name=name: newer(file, before, name))
            assert (await post(now))["errorCode"] == "0"
            assert {key for key in now if now[key] != ready[key]} == {name}
            ready = now


def newer(file: Path, before: dict[str, Any], name: str) -> dict[str, Any] | None:
    ready: dict[str, Any] = json.loads(file.read_text())
    return ready if ready[name] != before[name] else None


async def test_children_end_with_an_up_that_is_killed(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    async with up(environment, file) as process:
        ready = json.loads(file.read_text())
        process.kill()
        await process.wait()
        await until(lambda: not any(alive(ready[n]) for n in ("pid", "engine_pid", "carrier_pid")))


async def test_two_at_once_and_the_command_line_finds_the_newest(
    environment: dict[str, str], tmp_path: Path
) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    async with up(environment, first), up(environment, second):
        one, two = (json.loads(file.read_text()) for file in (first, second))
        assert one["base_url"] != two["base_url"]
        assert one["run_dir"] != two["run_dir"]
        for ready in (one, two):
            assert (await post(ready))["errorCode"] == "0"
        newest = environment | {"HUIBO_INSTANCE": "newest"}
        code, _ = await run(newest, "app", "add", "shop", "--url-id", "shop-1")
        assert code == 0
        assert (await post(two, appId="shop"))["errorCode"] == "-402"
        assert (await post(one, appId="shop"))["errorCode"] == "-401"
        code, output = await run(newest, "app", "list", "--json")
        assert code == 0
        assert [app["app_id"] for app in json.loads(output)] == ["demo", "shop"]


async def test_the_command_line_without_a_running_stack(environment: dict[str, str]) -> None:
    code, output = await run(environment | {"HUIBO_INSTANCE": "newest"}, "app", "list")
    assert (code, output.count("\n")) == (1, 1)
    assert "./dev up" in output


async def test_the_demo_proves_a_call(environment: dict[str, str]) -> None:
    code, output = await run(environment, "demo")
    assert code == 0, output
    for line in (
        "the caller heard",
        "the callee heard",
        "both legs are bridged",
        "callEndStatus",
        "it works",
    ):
        assert line in output


async def test_the_demo_without_an_asterisk_says_what_to_do(environment: dict[str, str]) -> None:
    code, output = await run(environment | {"HUIBO_ASTERISK": "/nowhere/asterisk"}, "demo")
    assert code == 1
    assert output.count("\n") == 1, output
    assert "/nowhere/asterisk" in output
