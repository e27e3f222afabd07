"""What live calls cost the control plane: memory and CPU with so many of them, and what one adds.

And whether a second process on the same PostgreSQL takes as many again. All with the double for an engine:
there are no telephones in it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.meter import Meter, pin, rss_kb
from bench.report import Section, median
from bench.server import Server, enter_all, prepare, serving
from tests.postgres import new_database, postmaster, running

_APPS = tuple(f"bench{n}" for n in range(8))  # those of one app wait for each other, for it has limits
_WATCH_S = 5.0
_SETTLE_S = 2.0


async def measure(folder: Path, quick: bool) -> Section:
    section = Section("Live calls")
    await _growth(section, folder / "live", (100, 500) if quick else (100, 1000, 5000))
    await _second_cell(section, folder / "cells", *((1, 2.0) if quick else (3, 8.0)))
    return section


async def _growth(section: Section, folder: Path, counts: Sequence[int]) -> None:
    folder.mkdir(parents=True)
    url = f"sqlite:///{folder}/huibo.sqlite3"
    prepare(url)
    rows: list[tuple[str, ...]] = []
    async with serving(folder / "huibo", url, options=("--hold-s", "3600")) as server:
        await _place(server, 0, 50)  # what is made only once
        await asyncio.sleep(_SETTLE_S)
        base, live = rss_kb(server.pid), 50
        for count in counts:
            await _place(server, live, count - live)
            live = count
            await asyncio.sleep(_SETTLE_S)
            meter = Meter({"huibo": server.pid})
            await asyncio.sleep(_WATCH_S)
            cpu, used = meter.read()["huibo"] / _WATCH_S, rss_kb(server.pid)
            each = (used - base) / (live - 50)
            rows.append((str(live), f"{used / 1024:.0f}", f"{each:.1f}", f"{cpu / 10:.1f}"))
            section.figures[f"{live} live calls"] = {"rss_kb": used, "kb_a_call": each, "cpu_ms_per_s": cpu}
    section.table(("live calls", "memory MB", "KB a call", "CPU % of a core"), rows)


async def _place(server: Server, first: int, count: int) -> None:
    argv = (*server.client({"statusFlag": "0"}), "--flood", "--first", str(first), "--count", str(count))
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert json.loads(out)["count"] == count
    # each has been dialled, answered and joined when it has said so


async def _second_cell(section: Section, folder: Path, turns: int, seconds: float) -> None:
    """Whole calls a second of one process and of two, on one PostgreSQL.

    Each process has a core for itself, its client and its share of the database.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        section.text("A second process was not measured: it would have no core of its own.")
        return
    folder.mkdir(parents=True)
    one, two = [], []
    with running() as postgres:
        url = new_database(postgres, "bench_cells")
        prepare(url, apps=_APPS)
        main = postmaster(postgres)
        async with AsyncExitStack() as exits:
            contexts = [
                serving(folder / cell, url, cell, options=("--hold-s", "0.2")) for cell in ("one", "two")
            ]
            servers = await enter_all(exits, contexts)
            for server, core in zip(servers, cores, strict=True):
                pin(server.pid, [core])
            first = 0
            for turn in range(turns + 1):
                pin(main, cores[:1])
                alone = await _together(servers[:1], cores, first := first + 10**6, seconds)
                pin(main, cores)
                both = await _together(servers, cores, first := first + 10**6, seconds)
                if turn:  # in the first what is made only once
                    one.append(alone)
                    two.append(both)
    ratio = median([b / a for a, b in zip(one, two, strict=True)])
    rows = [("one", f"{median(one):.0f}", "1.00"), ("two", f"{median(two):.0f}", f"{ratio:.2f}")]
    section.table(("processes on one PostgreSQL", "calls/s", "of one"), rows)
    section.figures["cells"] = {"one_per_s": median(one), "two_per_s": median(two), "ratio": ratio}


async def _together(servers: Sequence[Server], cores: Sequence[int], first: int, seconds: float) -> float:
    async def flood(index: int, server: Server) -> float:
        argv = (
            *server.client({"statusFlag": "0"}, _APPS),
            *("--flood", "--first", str(first + 10**5 * index), "--seconds", str(seconds)),
        )
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        pin(process.pid, [cores[index]])
        out, _ = await process.communicate()
        return float(json.loads(out)["per_s"])

    return sum(await asyncio.gather(*(flood(*each) for each in enumerate(servers))))
