"""`huibo doctor`: nothing is wrong with a real stack; then it is broken piece by piece, and each is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import SOCK_STREAM

import pytest

from huibo import config
from huibo.engine.install.instance import Instance
from huibo.stack import ports
from huibo.stack.stack import Stack
from tests.integration.cli import Done, huibo
from tests.integration.conftest import StartStack
from tests.integration.customer import PATIENCE_S, Customer

Finding = tuple[str, str, str, str]


def findings(done: Done) -> list[Finding]:
    """Level, topic, text and hint of each line."""
    found = done.json
    assert found["ok"] is (done.code == 0)
    return [(one["level"], one["topic"], one["text"], one["hint"]) for one in found["findings"]]


@pytest.fixture(scope="module")
def stack(alone: tuple[Stack, Customer]) -> Stack:
    return alone[0]


async def bad(stack: Stack, **settings: str) -> list[Finding]:
    """What is not ok."""
    done = await huibo(stack, "doctor", "--json", **settings)
    assert done.err == ""
    return [one for one in findings(done) if one[0] != "ok"]


async def test_nothing_is_wrong_with_a_stack(stack: Stack) -> None:
    done = await huibo(stack, "doctor")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line for line in lines[:-1] if not line.startswith("ok    ")] == []
    topics = {line.split()[1] for line in lines[:-1]}
    assert topics >= {
        "settings",
        "database",
        "engine",
        "clock",
        "server",
        "trunk",
        "apps",
        "recordings",
        "voice",
    }
    assert lines[-1] == f"{len(lines) - 1} ok, 0 to look at, 0 to repair"


async def test_a_wrong_password(stack: Stack) -> None:
    ((level, topic, text, hint),) = await bad(stack, HUIBO_ENGINE__PASSWORD="wrong")
    assert (level, topic) == ("FAIL", "engine")
    assert text == "Asterisk refuses user huibo with this password"
    assert "password" in hint


async def test_another_place_for_asterisk(stack: Stack) -> None:
    (port,) = ports.free(SOCK_STREAM)
    ((level, topic, text, _),) = await bad(stack, HUIBO_ENGINE__URL=f"http://127.0.0.1:{port}")
    assert (level, topic) == ("FAIL", "engine")
    assert text.startswith(f"nobody answers at http://127.0.0.1:{port} (")
    ((_, _, text, _),) = await bad(stack, HUIBO_ENGINE__URL=stack.base_url)  # huibo itself is no Asterisk
    assert text == f"what answers at {stack.base_url} offers no ARI"


async def test_nobody_at_the_servers_port(stack: Stack) -> None:
    (port,) = ports.free(SOCK_STREAM)
    ((level, topic, text, hint),) = await bad(stack, HUIBO_HTTP__PORT=str(port))
    assert (level, topic, hint) == ("FAIL", "server", "start `huibo serve`")
    assert text.startswith(f"nobody answers at 127.0.0.1:{port}")
    engine = config.load(stack.settings_file).engine.url.rpartition(":")[2]
    ((_, _, text, _),) = await bad(stack, HUIBO_HTTP__PORT=engine)
    assert text == f"what answers at 127.0.0.1:{engine} is no huibo"


async def test_folders_that_cannot_be_written(stack: Stack) -> None:
    file = stack.folder / "up.pid"
    found = await bad(
        stack,
        HUIBO_RECORDING__FOLDER="/proc/recordings",
        HUIBO_RECORDING__RAW_FOLDER=str(file / "raw"),
    )
    assert [(level, topic) for level, topic, *_ in found] == [("FAIL", "recordings")] * 2
    assert "cannot write to /proc/recordings" in found[0][2]
    assert f"cannot write to {file}/raw" in found[1][2]


async def test_a_voice_that_says_nothing(stack: Stack) -> None:
    silent = '["sh", "-c", "head -c 32044 /dev/zero"]'
    ((level, topic, _, _),) = await bad(stack, HUIBO_PROMPTS__VOICE="command", HUIBO_PROMPTS__COMMAND=silent)
    assert (level, topic) == ("FAIL", "voice")
    ((_, _, text, _),) = await bad(stack, HUIBO_PROMPTS__VOICE="command", HUIBO_PROMPTS__COMMAND='["/none"]')
    assert "/none" in text


@asynccontextmanager
async def broken(start: StartStack) -> AsyncIterator[tuple[Stack, Instance]]:
    """A stack of one's own, and its engine."""
    stack, _ = await start()
    yield stack, Instance(stack.asterisk, stack.folder / "engine")


async def console(instance: Instance, command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *instance.cli(command), env=instance.env, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0


async def test_an_engine_that_is_taken_apart(own: StartStack) -> None:
    async with broken(own) as (stack, instance):
        await console(instance, "dialplan remove context record")
        await console(instance, "module unload format_sln.so")
        rtp = instance.etc / "rtp.conf"
        rtp.write_text("[general]\nrtpstart=10000 ; too few\nrtpend=10039\n")
        http = instance.etc / "http.conf"
        http.write_text(http.read_text().replace("sessionlimit", ";sessionlimit"))
        modules, context, range_, sessions = await bad(stack)
        assert (modules[0], modules[2]) == ("FAIL", "modules that do not run: format_sln.so")
        assert (context[0], context[2]) == (
            "FAIL",
            "the context record, which starts recordings, is not in its dialplan",
        )
        assert (range_[0], range_[2]) == ("warn", "RTP ports 10000 to 10039 are enough for 10 calls at once")
        assert (sessions[0], sessions[3]) == ("warn", "sessionlimit=1000")
        await stack.engine_child.stop()
        engine, server, *_ = await until_bad(stack, 2)
        assert (engine[0], engine[1]) == ("FAIL", "engine")
        assert engine[2].startswith("nobody answers at http://127.0.0.1:")
        assert (server[0], server[1]) == ("FAIL", "server")
        assert "takes no calls: no connection to Asterisk" in server[2]
        await stack.control_child.stop()
        _, server = await until_bad(stack, 2)
        assert server[2].startswith("nobody answers at 127.0.0.1:")


async def until_bad(stack: Stack, count: int) -> list[Finding]:
    """The server notices the loss of its engine in its own time."""
    async with asyncio.timeout(PATIENCE_S):
        while len(found := await bad(stack)) < count:
            pass
    return found


async def test_a_user_that_may_only_look(own: StartStack) -> None:
    async with broken(own) as (stack, instance):
        ari = instance.etc / "ari.conf"
        ari.write_text(ari.read_text().replace("read_only=no", "read_only=yes"))
        await console(instance, "module reload res_ari.so")
        assert ("FAIL", "engine", "its user may only look") in [one[:3] for one in await bad(stack)]
