"""What becomes of calls and requests while the database is locked, gone, slow or full."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.stack.stack import Stack
from huibo.storage.accounts import Account, EntryKind, list_entries
from tests.integration.conftest import StartStack
from tests.integration.customer import Customer, Placed
from tests.integration.test_money import Till, till
from tests.postgres import crashed, running

BOUND_S = 15  # for an answer that there is no database; on a machine with nothing else to do it takes 5
TALKED = [f"{leg} {moment}" for leg in ("src", "dst") for moment in ("invite", "ringing", "answered")]
PAID = 10**9
SETTINGS: dict[str, dict[str, object]] = {"cell": {"beat_s": 0.5}}
SLOW_S = 2
UNAVAILABLE = ("-501", "database out of reach, try again")

_numbers = (f"{n:05}" for n in itertools.count(1))


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own, of few MB; a mere folder for whoever may not make one."""
    folder = Path(tempfile.mkdtemp(prefix="huibo-disk-"))
    folder.chmod(0o711)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0711", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            with suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    try:
        yield
    finally:
        ballast.unlink()


class Base:
    """A database that can be given trouble, each for as long as the context lasts."""

    def __init__(self, url: str, disk: Path) -> None:
        self.url = url
        self.disk = disk

    def locked(self) -> AbstractContextManager[None]:
        """By another process."""
        raise NotImplementedError

    def slow(self) -> AbstractContextManager[None]:
        """A commit takes two seconds."""
        raise NotImplementedError


class Sqlite(Base):
    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(self._open()) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    @contextmanager
    def slow(self) -> Iterator[None]:
        over = threading.Event()

        def hinder() -> None:
            with closing(self._open()) as other:
                while not over.is_set():
                    other.execute("BEGIN IMMEDIATE")
                    over.wait(SLOW_S)
                    other.execute("ROLLBACK")
                    time.sleep(0.2)  # longer than SQLite's own sleeps between two tries

        thread = threading.Thread(target=hinder)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _open(self) -> sqlite3.Connection:
        file = make_url(self.url).database
        assert file is not None
        return sqlite3.connect(file, isolation_level=None, timeout=30)


class Postgres(Base):
    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._open() as other, other.transaction():
            other.execute("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE")
            yield

    @contextmanager
    def slow(self) -> Iterator[None]:
        with self._open() as other:
            other.execute(SLEEP_AT_COMMIT)
            yield
            other.execute("DROP FUNCTION sleepy CASCADE")

    @property
    def plain_url(self) -> str:
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)

    def _open(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.plain_url, autocommit=True)


# Once a transaction, however many rows it touches.
SLEEP_AT_COMMIT = f"""
    CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('test.slept', true) IS DISTINCT FROM 'yes' THEN
            PERFORM set_config('test.slept', 'yes', true), pg_sleep({SLOW_S});
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER sleepy AFTER INSERT OR UPDATE ON calls DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION sleepy()
"""


@dataclass
class World:
    """A stack on a database."""

    base: Base
    stack: Stack
    customer: Customer
    till: Till

    async def call(self, dst: str, src: str = "00") -> Placed:
        """Place a call to numbers that end so."""
        request = self._request(dst, src)
        answer = await self.customer.post(request)
        assert answer["errorCode"] == "0", answer
        placed = self.customer.calls[answer["callId"]]
        placed.call_id = answer["callId"]
        return placed

    async def refused(self) -> str:
        """Ask for calls until one is refused for the database's sake: its caller. No other rings anybody."""
        while True:
            request, began = self._request("00", "07"), time.monotonic()
            answer = await self.customer.post(request)
            assert time.monotonic() - began < BOUND_S
            if answer["errorCode"] != "0":
                assert (answer["errorCode"], answer["msg"]) == UNAVAILABLE
                return str(request["src"]).removeprefix("0086")

    async def ask(self, operation: str, call: Placed) -> dict[str, str]:
        body, began = {"appId": self.till.app_id, "callId": call.call_id}, time.monotonic()
        answer = await self.customer.post(body, f"/201511v3/{operation}?id=demo")
        assert time.monotonic() - began < BOUND_S
        return answer

    def _request(self, dst: str, src: str) -> dict[str, object]:
        number = next(_numbers)
        return self.customer.request(f"1387{number}{src}", f"1397{number}{dst}", appId=self.till.app_id)

    @property
    def phones(self) -> list[PhoneEvent]:
        return list(journal.read(self.stack.carrier.calls_log))

    async def hung_up(self, call: Placed) -> float:
        """When the callee of a call did, UNIX seconds."""
        number = call.statuses[0]["dst"].removeprefix("0086")
        async for event in journal.follow(self.stack.carrier.calls_log):
            if event.number == number and event.event is PhoneMoment.HUNG_UP:
                return event.at.timestamp()
        raise AssertionError

    async def all_is_well(self) -> None:
        """Nothing is left over, and nothing happened twice."""
        calls = list(self.customer.calls.values())
        await asyncio.gather(*(call.cdr() for call in calls))
        assert [len(call.cdrs) for call in calls] == [1] * len(calls)
        entries = self.till.database.read_now(lambda c: list_entries(c, self.till.app_id, limit=10_000))
        moves = Counter((entry.call_id, entry.kind) for entry in entries if entry.call_id)
        assert set(moves.values()) <= {1}
        charged = sum(entry.amount for entry in entries if entry.kind is EntryKind.CHARGE)
        assert self.till.account == Account(self.till.app_id, PAID - charged, 0)
        with self.till.database.engine.connect() as connection:
            stored = set(connection.scalars(text("SELECT call_id FROM calls")))
        assert stored == set(self.customer.calls)  # what was refused left nothing


async def through(world: World, trouble: AbstractContextManager[None], whole: bool = True) -> None:
    """Three conversations and some requests go through a trouble. `whole`: nothing is written in it."""
    hanging, talking, to_end = await asyncio.gather(*(world.call(dst) for dst in ("01", "00", "00")))
    await asyncio.gather(*(call.until_told("dst answered") for call in (hanging, talking, to_end)))
    with trouble:
        refused, cancelled, _ = await asyncio.gather(
            world.refused(), world.ask("callCancel", to_end), world.ask("getStatus", talking)
        )
        at = await world.hung_up(hanging)
        if whole:
            assert (cancelled["errorCode"], cancelled["msg"]) == UNAVAILABLE
            await world.customer.until_ready(False)
            assert hanging.told == TALKED  # nobody is told what is not written
    await world.customer.until_ready()
    await hanging.cdr()
    assert (await world.ask("callCancel", to_end))["errorCode"] in ("0", "-201")  # the first may have counted
    assert (await world.ask("getStatus", talking))["callStatus"] == "4"  # nobody cut it
    assert await world.ask("callCancel", talking) == {"errorCode": "0", "msg": "", "callId": talking.call_id}
    await world.all_is_well()
    assert hanging.told == [*TALKED, "dst disaccept", "src disaccept"]
    assert abs(int(hanging.statuses[6]["timeStamp"]) - at) <= 2  # when it was, not when it was written
    for call in (talking, to_end):
        assert call.told[:6] == TALKED
        assert sorted(call.told[6:]) == ["dst disaccept", "src disaccept"]
    assert refused not in {event.number for event in world.phones}


@pytest.fixture(scope="module")
async def worlds(start_stack: Callable[[AsyncExitStack], StartStack]) -> AsyncIterator[list[World]]:
    async with AsyncExitStack() as exits:
        disks = [exits.enter_context(small_disk()) for _ in range(2)]
        server = exits.enter_context(running())
        bases = [Sqlite(f"sqlite:///{disks[0]}/huibo.sqlite3", disks[0]), postgres_on(disks[1], server)]

        async def start(base: Base) -> World:
            stack, customer = await start_stack(exits)({"": {"database_url": base.url}} | SETTINGS)
            money = await exits.enter_async_context(till(stack, "prepaid", PAID))
            return World(base, stack, customer, money)

        yield list(await asyncio.gather(*(start(base) for base in bases)))


def postgres_on(disk: Path, server: str) -> Postgres:
    """A database whose tables are on a disk of their own; the server's log is not: it would give up."""
    with psycopg.connect(server, autocommit=True) as connection:
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        place = disk / "tables"
        place.mkdir()
        owner = Path(str(data)).stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        connection.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(place))))
        connection.execute("CREATE DATABASE trouble TABLESPACE small")
    url = make_url(server.replace("postgresql://", "postgresql+psycopg://", 1)).set(database="trouble")
    return Postgres(url.render_as_string(hide_password=False), disk)


async def test_a_database_that_another_process_locks(worlds: list[World]) -> None:
    await asyncio.gather(*(through(world, world.base.locked()) for world in worlds))


async def test_a_disk_that_is_full(worlds: list[World]) -> None:
    if not all(os.path.ismount(world.base.disk) for world in worlds):
        pytest.skip("a disk of its own is needed to fill it, and root to make one")
    on_sqlite, on_postgres = worlds
    await asyncio.gather(
        through(on_sqlite, filled(on_sqlite.base.disk)),
        through(on_postgres, filled(on_postgres.base.disk), whole=False),  # pages have room left
    )


async def test_a_database_that_is_slow(worlds: list[World]) -> None:
    async def slowly(world: World) -> None:
        hanging = await world.call("01")
        await hanging.until_told("dst answered")
        with world.base.slow():
            nobody = await asyncio.gather(*(world.call("00", "07") for _ in range(3)))
            await asyncio.gather(*(call.cdr() for call in (hanging, *nobody)))
        await world.all_is_well()
        assert hanging.told == [*TALKED, "dst disaccept", "src disaccept"]
        assert all(call.told == ["src invite", "src failed 404"] for call in nobody)

    await asyncio.gather(*(slowly(world) for world in worlds))


async def test_a_server_that_crashes_and_is_gone_for_a_while(worlds: list[World]) -> None:
    world = worlds[1]
    assert isinstance(world.base, Postgres)
    await through(world, crashed(world.base.plain_url))


async def test_the_end_of_the_process_does_not_wait_for_the_database(worlds: list[World]) -> None:
    async def ends(world: World) -> None:
        hanging, talking = await asyncio.gather(world.call("01"), world.call("00"))
        await asyncio.gather(*(call.until_told("dst answered") for call in (hanging, talking)))
        control = world.stack.control_child
        with world.base.locked():
            await world.hung_up(hanging)
            assert control.process is not None
            control.process.terminate()
            async with asyncio.timeout(2 * BOUND_S):
                assert await control.process.wait() == 0
        await control.start()
        await world.customer.until_ready()
        assert (await world.ask("callCancel", talking))["errorCode"] == "0"
        await world.all_is_well()
        assert hanging.told[:6] == talking.told[:6] == TALKED

    await asyncio.gather(*(ends(world) for world in worlds))
