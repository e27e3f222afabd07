"""How long after a kill -9 all live calls are owned again: `./dev python -m bench.recovery --calls 300`.

Sandbox phones that send no audio, so that it is the control plane that is measured and not the media. Says
where the time goes: starting Python, reading the calls, Asterisk's list.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
import time
from datetime import datetime
from pathlib import Path

import aiohttp
from sqlalchemy import text

from huibo.config import load
from huibo.engine.install.resolve import resolve
from huibo.stack.stack import Settings, Stack
from huibo.storage.database import open_engine

SETTINGS: Settings = {"calls": {"no_audio_s": 0}, "push": {"concurrency": 8}}
PATIENCE_S = 120


async def place(http: aiohttp.ClientSession, stack: Stack, number: int) -> None:
    body = {"appId": "demo", "src": f"00861380{number:05d}24", "dst": f"00861390{number:05d}24"}
    async with http.post(f"{stack.base_url}/201511v3/callBack?id=demo", json=body) as answer:
        decoded = json.loads(await answer.read())
    if decoded["errorCode"] != "0":
        raise SystemExit(f"call {number} was refused: {decoded}")


def talking(stack: Stack) -> int:
    """Calls of which both legs are answered and not ended."""
    engine = open_engine(load(stack.settings_file).database_url)
    with engine.connect() as connection:
        states = connection.scalars(text("SELECT state FROM calls WHERE ended_at IS NULL")).all()
    engine.dispose()
    return sum(json.loads(state)["callee"]["record"]["answered_at"] is not None for state in states)


def moments(log: Path, offset: int) -> dict[str, float]:
    """When the process wrote each kind of line first and last, UNIX seconds."""
    found: dict[str, float] = {}
    for line in log.read_bytes()[offset:].splitlines():
        one = json.loads(line)
        at = datetime.fromisoformat(one["timestamp"]).timestamp()
        found.setdefault(f"first {one['event']}", at)
        found[f"last {one['event']}"] = at
    return found


async def measure(calls: int, per_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="huibo-bench-") as folder:
        async with Stack.create(resolve(), Path(folder), settings=SETTINGS) as stack:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
                for number in range(calls):
                    await place(http, stack, number)
                    await asyncio.sleep(1 / per_s)
            deadline = time.monotonic() + PATIENCE_S
            while (up := talking(stack)) < calls and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
            process, offset = stack.control_child.process, stack.log.stat().st_size
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            began = time.time()
            await stack.control_child.start()
            await stack.control_child.wait_until_it_answers()
            answered = time.time()
            said = moments(stack.log, offset)
            kept = talking(stack)
    print(f"{up} calls talked when it was killed, {kept} after it was back")
    steps = {
        "the first call was taken up": said["first call taken up again"],
        "all were taken up": said["last call taken up again"],
        "the engine was ready: owned": said["first engine ready"],
        "/readyz was seen to answer": answered,
    }
    for what, at in steps.items():
        print(f"{at - began:6.2f} s after the start {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--per-s", type=float, default=15.0)
    chosen = parser.parse_args()
    asyncio.run(measure(chosen.calls, chosen.per_s))


if __name__ == "__main__":
    main()
