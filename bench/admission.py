"""What admitting a call costs, beside a transaction that inserts one row: `./dev python -m bench.admission`.

Both in one run, turn by turn, on one machine; the ratio is what counts. Nothing is dialled: the engine's part
is not what is measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, insert

from huibo.admission.admit import Admission
from huibo.clock import Clock
from huibo.config import load
from huibo.model import App, AppSettings, CallRequest, DisplayNumber, Trunk
from huibo.ports import Engine, LineHealth
from huibo.rating import Rate
from huibo.storage import accounts, blacklist, catalog, rates
from huibo.storage.database import Database
from huibo.storage.migrate import migrate
from huibo.storage.tables import idempotency

AT_ONCE = 32
REQUEST = CallRequest(
    "1400000001", "bench", "127.0.0.1", "+8613800138000", "+8675586013388", max_talk_s=600, status_mask=16191
)
PLAIN = AppSettings()
FULL = AppSettings(
    calls_per_second=10**6,
    calls_at_once=10**6,
    callee_per_hour=10**6,
    callee_per_day=10**6,
    hours=("00:00-24:00",),
    rate_plan="bench",
    prepaid=True,
)


class Ready:
    """An engine as far as admission looks at it."""

    ready = True

    def line(self, _trunk: str) -> LineHealth:
        return LineHealth()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one unit: milliseconds on the clock while `AT_ONCE` are under way, and of CPU."""

    per_second: float
    cpu_ms: float


def furnish(connection: Connection, own: AppSettings, listed: int) -> None:
    catalog.add_app(connection, App(REQUEST.app_id, REQUEST.url_id, settings=own), 1)
    for number in ("02131264133", "075561948986", "4001360123"):
        catalog.add_number(connection, DisplayNumber(number, apps=(REQUEST.app_id,)), 1)
    for n in range(3):
        channels = 10**6 if own.calls_at_once else None
        catalog.add_trunk(connection, Trunk(f"line-{n}", "192.0.2.1", priority=n, channels=channels), 1)
    for prefix in ("86", "861", "86755"):
        rates.put_rate(connection, "bench", Rate(prefix, 6000), "", 1)
    accounts.pay_in(connection, REQUEST.app_id, 10**15, "bench", "", 1)
    blacklist.put_listed(connection, (blacklist.Listed(f"86{15_000_000_000 + n}") for n in range(listed)), 1)


async def many(unit: Callable[[int], Awaitable[object]], count: int) -> Cost:
    """Run `count` units, `AT_ONCE` at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await unit(number)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return Cost(count / (time.perf_counter() - began), (time.process_time() - cpu) * 1000 / count)


async def bare(database: Database, turn: int, count: int) -> Cost:
    """One row a transaction, nothing else."""

    def row(number: int) -> dict[str, object]:
        named = {"app_id": f"bench-{turn}", "key": str(number), "digest": "0" * 64}
        return named | {"call_id": str(number), "created_at": number}

    return await many(
        lambda n: database.write(lambda connection: connection.execute(insert(idempotency), row(n))), count
    )


async def measure(own: AppSettings, turns: int, count: int, listed: int) -> tuple[list[Cost], list[Cost]]:
    """Turns of the bare insert and of admission, one after the other."""
    inserts, admissions = [], []
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder)}/bench.sqlite3")
        migrate(database.engine)
        database.write_now(lambda connection: furnish(connection, own, listed))
        admission = Admission(database, cast(Engine, Ready()), Clock(), load().calls)
        for turn in range(turns):
            inserts.append(await bare(database, turn, count))
            admissions.append(await many(lambda _: admission.accept(REQUEST), count))
        await database.close()
    return inserts, admissions


def report(name: str, inserts: list[Cost], admissions: list[Cost]) -> None:
    def median(costs: list[Cost], field: str) -> float:
        return statistics.median(getattr(cost, field) for cost in costs)

    ratio = statistics.median(a.per_second / i.per_second for a, i in zip(admissions, inserts, strict=True))
    print(
        f"| {name} | {median(inserts, 'per_second'):.0f} | {median(inserts, 'cpu_ms'):.2f} "
        f"| {median(admissions, 'per_second'):.0f} | {median(admissions, 'cpu_ms'):.2f} | {ratio:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000, help="transactions a turn")
    parser.add_argument("--listed", type=int, default=100_000, help="entries of the blacklist")
    chosen = parser.parse_args()
    print("| app | inserts/s | CPU ms | admissions/s | CPU ms | ratio |\n|---|---|---|---|---|---|")
    for name, own in (("without limits", PLAIN), ("prepaid, all limits", FULL)):
        report(name, *asyncio.run(measure(own, chosen.turns, chosen.count, chosen.listed)))


if __name__ == "__main__":
    main()
