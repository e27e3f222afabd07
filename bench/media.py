"""How many calls can talk at once: RTP through huibo's Asterisk until it comes late or not at all.

Real calls through the API to telephones that talk, more and more of them; delay and loss of every packet.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.contestants import client_of, stack_with
from bench.meter import Meter
from bench.phones import Phones, phones
from bench.report import Section
from huibo.config import load
from huibo.engine.install.binary import Asterisk
from huibo.model import Trunk
from huibo.stack.stack import Stack

_LATE_MS = 20.0  # p99 one way, what a frame of speech lasts
_LOST = 0.001
_PATIENCE_S = 20.0
_SETTLE_S = 1.0
_AT_ONCE = 25  # placed together; the machine is busy with media meanwhile
_FEW, _MANY = (10, 25), (25, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600)
_SETTINGS = {"calls": {"no_audio_s": 15}}  # shorter than a measurement, so that it would be seen to strike


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    recorded: float = 0.0  # the share of the calls
    direct: bool = False  # past Asterisk


KINDS = (
    _Kind("not recorded"),
    _Kind("half recorded", 0.5),
    _Kind("recorded", 1.0),
    _Kind("direct media", direct=True),
)
_HEADS = (
    *(
        "",
        "calls",
        "bridged by",
        "legs sent past it",
        "Asterisk CPU %",
        "ms/s a call",
        "generator CPU %",
        "loss %",
    ),
    *("delay ms p50", "p99", "p99.9", "generator late ms p99", "max"),
)


async def measure(asterisk: Asterisk, folder: Path, quick: bool) -> Section:
    """Each kind of calls in steps, until it is too much."""
    section = Section("Media")
    rows: list[tuple[str, ...]] = []
    best: list[tuple[str, ...]] = []
    for number, kind in enumerate(KINDS):
        steps = await _kind(asterisk, folder / str(number), kind, quick)
        rows += [_row(kind, step) for step in steps]
        good = [step["calls"] for step in steps if _good(step)]
        to_the_end = bool(good) and good[-1] == (_FEW if quick else _MANY)[-1]
        best.append((kind.name, ("at least " if to_the_end else "") + str(max(good, default=0))))
        section.figures[kind.name] = {"calls": max(good, default=0), "steps": steps}
    section.text(
        "RTP of 20 ms both ways, A-law, the generator beside Asterisk on the same machine. Good: p99 one way "
        f"under {_LATE_MS:.0f} ms, loss under {_LOST:.1%}; what is not is tried once more. The delay is from "
        "just before a packet is sent to the kernel's time of its arrival: that the generator itself "
        "sends late is not in it, and is in columns of its own."
    )
    section.table(("", "calls that talk at once"), best)
    section.table(_HEADS, rows)
    return section


async def _kind(asterisk: Asterisk, folder: Path, kind: _Kind, quick: bool) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    async with phones(folder / "phones") as far:
        trunk = Trunk("carrier", "127.0.0.1", far.port, codecs="alaw", options_s=0, direct_media=kind.direct)
        async with stack_with(asterisk, folder / "huibo", trunk, _SETTINGS) as stack:
            placed = 0
            for calls in _FEW if quick else _MANY:
                if not await _grow(stack, far, kind, placed, calls):
                    break
                placed = calls
                step = await _step(stack, far, calls, 3.0 if quick else 8.0)
                if not _good(step):  # once more: the machine may have been busy with something else
                    step = await _step(stack, far, calls, 3.0 if quick else 8.0)
                steps.append(step)
                if not _good(step):
                    break
    return steps


async def _grow(stack: Stack, far: Phones, kind: _Kind, placed: int, calls: int) -> bool:
    """Place calls until so many talk. False: they do not come to it."""
    while placed < calls:
        chunk = min(_AT_ONCE, calls - placed)
        recorded = round((placed + chunk) * kind.recorded) - round(placed * kind.recorded)
        await _place(stack, placed, recorded, {"record": "1"})
        await _place(stack, placed + recorded, chunk - recorded, {})
        placed += chunk
        late = time.monotonic() + _PATIENCE_S
        while (await far.ask("count"))["heard"] < 2 * placed:
            if time.monotonic() > late:
                return False
            await asyncio.sleep(0.1)
    return True


async def _place(stack: Stack, first: int, count: int, fields: Mapping[str, str]) -> None:
    if not count:
        return
    argv = client_of(stack, {"statusFlag": "0"} | dict(fields))
    process = await asyncio.create_subprocess_exec(
        *argv, "--flood", "--first", str(first), "--count", str(count), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert json.loads(out)["count"] == count


async def _step(stack: Stack, far: Phones, calls: int, seconds: float) -> dict[str, Any]:
    await asyncio.sleep(_SETTLE_S)
    bridged = await _technologies(stack)
    meter = Meter({"asterisk": stack.engine_child.pid, "generator": far.pid})
    asked = asyncio.create_task(far.ask(f"measure {seconds}"))
    await asyncio.sleep(seconds)
    cpu = meter.read()
    found = await asked
    up = (await far.ask("count"))["up"]
    return {
        "calls": calls,
        "bridged": bridged,
        "cpu_ms_per_s": {name: ms / seconds for name, ms in cpu.items()},
        "loss": 1 - found["received"] / found["sent"],
        "legs_lost": 2 * calls - up,
        **found,
    }


async def _technologies(stack: Stack) -> dict[str, int]:
    """How many bridges are of which kind."""
    engine = load(stack.settings_file).engine
    headers = {"Authorization": aiohttp.encode_basic_auth(engine.username, engine.password)}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{stack.engine_url}/ari/bridges") as answer,
    ):
        return Counter(bridge["technology"] for bridge in await answer.json())


def _good(step: Mapping[str, Any]) -> bool:
    return step["loss"] < _LOST and not step["legs_lost"] and step["delay_ms"]["p99"] < _LATE_MS


def _row(kind: _Kind, step: Mapping[str, Any]) -> tuple[str, ...]:
    cpu, delay, late = step["cpu_ms_per_s"], step["delay_ms"], step["late_ms"]
    return (
        kind.name,
        str(step["calls"]),
        ", ".join(f"{count} {name}" for name, count in sorted(step["bridged"].items())),
        str(step["moved"]),
        f"{cpu['asterisk'] / 10:.0f}",
        f"{cpu['asterisk'] / step['calls']:.2f}",
        f"{cpu['generator'] / 10:.0f}",
        f"{step['loss']:.3%}",
        *(f"{delay[name]:.1f}" for name in ("p50", "p99", "p99.9")),
        *(f"{late[name]:.1f}" for name in ("p99", "max")),
    )
