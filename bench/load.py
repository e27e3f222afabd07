"""Places calls, at a rate or with so many under way, and knows from the carrier which of them are over.

The same for every contestant: only `place` differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.carrier import Tail

_LOOK_S = 0.01
_PATIENCE_S = 15.0


@dataclass
class Placed:
    """What was placed, by the calls' numbers; times in UNIX seconds."""

    sent: dict[int, float] = field(default_factory=dict)
    accepted: dict[int, float] = field(default_factory=dict)
    over: dict[int, float] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0  # when the last was placed
    cpu_ms: float = 0.0  # of this process

    def print(self) -> None:
        json.dump(asdict(self), sys.stdout)

    @classmethod
    def parse(cls, text: str) -> Placed:
        raw = json.loads(text)
        for name in ("sent", "accepted", "over"):
            raw[name] = {int(n): at for n, at in raw[name].items()}
        return cls(**raw)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--carrier-log", type=Path, default=Path("/dev/null"))
    parser.add_argument("--first", type=int, default=0, help="the number of the first call")
    parser.add_argument("--rate", type=float, default=0, help="calls a second; 0: as --window allows")
    parser.add_argument("--window", type=int, default=200, help="calls under way at once")
    parser.add_argument("--seconds", type=float, default=8)


async def load(options: argparse.Namespace, place: Callable[[int], Awaitable[None]]) -> Placed:
    """`place` returns when a call has been accepted, and raises when it was not."""
    placed, tail = Placed(), Tail(options.carrier_log)
    under_way: set[asyncio.Task[None]] = set()
    cpu = time.process_time()
    n, open_calls = options.first, 0
    placed.began = time.time()

    refused: list[Exception] = []  # under overload some are: they have no end, and count as failed

    async def one(n: int) -> None:
        try:
            await place(n)
        except Exception as error:
            refused.append(error)
        else:
            placed.accepted[n] = time.time()

    def look() -> None:
        nonlocal open_calls
        for at, what, number in tail.new():
            if what == "ended" and int(number[3:]) in placed.sent:
                placed.over[int(number[3:])] = at
        open_calls = len(placed.sent) - len(placed.over)

    while (now := time.time()) < placed.began + options.seconds:
        due = (now - placed.began) * options.rate if options.rate else float("inf")
        while len(placed.sent) < due and (options.rate or open_calls < options.window):
            placed.sent[n] = time.time()
            task = asyncio.create_task(one(n))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            n, open_calls = n + 1, open_calls + 1
        await asyncio.sleep(_LOOK_S)
        look()
        if refused and not placed.accepted:
            raise refused[0]
    placed.ended = time.time()
    while open_calls and time.time() < placed.ended + _PATIENCE_S:
        await asyncio.sleep(_LOOK_S)
        look()
    placed.cpu_ms = (time.process_time() - cpu) * 1000
    return placed
