"""The ways in which a key can come in that the sandbox does not use: SIP INFO, and as sound.

(RFC 4733 is what the sandbox's phones do: test_menu.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from huibo import config
from huibo.clock import Clock
from huibo.model import Trunk
from huibo.stack.stack import Stack
from huibo.storage import catalog
from huibo.storage.database import open_engine
from tests.integration.conftest import StartStack
from tests.integration.sipp import FarEnd

CALLER, CALLEE = "13800000000", "13900000000"


@asynccontextmanager
async def far_end(stack: Stack, folder: Path, caller: str, key: str) -> AsyncIterator[FarEnd]:
    """A trunk to SIPp, which plays `caller` to the first leg and hangs up the second 3 s after its answer."""
    keys = {"reason": "Q.850;cause=16", "key": key}
    async with FarEnd(folder / "sipp", caller, "bye", 2, keys) as sipp:
        database = open_engine(config.load(stack.settings_file).database_url)
        with database.begin() as connection:
            catalog.add_trunk(
                connection, Trunk("sipp", "127.0.0.1", sipp.port, priority=-1), Clock().now_ms()
            )
        database.dispose()
        yield sipp


@pytest.mark.parametrize(("way", "caller", "key"), [("info", "info", "5"), ("in-band", "phone", "8")])
async def test_a_key_that_comes_as(own: StartStack, tmp_path: Path, way: str, caller: str, key: str) -> None:
    stack, customer = await own()
    menu = {
        "interruptPrompt": "请按键，请按键，请按键",
        "keyList": {"key": key, "operate": "1"},
        "keyPressUrl": customer.receiver.url("key"),
    }
    async with far_end(stack, tmp_path, caller, key) as sipp:
        call = await customer.call(CALLER, CALLEE, preCallerHandle=menu)
        await call.until_told("src answered")
        if way == "in-band":
            sipp.caller.press_in_band(key, ("127.0.0.1", sipp.offered_port(CALLER)))
        cdr = await call.cdr()
        assert cdr["callEndStatus"] == "1"
        await call.until_keys(1)
        assert [push["key"] for push in call.keys] == [key]
        async with asyncio.timeout(30):
            await sipp.verdict()
