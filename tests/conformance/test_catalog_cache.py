"""What is kept of the catalogue in memory is what the database holds, whoever has changed it since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from huibo.model import App, AppSettings, AppState, DisplayNumber, Trunk
from huibo.rating import Rate
from huibo.storage import catalog, catalog_cache, rates
from huibo.storage.catalog_cache import CatalogCache, Customer
from huibo.storage.database import Database
from huibo.storage.tables import catalog_marks

APP, OTHER = App("shop", "u"), App("other", "u")
NUMBER, SECOND = (DisplayNumber(name, apps=("shop",)) for name in ("4001360123", "02131264133"))
TRUNK = Trunk("line", "192.0.2.1")
CALLER, CALLEE = "+8613800138000", "+8675586013388"
Change = Callable[[Connection], Any]


def furnish(connection: Connection) -> None:
    catalog.add_app(connection, APP, 1)
    catalog.add_number(connection, NUMBER, 1)
    catalog.add_number(connection, SECOND, 1)
    catalog.add_trunk(connection, TRUNK, 1)
    rates.put_rate(connection, "plan", Rate("86", 7), "", 1)


def everything(cache: CatalogCache, connection: Connection) -> tuple[Any, ...]:
    """What a cache says of all that the tests change."""
    known = cache.at(connection)
    plans = [known.rates(plan, CALLER, CALLEE) for plan in ("plan", "none")]
    customers = [known.customer(app_id) for app_id in ("shop", "other")]
    return known.trunks(), plans, [(one.app, list(one.pool.values())) for one in customers]


def as_it_is(connection: Connection) -> tuple[Any, ...]:
    return everything(CatalogCache(), connection)


# Each makes a difference, by itself and after those before it.
CHANGES: list[Change] = [
    lambda c: catalog.change_app(c, replace(APP, state=AppState.BLOCKED)),
    lambda c: catalog.change_app(c, replace(APP, settings=AppSettings(calls_at_once=3))),
    lambda c: catalog.change_app(c, replace(APP, allowed_ips=("192.0.2.0/24",))),
    lambda c: catalog.add_app(c, OTHER, 1),
    lambda c: catalog.add_number(c, DisplayNumber("075561948986", apps=("shop",)), 1),
    lambda c: catalog.change_number(c, replace(NUMBER, enabled=False)),
    lambda c: catalog.change_number(c, replace(NUMBER, trunks=("line",))),
    lambda c: catalog.change_number(c, replace(NUMBER, apps=())),
    lambda c: catalog.remove_number(c, SECOND.number),
    lambda c: catalog.add_trunk(c, Trunk("a", "192.0.2.2"), 1),
    lambda c: catalog.change_trunk(c, replace(TRUNK, channels=2)),
    lambda c: catalog.remove_trunk(c, "line"),
    lambda c: rates.put_rate(c, "plan", Rate("86", 8), "", 1),
    lambda c: rates.put_rate(c, "plan", Rate("86138", 9), "", 1),
    lambda c: rates.put_rate(c, "none", Rate("", 9), "", 1),
    lambda c: rates.remove_rate(c, "plan", "86"),
    lambda c: catalog.remove_app(c, "shop"),
]


async def test_a_change_by_anybody_counts_at_once(database: Database, other: Database) -> None:
    cache = CatalogCache()
    await database.write(furnish)
    before = await database.write(lambda c: everything(cache, c))
    assert before == await database.read(as_it_is)
    for change in CHANGES:
        await other.write(change)
        for run in (database.write, database.read):
            after = await run(lambda c: everything(cache, c))
            assert after == await database.read(as_it_is) != before
        before = after


@pytest.mark.parametrize("behind_a_savepoint", [False, True])
async def test_a_change_that_is_rolled_back_leaves_nothing_behind(
    database: Database, behind_a_savepoint: bool
) -> None:
    """Nor does its mark come again, with another change behind it."""
    cache = CatalogCache()
    await database.write(furnish)
    for n, change in enumerate(CHANGES, 2):
        before = await database.read(lambda c: everything(cache, c))
        with database.engine.begin() as connection:
            within = connection.begin_nested() if behind_a_savepoint else connection
            change(connection)
            assert everything(cache, connection) == as_it_is(connection) != before
            within.rollback()
            if behind_a_savepoint:
                assert everything(cache, connection) == before
        await database.write(partial(change_all, n=n))
        assert await database.read(lambda c: everything(cache, c)) == await database.read(as_it_is)


def change_all(connection: Connection, n: int) -> None:
    """One statement about each mark."""
    catalog.change_app(connection, replace(APP, name=str(n)))
    catalog.change_trunk(connection, replace(TRUNK, priority=n))
    rates.put_rate(connection, "plan", Rate("86", n * 100), "", 1)


async def test_what_is_not_committed_yet_is_not_kept_for_those_who_do_not_see_it(database: Database) -> None:
    cache = CatalogCache()
    await database.write(furnish)
    before = await database.read(as_it_is)
    changed = replace(APP, name="changed")
    with database.engine.begin() as connection:
        catalog.change_app(connection, changed)
        assert await database.read(lambda c: everything(cache, c)) == before
        assert cache.at(connection).customer("shop").app == changed
        assert await database.read(lambda c: everything(cache, c)) == before
    assert (await database.read(lambda c: cache.at(c).customer("shop"))).app == changed


async def test_who_looks_at_an_older_state_spoils_nothing_for_others(database: Database) -> None:
    cache = CatalogCache()
    await database.write(furnish)
    before = await database.read(as_it_is)

    def long_report(connection: Connection) -> None:
        assert everything(cache, connection) == before
        database.write_now(lambda c: catalog.change_trunk(c, replace(TRUNK, channels=2)))
        (now,) = database.write_now(lambda c: cache.at(c).trunks())
        assert now.channels == 2
        assert everything(cache, connection) == before

    await database.read(long_report)
    (now,) = await database.write(lambda c: cache.at(c).trunks())
    assert now.channels == 2


async def test_nothing_stale_is_seen_while_several_change_and_read(
    database: Database, other: Database
) -> None:
    """Whoever begins after a change was confirmed sees that change or a later one."""
    cache, rounds = CatalogCache(), 60
    confirmed = {"name": 0, "priority": 0}
    await database.write(furnish)
    await database.write(lambda c: catalog.change_app(c, replace(APP, name="0")))

    def rename(connection: Connection, n: int) -> None:
        catalog.change_app(connection, replace(APP, name=str(n)))

    def move(connection: Connection, n: int) -> None:
        catalog.change_trunk(connection, replace(TRUNK, priority=n))

    async def changing(by: Database, what: str, work: Callable[..., None]) -> None:
        for n in range(1, rounds):
            await by.write(partial(work, n=n))
            confirmed[what] = n

    def seen(connection: Connection) -> tuple[int, int]:
        known = cache.at(connection)
        app, (trunk,) = known.customer("shop").app, known.trunks()
        assert app is not None
        return int(app.name), trunk.priority

    async def reading(run: Callable[..., Any]) -> None:
        while min(confirmed.values()) < rounds - 1:
            least = confirmed["name"], confirmed["priority"]
            name, priority = await run(seen)
            assert name >= least[0]
            assert priority >= least[1]

    await asyncio.gather(
        changing(other, "name", rename),
        changing(database, "priority", move),
        reading(database.write),
        reading(database.read),
    )
    assert await database.read(lambda c: everything(cache, c)) == await database.read(as_it_is)


def marks(connection: Connection) -> dict[str, str]:
    row = connection.execute(select(catalog_marks)).mappings().one()
    return {name: row[name] for name in ("apps", "trunks", "rates")}


# What renews a mark: each kind of statement on each table.
STATEMENTS = [
    ("apps", "INSERT INTO apps (app_id, url_id, name, allowed_ips, settings, created_at)"
     " SELECT 'x', url_id, name, allowed_ips, settings, 1 FROM apps"),
    ("apps", "UPDATE apps SET state = 'blocked'"),
    ("apps", "DELETE FROM apps"),
    ("apps", "INSERT INTO numbers (number, created_at) VALUES ('2', 1)"),
    ("apps", "UPDATE numbers SET area = 'x'"),
    ("apps", "DELETE FROM numbers"),
    ("apps", "INSERT INTO app_numbers VALUES ('shop', '1')"),
    ("apps", "UPDATE app_numbers SET app_id = 'shop'"),
    ("apps", "DELETE FROM app_numbers"),
    ("trunks", "INSERT INTO trunks (name, host, port, codecs, priority, created_at)"
     " VALUES ('x', 'h', 1, '', 1, 1)"),
    ("trunks", "UPDATE trunks SET state = 'off'"),
    ("trunks", "DELETE FROM trunks"),
    ("rates", "INSERT INTO rates VALUES ('x', '', 1, 1, 1, 1, '', 1)"),
    ("rates", "UPDATE rates SET setup = 5"),
    ("rates", "DELETE FROM rates"),
]  # fmt: skip


async def test_every_change_of_a_table_renews_its_mark(database: Database) -> None:
    await database.write(furnish)
    await database.write(lambda c: catalog.add_number(c, DisplayNumber("1"), 1))
    emptied = [(table, f"TRUNCATE {table} CASCADE") for table in ("apps", "trunks", "rates")]
    for mark, statement in STATEMENTS + (emptied if database.shared else []):
        with database.engine.begin() as connection:
            before = marks(connection)
            connection.execute(text(statement))
            after = marks(connection)
            connection.rollback()
        assert {name for name in after if after[name] != before[name]} == {mark}, statement


async def test_without_marks_nothing_is_taken_for_known(database: Database) -> None:
    await database.write(lambda c: c.execute(text("DELETE FROM catalog_marks")))
    with pytest.raises(LookupError, match="catalog_marks is empty"):
        await database.read(CatalogCache().at)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The apps that are read from the database."""
    found: list[str] = []

    def find_app(connection: Connection, app_id: str) -> App | None:
        found.append(app_id)
        return catalog.find_app(connection, app_id)

    monkeypatch.setattr(catalog_cache, "find_app", find_app)
    return found


async def test_what_has_not_changed_is_read_once(database: Database, looked_up: list[str]) -> None:
    cache = CatalogCache()
    await database.write(furnish)
    for run in (database.write, database.read, database.write):
        assert (await run(lambda c: cache.at(c).customer("shop"))).app == APP
    await database.write(lambda c: catalog.change_trunk(c, replace(TRUNK, port=5080)))
    await database.write(lambda c: rates.put_rate(c, "plan", Rate("1", 7), "", 1))
    assert (await database.write(lambda c: cache.at(c).customer("shop"))).app == APP
    assert looked_up == ["shop"]


async def test_what_is_kept_is_bounded(
    database: Database, looked_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of apps that are not there nothing is kept: anybody may ask for those."""
    monkeypatch.setattr(catalog_cache, "_MOST_ROWS", 4)
    cache = CatalogCache()
    third = replace(APP, app_id="third")
    await database.write(furnish)  # an app with its two numbers: three rows
    await database.write(lambda c: catalog.add_app(c, OTHER, 1))

    async def ask(*app_ids: str) -> None:
        for app_id in app_ids:
            found = await database.read(partial(customer, app_id=app_id))
            assert found.app == {"shop": APP, "other": OTHER, "third": third}.get(app_id)

    def customer(connection: Connection, app_id: str) -> Customer:
        return cache.at(connection).customer(app_id)

    await ask("shop", "other", "nobody", "nobody", "shop", "other")
    assert looked_up == ["shop", "other", "nobody", "nobody"]
    await database.write(lambda c: catalog.add_app(c, third, 1))
    looked_up.clear()
    await ask("shop", "other", "third", "other", "shop")  # the third one took the place of both
    assert looked_up == ["shop", "other", "third", "other", "shop"]


def put(connection: Connection, rate: Rate) -> None:
    rates.put_rate(connection, "plan", rate, "", 1)


async def test_a_plan_too_large_to_be_kept_has_the_same_prices(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CatalogCache()
    await database.write(furnish)
    for prefix in ("", "86138", "8675586013388"):
        await database.write(partial(put, rate=Rate(prefix, 1)))
    kept = await database.read(lambda c: cache.at(c).rates("plan", CALLER, CALLEE, "+1"))
    assert [rate and rate.prefix for rate in kept] == ["86138", "8675586013388", ""]
    for most in (4, 3):
        monkeypatch.setattr(catalog_cache, "_MOST_RATES", most)
        assert await database.read(lambda c: CatalogCache().at(c).rates("plan", CALLER, CALLEE, "+1")) == kept
