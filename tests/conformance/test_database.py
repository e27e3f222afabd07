"""Units of work: they share commits but not their failures, and what was promised is kept."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    MetaData,
    String,
    Table,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from huibo.storage.database import Database

own = MetaData()
counters = Table(
    "counters", own, Column("name", String(40), primary_key=True), Column("value", BigInteger, nullable=False)
)
promises = Table(
    "promises",
    own,
    Column("name", ForeignKey("counters.name", deferrable=True, initially="DEFERRED"), primary_key=True),
)


@pytest.fixture
async def database(database: Database) -> Database:
    """With two tables of our own: a name is unique; a promise must be kept when it is committed."""
    await database.write(own.create_all)
    return database


def add(name: str, value: int = 0) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(insert(counters).values(name=name, value=value))
        return name

    return work


def names(connection: Connection) -> set[str]:
    return set(connection.scalars(select(counters.c.name)))


class Held:
    """Keeps the writer busy, so that what is written meanwhile becomes one batch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entered, self._release = threading.Event(), threading.Event()

    async def __aenter__(self) -> None:
        self._unit = asyncio.create_task(self._database.write(self._hold))
        assert await asyncio.to_thread(self._entered.wait, 10)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)  # what the body wrote is in the queue
        self._release.set()
        await self._unit

    def _hold(self, _connection: Connection) -> None:
        self._entered.set()
        self._release.wait(10)


async def batch(database: Database, *units: Callable[[Connection], Any]) -> list[Any]:
    """What came of units that were committed together: results and errors."""
    async with Held(database):
        tasks = [asyncio.create_task(database.write(unit)) for unit in units]
    return await asyncio.gather(*tasks, return_exceptions=True)


def commits_of(database: Database) -> list[Connection]:
    """Grows with each commit from now on."""
    seen: list[Connection] = []
    event.listen(database.engine, "commit", seen.append)
    return seen


async def test_a_unit_returns_its_result_once_it_is_kept(database: Database) -> None:
    assert await database.write(add("one")) == "one"
    assert await database.read(names) == {"one"}
    assert database.write_now(add("two")) == "two"
    assert database.read_now(names) == {"one", "two"}


async def test_units_that_wait_together_share_one_commit(database: Database) -> None:
    commits = commits_of(database)
    results = await batch(database, *(add(str(number)) for number in range(200)))
    assert results == [str(number) for number in range(200)]
    assert len(commits) == 2  # that of the unit that held the writer, and one for all the others


async def test_a_unit_that_fails_leaves_nothing_and_takes_no_other_with_it(database: Database) -> None:
    await database.write(add("taken"))

    def half(connection: Connection) -> None:
        add("half")(connection)
        raise LookupError("half-way")

    first, failed, clash, last = await batch(database, add("first"), half, add("taken"), add("last"))
    assert (first, last) == ("first", "last")
    assert isinstance(failed, LookupError)
    assert isinstance(clash, IntegrityError)
    assert await database.read(names) == {"taken", "first", "last"}


@pytest.mark.parametrize(
    "error", [StopIteration(), SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()]
)
async def test_the_writer_outlives_whatever_a_unit_raises(database: Database, error: BaseException) -> None:
    def unit(connection: Connection) -> None:
        add("never")(connection)
        raise error

    outcome: list[BaseException] = []

    async def wait() -> None:
        try:
            await database.write(unit)
        except BaseException as raised:  # a KeyboardInterrupt that leaves a task stops the loop
            outcome.append(raised)

    async with Held(database):
        waiting = asyncio.create_task(wait())
        beside = asyncio.create_task(database.write(add("beside")))
    await asyncio.wait_for(asyncio.gather(waiting, beside), 5)
    assert len(outcome) == 1
    assert await database.write(add("after")) == "after"
    assert await database.read(names) == {"beside", "after"}


async def test_a_commit_that_fails_is_told_to_all_of_the_batch(database: Database) -> None:
    def promise(connection: Connection) -> None:
        connection.execute(insert(promises).values(name="nobody"))

    results = await batch(database, add("before"), promise, add("after"))
    assert [type(result) for result in results] == [IntegrityError] * 3
    assert await database.read(names) == set()
    assert await database.write(add("before")) == "before"


async def test_a_full_disk_is_told_to_all_whose_work_is_lost(database: Database) -> None:
    """SQLite gives up the whole transaction in the middle of a batch, and goes on outside of one."""
    if database.engine.dialect.name != "sqlite":
        pytest.skip("a disk of its own is needed to fill it")

    def limit(connection: Connection) -> None:
        used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {used + 20}")

    def fill(connection: Connection) -> None:
        add("x" * 1_000_000)(connection)

    await database.write(limit)
    results = await batch(database, add("before"), fill, add("after"))
    kept = await database.read(names)
    told = {result for result in results if isinstance(result, str)}
    assert told == kept
    assert isinstance(results[1], OperationalError)
    assert "full" in str(results[1])
    database.engine.dispose()  # the one with the limit is closed: it has been given back
    await database.write(fill)
    assert len(await database.read(names)) == len(kept) + 1


async def test_a_reader_neither_waits_for_the_writer_nor_sees_what_is_not_committed(
    database: Database,
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        add("slow")(connection)
        entered.set()
        release.wait(10)

    writing = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(entered.wait, 10)
    try:
        assert await asyncio.wait_for(database.read(names), 3) == set()
    finally:
        release.set()
        await writing
    assert await database.read(names) == {"slow"}


async def test_the_writer_does_not_wait_for_a_reader(database: Database) -> None:
    await database.write(add("one"))
    entered, release = threading.Event(), threading.Event()

    def slow(connection: Connection) -> set[str]:
        before = names(connection)
        entered.set()
        release.wait(10)
        assert names(connection) == before  # one transaction, one view
        return before

    reading = asyncio.create_task(database.read(slow))
    await asyncio.to_thread(entered.wait, 10)
    try:
        await asyncio.wait_for(database.write(add("two")), 3)
    finally:
        release.set()
    assert await reading == {"one"}


async def test_what_a_reader_writes_is_not_kept(database: Database) -> None:
    with suppress(DBAPIError):  # PostgreSQL says so, SQLite does not
        await database.read(add("smuggled"))
    assert await database.read(names) == set()


async def test_who_no_longer_waits_gets_the_work_done_all_the_same(database: Database) -> None:
    async with Held(database):
        gone = asyncio.create_task(database.write(add("gone")))
        patient = asyncio.create_task(database.write(add("patient")))
        await asyncio.sleep(0)
        gone.cancel()
    assert await patient == "patient"
    assert gone.cancelled()
    assert await database.read(names) == {"gone", "patient"}
    assert await database.write(add("later")) == "later"


async def test_close_waits_for_all_that_was_written_and_takes_no_more(database: Database) -> None:
    async with Held(database):
        tasks = [asyncio.create_task(database.write(add(str(number)))) for number in range(400)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(database.close())
        assert not (await asyncio.wait([closing], timeout=0.1))[0]
    await closing
    assert len(database.read_now(names)) == 400
    assert len(await asyncio.gather(*tasks)) == 400
    with pytest.raises(RuntimeError, match="closed"):
        await asyncio.wait_for(database.write(add("late")), 3)
    database.engine.dispose()
    await database.close()  # twice is harmless


async def test_writes_from_several_event_loops_share_the_writer(database: Database) -> None:
    queued = threading.Event()

    async def many(prefix: str) -> list[str]:
        tasks = [asyncio.create_task(database.write(add(f"{prefix}{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        queued.set()
        return await asyncio.wait_for(asyncio.gather(*tasks), 10)

    commits = commits_of(database)
    async with Held(database):
        elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, many("b")))
        await asyncio.to_thread(queued.wait, 10)
        here = asyncio.create_task(many("a"))
        await asyncio.sleep(0)
    found = await asyncio.gather(here, elsewhere)
    assert await database.read(names) == {name for some in found for name in some}
    assert [len(some) for some in found] == [20, 20]
    assert len(commits) == 2


async def test_a_loop_that_is_closed_meanwhile_harms_nobody(database: Database) -> None:
    async def give_up() -> None:
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
        await database.write(add("left"))

    def elsewhere() -> None:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(give_up())

    async with Held(database):
        await asyncio.to_thread(elsewhere)
    assert await asyncio.wait_for(database.write(add("here")), 5) == "here"
    assert await database.read(names) == {"left", "here"}


_numbers = iter(range(10**9))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(-1000, 1000), st.booleans()), max_size=60))
async def test_concurrent_increments_add_up(database: Database, steps: list[tuple[int, bool]]) -> None:
    name = f"sum{next(_numbers)}"
    await database.write(add(name))

    def increment(by: int, fails: bool) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            value = connection.scalars(select(counters.c.value).where(counters.c.name == name)).one()
            connection.execute(update(counters).where(counters.c.name == name).values(value=value + by))
            if fails:
                raise ArithmeticError

        return work

    units: list[Awaitable[None]] = [database.write(increment(by, fails)) for by, fails in steps]
    results = await asyncio.gather(*units, return_exceptions=True)
    assert [isinstance(result, ArithmeticError) for result in results] == [fails for _, fails in steps]
    total = await database.read(lambda c: c.scalar(select(counters.c.value).where(counters.c.name == name)))
    assert total == sum(by for by, fails in steps if not fails)


async def test_errors_do_not_tell_what_was_to_be_written(database: Database) -> None:
    await database.write(add("13800138000"))
    with pytest.raises(IntegrityError) as failed:
        await database.write(add("13800138000"))
    assert "13800138000" not in str(failed.value)


_TELLER = """
import asyncio, sys
from sqlalchemy import text
from huibo.storage.database import Database

async def main():
    database = Database(sys.argv[1])
    async def add(number):
        insert = text("INSERT INTO counters (name, value) VALUES (:name, 0)")
        await database.write(lambda connection: connection.execute(insert, {"name": str(number)}) and None)
        print(number, flush=True)
    number = 0
    while True:
        await asyncio.gather(*(add(number + one) for one in range(10)))
        number += 10

asyncio.run(main())
"""


async def test_what_was_told_as_committed_survives_kill_9(database: Database, database_url: str) -> None:
    teller = await asyncio.create_subprocess_exec(sys.executable, "-c", _TELLER, database_url, stdout=PIPE)
    assert teller.stdout is not None
    told = [int(await teller.stdout.readline()) for _ in range(60)]
    teller.kill()
    rest, _, _half = (await teller.stdout.read()).rpartition(b"\n")
    told += map(int, rest.split())
    assert await teller.wait() == -signal.SIGKILL
    kept = await database.read(names)
    assert {str(number) for number in told} <= kept
    assert await database.write(add("after")) == "after"
    assert await database.read(names) == kept | {"after"}


async def test_the_connection_of_a_read_that_outlasts_the_database_is_closed(database: Database) -> None:
    loop, reading, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work(connection: Connection) -> Any:
        connection.execute(select(counters.c.name))
        loop.call_soon_threadsafe(reading.set)
        assert go.wait(20)
        return connection.connection.driver_connection

    task = asyncio.create_task(database.read(work))
    await asyncio.wait_for(reading.wait(), 20)
    await database.close()
    go.set()
    with pytest.raises((sqlite3.Error, psycopg.Error), match="closed"):
        (await task).execute("SELECT 1")
