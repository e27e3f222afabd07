"""A database in trouble: who waits is told the truth in time, and processes do not trip each other."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, select, text, update
from sqlalchemy.exc import OperationalError

import huibo.storage.database
from huibo.clock import Clock
from huibo.model import App, IdempotencyKey, Push
from huibo.rating import Rate
from huibo.storage import cells
from huibo.storage.accounts import find_account, hold, pay_in, settle
from huibo.storage.blacklist import Listed, list_listed, put_listed
from huibo.storage.catalog import add_app, find_app
from huibo.storage.database import Database, GaveUp
from huibo.storage.idempotency import forget, remember, remembered
from huibo.storage.locks import Lock, LockKind, list_locks, put_lock
from huibo.storage.outbox import Lease, add_pushes, due_pushes
from huibo.storage.rates import list_rates, put_rate
from huibo.storage.secrets import secret
from huibo.storage.writer import InDoubt
from tests.conformance.test_database import Held, add, batch, counters, names, own

SHORT_S = 0.3


@pytest.fixture
async def database(database: Database) -> Database:
    await database.write(own.create_all)
    return database


async def test_who_has_given_up_waiting_has_asked_for_nothing(database: Database) -> None:
    async with Held(database):
        with pytest.raises(GaveUp, match=r"0\.3 s"):
            await database.write(add("gone"), SHORT_S)
        patient = asyncio.create_task(database.write(add("patient")))
        await asyncio.sleep(0)
    assert await patient == "patient"
    assert await database.read(names) == {"patient"}


async def test_what_has_run_is_left_out_when_its_asker_gives_up_before_the_commit(database: Database) -> None:
    entered, release = threading.Event(), threading.Event()
    runs = 0

    def slow(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        add("slow")(connection)
        entered.set()
        release.wait(10)

    async with Held(database):
        gone = asyncio.create_task(database.write(add("gone"), SHORT_S))
        slowly = asyncio.create_task(database.write(slow))
        failed = asyncio.create_task(database.write(_fail, SHORT_S))
        await asyncio.sleep(0)
    assert await asyncio.to_thread(entered.wait, 10)
    for given_up in (gone, failed):
        with pytest.raises(GaveUp):
            await given_up
    release.set()
    await slowly
    assert runs == 2  # what shared its transaction was done again without it
    assert await database.read(names) == {"slow"}


def _fail(_connection: Connection) -> None:
    raise LookupError


async def test_of_a_commit_that_takes_too_long_nothing_is_claimed(database: Database) -> None:
    release = threading.Event()
    event.listen(database.engine, "commit", lambda _connection: release.wait(10))
    with pytest.raises(InDoubt):
        await database.write(add("perhaps"), SHORT_S)
    release.set()
    await database.write(add("later"))
    assert await database.read(names) == {"perhaps", "later"}


async def test_of_a_commit_whose_connection_is_lost_nothing_is_claimed(database: Database) -> None:
    if not database.shared:
        pytest.skip("there is no connection to be lost")

    commits = 0

    def cut(connection: Connection) -> None:
        nonlocal commits
        commits += 1
        if commits == 2:  # the first is that of the unit which holds the others back
            _cut(database, connection)

    event.listen(database.engine, "commit", cut)
    results = await batch(database, add("perhaps"), _fail)
    assert [type(result) for result in results] == [InDoubt, LookupError]
    assert await database.write(add("after")) == "after"  # and nobody has to see to it that it goes on


def _cut(database: Database, connection: Connection) -> None:
    """End a connection at the server."""
    pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    end = text("SELECT pg_terminate_backend(:pid, 5000)")
    database.read_now(lambda reading: reading.execute(end, {"pid": pid}))


@pytest.mark.parametrize("of", [None, "app"])
@pytest.mark.parametrize("units", [1, 3])
async def test_a_connection_that_is_lost_before_a_commit_costs_nobody_an_error(
    database: Database, of: str | None, units: int
) -> None:
    """While nobody uses it, and under way: nothing has been promised, so all is done again on another."""
    if not database.shared:
        pytest.skip("there is no connection to be lost")

    def end(connection: Connection) -> None:
        _cut(database, connection)

    runs = 0

    def cut_once(connection: Connection) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            add("cut")(connection)
            end(connection)
        return add("cut")(connection)

    await database.write(end)
    idle = [database.write(add(str(number)), of=of) for number in range(units)]
    assert await asyncio.gather(*idle) == [str(number) for number in range(units)]
    async with Held(database):
        busy = [asyncio.create_task(database.write(add(f"beside-{n}"))) for n in range(units - 1)]
        busy.append(asyncio.create_task(database.write(cut_once, of=of)))
    assert (await asyncio.gather(*busy))[-1] == "cut"
    assert runs == 2
    assert len(await database.read(names)) == 2 * units


async def test_a_unit_that_always_loses_its_connection_is_told_so(database: Database) -> None:
    if not database.shared:
        pytest.skip("there is no connection to be lost")
    runs = 0

    def cut(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        _cut(database, connection)
        add("never")(connection)

    with pytest.raises(OperationalError):
        await database.write(cut)
    assert runs == 2
    assert await database.write(add("after")) == "after"
    assert await database.read(names) == {"after"}


async def test_a_row_that_is_locked_holds_up_neither_the_others_nor_whoever_wants_it(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.shared:
        pytest.skip("SQLite locks all or nothing")
    monkeypatch.setattr(huibo.storage.database, "_LOCK_S", 1)
    other = Database(database_url)
    await database.write(add("locked"))
    with database.engine.connect() as holder:
        holder.execute(select(counters).with_for_update())
        began = time.monotonic()
        results = await batch(other, *[_touch] * 10, add("free"))
        assert time.monotonic() - began < 8  # and not ten times a second's wait, or more
        assert [type(result) for result in results] == [OperationalError] * 10 + [str]
        holder.rollback()
    await other.close()
    await database.write(_touch)


def _touch(connection: Connection) -> None:
    connection.execute(update(counters).where(counters.c.name == "locked").values(value=1))


async def test_the_end_is_not_held_up_by_a_database_that_hangs(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huibo.storage.database, "_CLOSE_S", SHORT_S)
    other = Database(database_url)
    await other.write(add("locked"))
    with database.engine.connect() as holder:
        holder.execute(update(counters).values(value=2))
        writing = asyncio.create_task(other.write(_touch))
        await asyncio.sleep(0)
        began = time.monotonic()
        await other.close()
        assert time.monotonic() - began < 3
        holder.rollback()
    await asyncio.wait([writing])  # the thread that hung goes on where it can
    writing.exception()
    monkeypatch.setattr(huibo.storage.database, "_CLOSE_S", 10)
    await other.close()


async def test_two_processes_that_take_the_same_rows_in_turn_both_get_them(
    database: Database, other: Database
) -> None:
    for name in "ab":
        await database.write(add(name))
    meet = threading.Barrier(2) if database.shared else None

    def both(first: str, second: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            for name in (first, second):
                row = counters.c.name == name
                connection.execute(update(counters).where(row).values(value=counters.c.value + 1))
                if name == first and meet is not None and not meet.broken:
                    with suppress(threading.BrokenBarrierError):
                        meet.wait(1)

        return work

    await asyncio.gather(database.write(both("a", "b")), other.write(both("b", "a")))
    values = await database.read(lambda c: list(c.scalars(select(counters.c.value))))
    assert values == [2, 2]


@pytest.mark.parametrize("units", [1, 3])
async def test_a_unit_that_collides_again_and_again_is_tried_a_few_times(
    database: Database, units: int
) -> None:
    if not database.shared:
        pytest.skip("nobody is in the way")
    collide = text("DO $$ BEGIN RAISE EXCEPTION 'once more' USING ERRCODE = 'deadlock_detected'; END $$")
    runs = 0

    def unlucky(connection: Connection) -> str:
        nonlocal runs
        runs += 1
        add("unlucky")(connection)
        if runs < 4:
            connection.execute(collide)
        return "in the end"

    def always(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        connection.execute(collide)

    others = [add(str(number)) for number in range(units - 1)]
    assert await batch(database, *others, unlucky) == [*map(str, range(units - 1)), "in the end"]
    assert runs == 4
    runs = 0
    with pytest.raises(OperationalError, match="once more"):
        await database.write(always)
    assert runs < 10


async def test_an_app_that_another_process_is_busy_with_holds_up_nobody_elses_calls(
    database: Database, other: Database
) -> None:
    if not database.shared:
        pytest.skip("there is one process")

    def open_apps(connection: Connection) -> None:
        for name in ("busy", "free"):
            add_app(connection, App(name, name), 1)

    await database.write(open_apps)
    holds, done = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        holds.set()
        assert done.wait(20)

    written: list[str] = []
    busy = asyncio.create_task(other.write(hold, of="busy"))
    await asyncio.to_thread(holds.wait, 20)
    both = [
        asyncio.create_task(database.write(lambda _, name=name: written.append(name), of=name))
        for name in ("busy", "free")
    ]
    async with asyncio.timeout(20):
        await both[1]
    assert written == ["free"]
    done.set()
    async with asyncio.timeout(20):
        await asyncio.gather(busy, *both)
    assert written == ["free", "busy"]


async def test_rows_that_two_processes_put_at_once_are_there_once(
    database: Database, other: Database
) -> None:
    def put(connection: Connection, by: int) -> bytes:
        for n in range(5):
            put_rate(connection, f"plan-{n}", Rate("86", by, 60, 60), "", 1)
            put_lock(connection, Lock(LockKind.APP, f"app-{n}", str(by), 1, 10**15))
        put_listed(connection, [Listed(f"8613{n}") for n in ((range(20)) if by else reversed(range(20)))], by)
        pay_in(connection, "app", 10, "test", "", 1)
        return secret(connection, "shared")

    made = await asyncio.gather(
        *(one.write(partial(put, by=by)) for _ in range(10) for by, one in enumerate((database, other)))
    )
    assert len(set(made)) == 1
    assert len(await database.read(list_rates)) == 5
    assert len(await database.read(lambda c: list_locks(c, 2))) == 5
    assert len(await database.read(list_listed)) == 20
    assert (await database.read(lambda c: find_account(c, "app"))).balance == 200


async def test_a_rate_and_a_lock_take_the_place_of_those_before(database: Database) -> None:
    def put(connection: Connection, value: int) -> None:
        put_rate(connection, "plan", Rate("86", value, value, value, value), f"note {value}", value)
        put_lock(connection, Lock(LockKind.APP, "app", f"reason {value}", value, value + 10**6))
        put_lock(connection, Lock(LockKind.APP, f"over-{value}", "", value - 2, value - 1))

    for value in (3, 5):
        await database.write(partial(put, value=value))
    assert await database.read(list_rates) == [("plan", Rate("86", 5, 5, 5, 5), "note 5")]
    assert await database.read(lambda c: list_locks(c, 6)) == [
        Lock(LockKind.APP, "app", "reason 5", 5, 5 + 10**6)
    ]


async def test_a_key_is_free_again_for_the_request_that_was_refused_after_all(database: Database) -> None:
    key = IdempotencyKey("key", "digest")
    await database.write(lambda c: remember(c, "app", key, "call", 1))
    await database.write(lambda c: forget(c, "app", key, "another call"))
    assert await database.read(lambda c: remembered(c, "app", "key", 2)) == ("digest", "call")
    await database.write(lambda c: forget(c, "app", key, "call"))
    assert await database.read(lambda c: remembered(c, "app", "key", 2)) is None


class OffBy(Clock):
    """The clock of a machine whose time is wrong by so many minutes."""

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        super().__init__()

    def _wall(self) -> float:
        return super()._wall() + self.minutes * 60_000


async def test_cells_whose_clocks_differ_go_by_the_databases(database: Database) -> None:
    early, late = OffBy(-10), OffBy(10)
    assert late.now_ms() - early.now_ms() > 19 * 60_000
    for clock in (early, late):
        before = clock.steady_ms()
        now = await database.write(cells.now_of)
        clock.follow(now, (before + clock.steady_ms()) / 2)
    assert abs(late.now_ms() - early.now_ms()) < 5000
    where, owed = "http://192.0.2.9:80", Push("c", "app", "cdr", 1, "http://192.0.2.9/c", b"{}")
    at = late.now_ms()
    await database.write(lambda connection: add_pushes(connection, [owed], at))
    lease = Lease("one", early.now_ms() + 60_000)
    assert len(await database.write(lambda c: due_pushes(c, where, early.now_ms() + 5000, 9, lease))) == 1
    again = Lease("two", late.now_ms() + 60_000)
    assert await database.write(lambda c: due_pushes(c, where, late.now_ms(), 9, again)) == []


_OPENER = """
import sys, time
from huibo.storage import database

folder, begin = sys.argv[1], float(sys.argv[2])
for n in range(20):
    engine = database.open_engine(f"sqlite:///{folder}/{n}.sqlite3")
    while time.time() < begin + n * 0.05:
        pass
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS x (a)")
    engine.dispose()
"""


async def test_processes_that_open_a_new_database_at_once_do_not_trip(tmp_path: Path) -> None:
    arguments = (sys.executable, "-c", _OPENER, str(tmp_path), str(time.time() + 2))
    processes = [await asyncio.create_subprocess_exec(*arguments, stderr=PIPE) for _ in range(2)]
    said = [(await process.communicate())[1].decode() for process in processes]
    assert said == ["", ""]


async def test_units_about_the_same_apps_do_not_block_each_other_for_good(
    database: Database, other: Database
) -> None:
    """As calls are accepted and settled: an app is taken hold of first, what is on its account after it."""
    apps = [f"app-{n}" for n in range(6)]

    def enter(connection: Connection) -> None:
        for name in apps:
            add_app(connection, App(name, name), 1)
            pay_in(connection, name, 1_000_000, "test", "", 1)

    def accept(connection: Connection, app_id: str, call_id: str) -> None:
        find_app(connection, app_id, lock=True)
        hold(connection, app_id, call_id, 7, 1)

    def finish(connection: Connection, app_id: str, call_id: str) -> None:
        settle(connection, app_id, call_id, 0, 3, 1)

    await database.write(enter)
    await asyncio.gather(
        *(
            one.write(partial(work, app_id=name, call_id=f"{names[0]}-{name}-{n}"), of=name)
            for n in range(40)
            for one, names in ((database, apps), (other, apps[::-1]))
            for name in names
            for work in ((accept, finish) if n % 2 else (finish, accept))
        )
    )
    found = [await database.read(lambda c, name=name: find_account(c, name)) for name in apps]
    assert {(one.balance, one.held) for one in found} == {(1_000_000 - 80 * 3, 80 * 7)}
    if database.shared:
        counted = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        await asyncio.sleep(1.1)  # counts are handed in once a second
        assert await database.read(lambda c: c.scalar(counted)) == 0
