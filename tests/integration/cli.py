"""Runs the command line beside a stack, as its operator would."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import Any

from huibo.stack.stack import Stack
from tests.integration.customer import PATIENCE_S


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def start(stack: Stack | None, *argv: str, **settings: str) -> Process:
    """`settings` by the names of their environment variables, over the stack's own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUIBO_")}
    env |= {"PYTHONUNBUFFERED": "1"} | settings
    if stack is not None:
        env["HUIBO_CONFIG"] = str(stack.settings_file)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "huibo", *argv), env=env, stdout=PIPE, stderr=PIPE, preexec_fn=_heed_ctrl_c
    )


def _heed_ctrl_c() -> None:
    """Whoever starts the tests in the background of a shell has it ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def huibo(stack: Stack | None, *argv: str, **settings: str) -> Done:
    process = await start(stack, *argv, **settings)
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())
