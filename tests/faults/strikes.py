"""What each fault does to the world. A strike returns when it is over, and leaves nothing broken behind it.

Breaks only what belongs to this world, also when it is stopped half-way.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import psycopg
from sqlalchemy import make_url

from huibo.engine.install.instance import Instance
from huibo.stack.children import Child
from huibo.storage.database import sqlite_file
from tests import postgres
from tests.faults.generator import Customers
from tests.faults.levers import Pulled
from tests.faults.world import FREE, World

_AIM_S = 20  # for a call to come into the state that is aimed at
_STORM_CALLS = 12


@dataclass(slots=True)
class Means:
    """What strikes work with. `brisk`: what may last is as short as still counts."""

    world: World
    customers: Customers
    chance: Random
    brisk: bool
    _pulled: Pulled = field(default_factory=Pulled)

    def lasting(self, shortest_s: float, longest_s: float) -> float:
        return shortest_s if self.brisk else self.chance.uniform(shortest_s, longest_s)

    async def pull(self, seconds: float, **levers: int | bool) -> None:
        """Have levers of the control plane pulled for so long."""
        idle = Pulled()
        try:
            self._pulled = replace(self._pulled, **levers)  # type: ignore[arg-type]
            self.world.levers.pull(self._pulled)
            await asyncio.sleep(seconds)
        finally:
            self._pulled = replace(self._pulled, **{name: getattr(idle, name) for name in levers})
            self.world.levers.pull(self._pulled)


# --- the control plane and the engine ---

# By the state that a kill is aimed at: phones of a call that comes into it, and the log line that says so.
AIMS = {
    "dialling": ("03", "01", "leg invited", "caller"),
    "ringing": ("03", "02", "leg ringing", "caller"),
    "prompting": ("11", "01", "leg answered", "caller"),
    "callee dialling": ("00", "03", "leg invited", "callee"),
    "talking": ("00", "02", "legs joined", None),
    "just ended": ("00", "01", "leg hung_up", None),
}


async def kill_after_accepting(means: Means) -> None:
    means.customers.place()
    await asyncio.sleep(means.chance.uniform(0, 0.06))  # before, while or after the call is stored
    await _end(means.world.stack.control_child, signal.SIGKILL)


async def kill_when(state: str, means: Means) -> None:
    caller, callee, event, leg = AIMS[state]
    lines = _log_lines(means.world.stack.log)
    means.customers.place(caller, callee, FREE)  # which nobody refuses
    try:
        async with asyncio.timeout(_AIM_S):
            async for line in lines:
                if line.get("event") == event and leg in (None, line.get("leg")):
                    break
    except TimeoutError:
        pass  # then it is a kill at any moment
    chance = means.chance
    await asyncio.sleep(chance.choice((0.0, chance.uniform(0, 0.05), chance.uniform(0, 2))))
    await _end(means.world.stack.control_child, signal.SIGKILL)


async def upgrade(means: Means) -> None:
    await _end(means.world.stack.control_child, signal.SIGTERM)


async def kill_engine(means: Means, and_control: bool = False) -> None:
    """Nobody tells the phones, so it is their carriers that find out and let go of them."""
    stack = means.world.stack
    if and_control:
        os.kill(stack.control_child.pid, signal.SIGKILL)
    os.kill(stack.engine_child.pid, signal.SIGKILL)
    ended = stack.engine_child.process
    instances = [carrier.instance for carrier in stack.carriers.values()]
    left = [(await _console(one, "core show channels concise")).splitlines() for one in instances]
    while stack.engine_child.process is ended:
        await asyncio.sleep(0.02)
    await asyncio.sleep(2)  # the control plane has seen it, too
    for instance, channels in zip(instances, left, strict=True):
        for channel in channels:
            await _console(instance, f"channel request hangup {channel.partition('!')[0]}")


async def _console(instance: Instance, command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *instance.cli(command), env=instance.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return output.decode(errors="replace")


async def _end(child: Child, how: signal.Signals) -> None:
    """Returns when another process has taken its place."""
    ended = child.process
    os.kill(child.pid, how)
    while child.process is ended:
        await asyncio.sleep(0.02)


async def stop_control(means: Means) -> None:
    await _frozen(means.world.stack.control_child.pid, means.lasting(5, 30))


async def stop_engine(means: Means) -> None:
    await _frozen(means.world.stack.engine_child.pid, means.lasting(6, 30))


async def stop_carrier(means: Means) -> None:
    child = means.chance.choice([*means.world.stack.carrier_children.values()])
    await _frozen(child.pid, means.lasting(3, 10))


async def _frozen(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


async def cut_socket(means: Means) -> None:
    means.world.proxy.cut()
    await asyncio.sleep(0.5)


async def silence_socket(means: Means) -> None:
    means.world.proxy.hold()
    try:
        await asyncio.sleep(means.lasting(8, 20))
    finally:
        means.world.proxy.let_go()


# --- the database ---


async def lock_sqlite(means: Means) -> None:
    file = sqlite_file(means.world.settings.database_url)
    assert file is not None
    seconds = means.lasting(3, 15)
    holding = await asyncio.to_thread(sqlite3.connect, file, timeout=20, check_same_thread=False)
    with closing(holding):
        await asyncio.to_thread(holding.execute, "BEGIN IMMEDIATE")
        await asyncio.sleep(seconds)


async def lock_postgres(means: Means) -> None:
    holding = await psycopg.AsyncConnection.connect(_dsn(means.world))
    async with holding:
        await holding.execute("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(means.lasting(3, 15))


async def end_backends(means: Means) -> None:
    async with await psycopg.AsyncConnection.connect(_dsn(means.world), autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    await asyncio.sleep(0.5)


async def restart_postgres(means: Means) -> None:
    await asyncio.to_thread(postgres.crash_and_start, _dsn(means.world), means.lasting(1, 8))


def _dsn(world: World) -> str:
    url = make_url(world.settings.database_url).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


# --- the world around ---


async def fill_disk(means: Means) -> None:
    disks = means.world.disks
    assert disks is not None
    full = means.chance.choice([(disks.raw,), (disks.finished,), (disks.raw, disks.finished)])
    try:
        for disk in full:
            await asyncio.to_thread(disk.fill)
        await asyncio.sleep(means.lasting(6, 20))
    finally:
        for disk in full:
            disk.empty()


async def vex_receiver(temper: str, means: Means) -> None:
    receiver = means.world.receivers["moody"]
    receiver.tempers, receiver.share = (temper,), 1.0
    try:
        await asyncio.sleep(means.lasting(5, 25))
    finally:
        receiver.tempers, receiver.share = (), 0.0


async def carrier_storm(means: Means) -> None:
    means.customers.storm(_STORM_CALLS)
    await asyncio.sleep(means.lasting(8, 15))


async def step_clock(by_ms: int, means: Means) -> None:
    await means.pull(means.lasting(4, 20), clock_ms=by_ms)


async def shake_events(means: Means) -> None:
    await means.pull(means.lasting(8, 20), shake=True)


async def _log_lines(file: Path) -> AsyncIterator[dict[str, object]]:
    """The JSON lines that come into a log from now on."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(0, os.SEEK_END)
        unfinished = ""
        while True:
            unfinished += lines.readline()
            if not unfinished.endswith("\n"):
                await asyncio.sleep(0.005)
                continue
            if unfinished.startswith("{"):
                yield json.loads(unfinished)
            unfinished = ""
