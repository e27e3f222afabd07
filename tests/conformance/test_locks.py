"""Locks: in force until their time is over or somebody lifts them."""

from __future__ import annotations

from huibo.storage.database import Database
from huibo.storage.locks import Bars, Lock, LockKind, bars_to, find_lock, lift, list_locks, put_lock

ADDRESS = Lock(LockKind.ADDRESS, "2001:db8::1", "guessed", 1000, 2000)


async def put(database: Database, *locks: Lock) -> None:
    for lock in locks:
        await database.write(lambda connection, lock=lock: put_lock(connection, lock))


async def test_a_lock_ends_with_its_time(database: Database) -> None:
    await put(database, ADDRESS)

    async def found(kind: LockKind, subject: str, now: int) -> Lock | None:
        return await database.read(lambda connection: find_lock(connection, kind, subject, now))

    assert await found(LockKind.ADDRESS, ADDRESS.subject, 1999) == ADDRESS
    assert await found(LockKind.ADDRESS, ADDRESS.subject, 2000) is None
    assert await found(LockKind.APP, ADDRESS.subject, 1500) is None
    assert await found(LockKind.ADDRESS, "2001:db8::2", 1500) is None


async def test_the_last_lock_counts_and_old_ones_are_forgotten(database: Database) -> None:
    await put(database, ADDRESS, Lock(LockKind.APP, "shop", "", 1000, 1500))
    longer = Lock(LockKind.ADDRESS, ADDRESS.subject, "again", 1600, 9000)
    await put(database, longer)
    assert await database.read(lambda connection: list_locks(connection, 0)) == [longer]


async def test_a_lock_is_lifted(database: Database) -> None:
    await put(
        database, ADDRESS, Lock(LockKind.TRUNK, "a", "", 1, 5000), Lock(LockKind.TRUNK, "b", "", 1, 1200)
    )
    assert await database.write(lambda c: lift(c, LockKind.TRUNK, "a"))
    assert not await database.write(lambda c: lift(c, LockKind.TRUNK, "a"))
    assert await database.read(lambda c: list_locks(c, 1100)) == [
        ADDRESS,
        Lock(LockKind.TRUNK, "b", "", 1, 1200),
    ]


async def test_a_call_is_told_what_bars_it_and_nothing_else(database: Database) -> None:
    async def bars(now: int, app_id: str = "shop", address: str = "192.0.2.7") -> Bars:
        return await database.read(lambda c: bars_to(c, app_id, address, now))

    assert await bars(5) == Bars()
    await put(
        database,
        Lock(LockKind.APP, "shop", "", 1, 100),
        Lock(LockKind.ADDRESS, "192.0.2.7", "", 1, 200),
        Lock(LockKind.TRUNK, "a", "", 1, 300),
        Lock(LockKind.TRUNK, "b", "", 1, 400),
    )
    both = frozenset({"a", "b"})
    assert await bars(99) == Bars(address=True, app=True, trunks=both)
    assert await bars(100) == Bars(address=True, trunks=both)
    assert await bars(200) == Bars(trunks=both)
    assert await bars(300) == Bars(trunks=frozenset({"b"}))
    assert await bars(400) == Bars()
    assert await bars(99, app_id="192.0.2.7", address="shop") == Bars(trunks=both)
    assert await bars(99, app_id="a") == Bars(address=True, trunks=both)


async def test_they_are_listed_in_pages(database: Database) -> None:
    subjects = [(kind, name) for kind in sorted(LockKind) for name in "abc"]
    await put(database, *(Lock(kind, name, "", 1, 100) for kind, name in reversed(subjects)))
    for behind, after in enumerate(subjects):
        page = await database.read(lambda c, after=after: list_locks(c, 50, None, after, 2))
        assert [(lock.kind, lock.subject) for lock in page] == subjects[behind + 1 : behind + 3]
    only = await database.read(lambda c: list_locks(c, 50, LockKind.APP))
    assert [lock.subject for lock in only] == ["a", "b", "c"]
