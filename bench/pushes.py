"""Pushes alone: huibo's deliverer, with its outbox on SQLite, beside a loop that only posts.

And what a receiver that hangs costs the others.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_STREAM

import aiohttp
from sqlalchemy import Connection, func, select

from bench.report import Section, median
from bench.sink import listens
from huibo.clock import Clock
from huibo.config import load
from huibo.model import Push
from huibo.push.delivery import Deliverer
from huibo.stack.children import Child
from huibo.stack.ports import free
from huibo.storage import outbox
from huibo.storage.database import Database
from huibo.storage.migrate import migrate
from huibo.storage.tables import pushes

_RECEIVERS = 100
_STATUSES = 12  # a call, and then its CDR
_BODY = (
    b'{"appId":"1400000001","callId":"0f8fad5b-d9cb-469f-a165-70867728950e","requestId":"42",'
    b'"src":"008613800138000","dst":"008613900139000","userFlag":"src","callStatus":"ringing",'
    b'"timeStamp":"1795374324","callType":"3"}'
)


@dataclass
class Rate:
    """Deliveries a second, and the CPU (ms) that one costs the sender."""

    per_s: float
    cpu_ms: float


async def measure(folder: Path, quick: bool) -> Section:
    calls, turns = (40, 1) if quick else (1000, 3)
    bare, full, many = [], [], []
    folder.mkdir(parents=True)
    async with _receiver(folder) as url:
        for turn in range(turns):
            bare.append(await _bare_loop(url, calls * (_STATUSES + 1)))
            full.append(await _deliver(folder / f"one-{turn}", [url], calls))
            many.append(await _deliver(folder / f"many-{turn}", _hosts(url), calls))
        without, beside = await _isolation(folder, _hosts(url)[1:], quick)
    section = Section("Pushes alone")
    rows = []
    for name, rates in (
        ("bare aiohttp loop", bare),
        ("huibo, one receiver", full),
        (f"huibo, {_RECEIVERS} receivers", many),
    ):
        per_s, cpu = median([one.per_s for one in rates]), median([one.cpu_ms for one in rates])
        ratio = median([one.per_s / limit.per_s for one, limit in zip(rates, bare, strict=True)])
        rows.append((name, f"{per_s:.0f}", f"{ratio:.2f}", f"{cpu:.2f}"))
        section.figures[name] = {"per_s": per_s, "of_bare": ratio, "cpu_ms": cpu}
    section.table(("", "deliveries/s", "of bare", "CPU ms"), rows)
    kept = median([one.per_s / other.per_s for one, other in zip(beside, without, strict=True)])
    section.figures["kept_beside_one_that_hangs"] = kept
    rate, beside_rate = (median([one.per_s for one in rates]) for rates in (without, beside))
    cpu, beside_cpu = (median([one.cpu_ms for one in rates]) for rates in (without, beside))
    section.text(
        f"Beside one that hangs the other {_RECEIVERS - 1} get {kept:.1%} of their pushes a second: "
        f"{beside_rate:.0f} instead of {rate:.0f}, for {beside_cpu:.2f} instead of {cpu:.2f} ms of CPU each "
        f"(medians of {len(beside)} turns)."
    )
    return section


def _hosts(url: str) -> list[str]:
    """The receivers: all the same process, under as many addresses."""
    return [url.replace("127.0.0.1", f"127.0.1.{n + 1}") for n in range(_RECEIVERS)]


async def _isolation(folder: Path, urls: list[str], quick: bool) -> tuple[list[Rate], list[Rate]]:
    """The same pushes to the same receivers, without one that hangs and beside one: short bursts by turns,
    each first every other time, so that what else the machine does is shared evenly."""
    rates: dict[bool, list[Rate]] = {False: [], True: []}
    for turn in range(2 if quick else 15):
        for hangs in (False, True) if turn % 2 else (True, False):
            name = f"{'beside' if hangs else 'without'}-{turn}"
            rates[hangs].append(await _deliver(folder / name, urls, len(urls) * (1 if quick else 5), hangs))
    return rates[False], rates[True]


async def _bare_loop(url: str, count: int) -> Rate:
    """As many posts, sixteen at a time, and nothing remembered."""
    numbers = iter(range(count))

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in numbers:
            async with session.post(f"{url}/status", data=_BODY) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session:
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(session) for _ in range(16)))
        return _rate(count, began, cpu)


async def _deliver(folder: Path, urls: list[str], calls: int, hangs: bool = False) -> Rate:
    """Calls whose pushes all wait in the outbox, spread over the receivers, until all are delivered."""
    folder.mkdir()
    database, clock = Database(f"sqlite:///{folder}/outbox.sqlite3"), Clock()
    migrate(database.engine)
    owed = [
        Push(f"call-{n}", "1400000001", kind, seq, f"{urls[n % len(urls)]}/{kind}", _BODY)
        for n in range(calls)
        for seq in range(_STATUSES + 1)
        for kind in ("status" if seq < _STATUSES else "cdr",)
    ]
    async with _hanging() as silent:
        if hangs:
            owed += [Push(f"hung-{n}", "1400000002", "cdr", 0, f"{silent}/cdr", _BODY) for n in range(200)]
        await database.write(lambda connection: outbox.add_pushes(connection, owed, clock.now_ms()))
        settings = load().push.model_copy(update={"allowed_networks": ["127.0.0.0/8"]})
        deliverer = Deliverer(database, settings, clock)
        began, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(deliverer.run())
        left = calls * (_STATUSES + 1)
        while await database.read(_delivered) < left:
            await asyncio.sleep(0.02)
        rate = _rate(left, began, cpu)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await database.close()
    return rate


def _delivered(connection: Connection) -> int:
    return connection.scalars(select(func.count()).where(pushes.c.state == outbox.DELIVERED)).one()


def _rate(count: int, began: float, cpu: float) -> Rate:
    return Rate(count / (time.perf_counter() - began), (time.process_time() - cpu) * 1000 / count)


@asynccontextmanager
async def _receiver(folder: Path) -> AsyncIterator[str]:
    """The URL of a receiver that takes all, in a process of its own, reached at many addresses."""
    (port,) = free(SOCK_STREAM)
    hosts = ["127.0.0.1", *(f"127.0.1.{n + 1}" for n in range(_RECEIVERS))]
    argv = (sys.executable, "-m", "bench.sink", str(port), str(folder / "taken"), *hosts)
    child = Child("receiver", argv, dict(os.environ), folder / "receiver", listens(port))
    await child.start()
    try:
        await child.wait_until_it_answers()
        yield f"http://127.0.0.1:{port}"
    finally:
        await child.stop()


@asynccontextmanager
async def _hanging() -> AsyncIterator[str]:
    """The URL of one that takes a request and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for writer in held:
            writer.close()
        server.close()
