"""What a long history costs: getCdr, the operators' search, and a start, with millions of finished calls.

The calls are written by the database itself, each after one that huibo carried, with an id and numbers of
its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, Select, Table, select, text

from bench.report import Section, percentiles
from bench.server import APP, prepare, serving
from huibo.storage.calls import find_record, list_records
from huibo.storage.database import open_engine, reader_of
from huibo.storage.search import Sought, query_of, search
from huibo.storage.tables import calls, cdrs
from tests.postgres import new_database, running

_DAY_MS = 86_400_000
_YEAR_DAYS = 365
_LOOKS = 200
_CHUNK = 1_000_000
_ID = {  # of the n-th call: as random as real ones
    "sqlite": "lower(printf('%08x-0000-4000-8000-%012x', (n * 2654435761) % 4294967296, n))",
    "postgresql": (
        "lpad(to_hex((n * 2654435761) % 4294967296), 8, '0')"
        " || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0')"
    ),
}
_SERIES = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n + 1 < {end})",
    "postgresql": "WITH s(n) AS (SELECT generate_series({first}::bigint, {end}::bigint - 1))",
}
Look = Callable[[Connection, random.Random], object]


async def measure(folder: Path, quick: bool) -> Section:
    count = 100_000 if quick else 10_000_000
    section = Section(f"A history of {count:,} calls")
    looks: list[tuple[str, ...]] = []
    for kind in ("SQLite", "PostgreSQL"):
        with _database(kind, folder / kind) as url:
            prepare(url)
            await _one_call(folder / kind, url)
            engine = open_engine(url)
            took = _multiply(engine, count)
            section.figures[kind] = {"written_s": took}
            for name, (p50, p95, p99) in _looked_for(engine, count).items():
                looks.append((kind, name, f"{p50:.2f}", f"{p95:.2f}", f"{p99:.2f}"))
                section.figures[kind][name] = {"p50": p50, "p95": p95, "p99": p99}
            section.text(f"{kind} goes through:\n\n```\n{_plans(engine)}\n```")
            engine.dispose()
            async with serving(folder / kind / "again", url) as server:
                section.figures[kind]["ready_s"] = server.ready_s
                looks.append((kind, "start until /readyz says 200", f"{server.ready_s * 1000:.0f}", "", ""))
    section.table(("database", "", "p50 ms", "p95", "p99"), looks)
    return section


async def _one_call(folder: Path, url: str) -> None:
    """Carried to its end: what the others are made after."""
    async with serving(folder / "first", url, options=("--hold-s", "0.1")) as server:
        argv = (*server.client({"statusFlag": "0"}), "--flood", "--count", "1")
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0
        engine = open_engine(url)
        while True:
            with engine.connect() as connection:
                if connection.scalar(select(cdrs.c.call_id)) is not None:
                    break
            await asyncio.sleep(0.05)
        engine.dispose()


def _multiply(engine: Engine, count: int) -> float:
    """So many calls, spread over a year. Returns the seconds that it took."""
    kind, began = engine.dialect.name, time.monotonic()
    with engine.connect() as connection:
        first = connection.scalars(select(calls.c.call_id)).one()
        if kind == "sqlite":
            connection.exec_driver_sql("COMMIT")
            for pragma in ("cache_size = -4000000", "synchronous = OFF"):
                connection.exec_driver_sql(f"PRAGMA {pragma}")
            connection.exec_driver_sql("BEGIN")
        for start in range(1, count + 1, _CHUNK):
            series = _SERIES[kind].format(first=start, end=min(start + _CHUNK, count + 1))
            for table in (calls, cdrs):
                _copy(connection, table, series, _ID[kind], first, _YEAR_DAYS * _DAY_MS // count)
            connection.commit()
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    return time.monotonic() - began


def _copy(connection: Connection, table: Table, series: str, new_id: str, first: str, step_ms: int) -> None:
    """The n-th call is `step_ms` older than the one before it, its numbers are those of n."""
    ago = f"- n * {step_ms}"
    own = {
        "call_id": new_id,
        "caller": "'+86138' || " + _digits("n % 1000000"),
        "callee": "'+86139' || " + _digits("n % 3000000"),
    }
    columns = [column.name for column in table.c]
    values = [own.get(name, f"{name} {ago}" if name.endswith("_at") else name) for name in columns]
    connection.execute(
        text(
            f"{series} INSERT INTO {table.name} ({', '.join(columns)}) "
            f"SELECT {', '.join(values)} FROM s, {table.name} WHERE call_id = :first"
        ),
        {"first": first},
    )


def _digits(number: str) -> str:
    return f"substr(cast({number} + 100000000 AS text), 2)"


def _looked_for(engine: Engine, count: int) -> dict[str, tuple[float, float, float]]:
    """How long each way of looking takes (ms)."""
    reader, found = reader_of(engine), {}
    chance = random.Random(1)
    for name, look in _ways(engine, count).items():
        took = []
        for _ in range(_LOOKS):
            with reader.connect() as connection:
                began = time.perf_counter()
                look(connection, chance)
                took.append(1000 * (time.perf_counter() - began))
        found[name] = percentiles(took)
    return found


def _ways(engine: Engine, count: int) -> dict[str, Look]:
    latest = select(calls.c.accepted_at).order_by(calls.c.accepted_at.desc()).limit(1)
    with engine.connect() as connection:
        newest = int(connection.scalars(latest).one())

    def call_id(chance: random.Random) -> str:
        n = chance.randrange(1, count)
        return f"{n * 2654435761 % 2**32:08x}-0000-4000-8000-{n:012x}"

    def second(chance: random.Random) -> int:
        return (newest - chance.randrange(_YEAR_DAYS * _DAY_MS)) // 1000

    def caller(chance: random.Random) -> str:
        return f"+86138{chance.randrange(1_000_000):08d}"

    def callee(chance: random.Random) -> str:
        return f"+86139{chance.randrange(3_000_000):08d}"

    def day(chance: random.Random) -> Sought:
        at = second(chance) * 1000
        return Sought(app_id=APP, start=at, end=at + _DAY_MS)

    def records(connection: Connection, start_s: int, length_s: int, of: str | None) -> object:
        return list_records(connection, APP, start_s, start_s + length_s, of, 1000)

    def page(connection: Connection, sought: Sought) -> object:
        return search(connection, sought, None, 50)

    return {
        "getCdr, by callId": lambda c, r: find_record(c, APP, call_id(r)),
        "getCdr, an hour": lambda c, r: records(c, second(r), 3600, None),
        "getCdr, a caller's month": lambda c, r: records(c, second(r), 30 * 86400, caller(r)),
        "search, newest": lambda c, r: page(c, Sought()),
        "search, by callee": lambda c, r: page(c, Sought(callee=callee(r))),
        "search, an app's day": lambda c, r: page(c, day(r)),
        "search, live": lambda c, r: page(c, Sought(live=True)),
    }


def _plans(engine: Engine) -> str:
    """What the database says of how it looks."""
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF) "
    sought: Sequence[tuple[str, Select[tuple[object, ...]]]] = (
        ("by callId", query_of(Sought(call_id="x"))),
        ("by callee, newest first", _newest(Sought(callee="+8613900000000"))),
        ("an app's day, newest first", _newest(Sought(app_id=APP, start=1, end=2))),
        ("live", _newest(Sought(live=True))),
    )
    lines = []
    with engine.connect() as connection:
        for name, query in sought:
            statement = query.compile(engine, compile_kwargs={"literal_binds": True})
            lines.append(f"{name}:")
            lines += [f"    {row[-1]}" for row in connection.exec_driver_sql(explain + str(statement))]
    return "\n".join(lines)


def _newest(sought: Sought) -> Select[tuple[object, ...]]:
    return query_of(sought).order_by(calls.c.accepted_at.desc(), calls.c.call_id.desc()).limit(50)


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    folder.mkdir(parents=True)
    if kind == "SQLite":
        yield f"sqlite:///{folder}/huibo.sqlite3"
        return
    with running() as server:
        yield new_database(server, "bench_history")
