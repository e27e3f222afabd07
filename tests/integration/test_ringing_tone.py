"""When our ringing tone ends: with the answer, whether or not anything is to be heard of who answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from huibo import config
from huibo.clock import Clock
from huibo.model import Trunk
from huibo.sandbox.tones import RINGBACK_HZ, dominant
from huibo.storage import catalog
from huibo.storage.database import open_engine
from tests.integration.conftest import StartStack
from tests.integration.sipp import FarEnd

TONE_AGAIN_S = 5.0  # the tone is 1 s on and 4 s off, and the callee rings for 1 s
IN_FLIGHT_S = 0.5


async def test_a_callee_who_answers_and_says_nothing_ends_the_tone(own: StartStack, tmp_path: Path) -> None:
    stack, customer = await own()
    async with FarEnd(tmp_path / "silent", "phone", "phone", 2, {}) as far_end:
        database = open_engine(config.load(stack.settings_file).database_url)
        with database.begin() as connection:
            sandbox = catalog.find_trunk(connection, "sandbox")
            assert sandbox is not None
            trunk = Trunk("silent", "127.0.0.1", far_end.port, prefixes=("86138", "86139"), options_s=0)
            catalog.add_trunk(connection, trunk, Clock().now_ms())
            catalog.change_trunk(connection, replace(sandbox, prefixes=("8699",)))
        database.dispose()
        call = await customer.call("13800000001", "13900000001")
        await call.until_told("dst answered")
        answered = time.monotonic()
        await asyncio.sleep(TONE_AGAIN_S + IN_FLIGHT_S)
        assert dominant(far_end.caller.samples)[0].hz == RINGBACK_HZ
        late = [packet for packet in far_end.caller.packets if packet.at > answered + IN_FLIGHT_S]
        assert late == []  # neither tone nor voice
