"""Admission alone: requests accepted a second over HTTP, beside an endpoint that only writes one row.

Nothing is dialled. Both databases, and an app without limits beside one with all of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.meter import Meter
from bench.report import Section, median, percentiles
from bench.server import SETTINGS, Server, enter_all, one_row, prepare, serving
from huibo.model import AppSettings
from tests.postgres import new_database, running

_ADMIT = ("--admit-only",)
_ONE_ROW, _PLAIN, _FULL = "one row", "huibo, no limits", "huibo, prepaid, all limits"


@dataclass
class Flood:
    """What one burst came to."""

    per_s: float
    cpu_ms: float  # of the server, a request
    ms: list[float]


async def measure(folder: Path, quick: bool) -> Section:
    section = Section("Admission alone")
    rows: list[tuple[str, ...]] = []
    for kind in ("SQLite",) if quick else ("SQLite", "PostgreSQL"):
        with _databases(kind, folder / kind) as urls:
            names = (_ONE_ROW, _FULL) if quick else (_ONE_ROW, _PLAIN, _FULL)
            found = await _turns(folder / kind, urls, names, *((1, 0.7) if quick else (5, 4)))
        for name, floods in found.items():
            per_s, cpu = median([one.per_s for one in floods]), median([one.cpu_ms for one in floods])
            pairs = zip(floods, found[_ONE_ROW], strict=True)
            ratio = median([one.per_s / limit.per_s for one, limit in pairs])
            p50, p95, p99 = percentiles([ms for one in floods for ms in one.ms])
            times = tuple(f"{ms:.1f}" for ms in (p50, p95, p99))
            rows.append((kind, name, f"{per_s:.0f}", f"{ratio:.2f}", f"{cpu:.2f}", *times))
            section.figures.setdefault(kind, {})[name] = {
                "per_s": per_s,
                "of_one_row": ratio,
                "cpu_ms": cpu,
                "ms": {"p50": p50, "p95": p95, "p99": p99},
            }
    heads = ("database", "", "accepted/s", "of one row", "CPU ms", "p50 ms", "p95", "p99")
    section.table(heads, rows)
    return section


async def _turns(
    folder: Path, urls: Sequence[str], names: Sequence[str], turns: int, seconds: float
) -> dict[str, list[Flood]]:
    """Turn by turn, so that what the machine does besides meets all of them."""
    found: dict[str, list[Flood]] = {name: [] for name in names}
    contexts = {}
    for number, (name, url) in enumerate(zip(names, urls, strict=False)):
        prepare(url, AppSettings() if name == _PLAIN else SETTINGS)
        own = folder / str(number)
        contexts[name] = one_row(own, url) if name == _ONE_ROW else serving(own, url, options=_ADMIT)
    async with AsyncExitStack() as exits:
        servers = dict(zip(contexts, await enter_all(exits, [*contexts.values()]), strict=True))
        # what happens only once
        await asyncio.gather(*(_flood(one, 0.5, 10**7 * n) for n, one in enumerate(servers.values())))
        first = 0
        for _ in range(turns):
            for name, server in servers.items():
                found[name].append(await _flood(server, seconds, first := first + 100_000))
    return found


async def _flood(server: Server, seconds: float, first: int) -> Flood:
    meter = Meter({"server": server.pid})
    argv = (*server.client({"statusFlag": "0"}), "--flood", "--first", str(first), "--seconds", str(seconds))
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the flood ended with exit code {process.returncode}")
    came = json.loads(out)
    return Flood(came["per_s"], meter.read()["server"] / came["count"], came["ms"])


@contextmanager
def _databases(kind: str, folder: Path) -> Iterator[list[str]]:
    """Three new ones of a kind, as URLs."""
    folder.mkdir(parents=True)
    if kind == "SQLite":
        yield [f"sqlite:///{folder}/{n}.sqlite3" for n in range(3)]
        return
    with running() as server:
        yield [new_database(server, f"bench{n}") for n in range(3)]
