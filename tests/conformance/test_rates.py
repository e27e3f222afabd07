"""Rates: the longest prefix of a plan gives the price."""

from __future__ import annotations

from huibo.rating import Rate
from huibo.storage.database import Database
from huibo.storage.rates import find_rates, list_rates, put_rate, remove_rate


async def put(database: Database, plan: str, *rates: Rate) -> None:
    for rate in rates:
        await database.write(lambda connection, rate=rate: put_rate(connection, plan, rate, "a note", 1))


async def price(database: Database, plan: str, e164: str) -> int | None:
    other, found = await database.read(lambda connection: find_rates(connection, plan, "+999", e164))
    assert other in (None, found) or other.prefix == ""
    return None if found is None else found.per_minute


async def test_the_longest_prefix_wins(database: Database) -> None:
    await put(database, "p", Rate("", 1), Rate("86", 2), Rate("86138", 3), Rate("8613800138000", 4))
    await put(database, "q", Rate("86139", 5))
    assert await price(database, "p", "+8613800138000") == 4
    assert await price(database, "p", "+8613800138001") == 3
    assert await price(database, "p", "+8613900139000") == 2
    assert await price(database, "p", "+85212345678") == 1
    assert await price(database, "q", "+8613900139000") == 5
    assert await price(database, "q", "+8613800138000") is None
    assert await price(database, "none", "+8613800138000") is None


async def test_a_rate_takes_the_place_of_the_one_of_its_prefix(database: Database) -> None:
    whole = Rate("86", 7, first_s=6, next_s=1, setup=9)
    await put(database, "p", Rate("86", 2), whole)
    assert await database.read(list_rates) == [("p", whole, "a note")]
    assert await database.write(lambda connection: remove_rate(connection, "p", "86"))
    assert not await database.write(lambda connection: remove_rate(connection, "p", "86"))
    assert await price(database, "p", "+8613800138000") is None


async def test_they_are_listed_in_pages(database: Database) -> None:
    prefixes = ["", "1", "86", "861", "8610"]
    for plan in ("a", "b"):
        await put(database, plan, *(Rate(prefix, 1) for prefix in reversed(prefixes)))
    keys = [(plan, prefix) for plan in ("a", "b") for prefix in prefixes]
    for behind in range(len(keys)):
        after = keys[behind]
        page = await database.read(lambda connection, after=after: list_rates(connection, None, after, 3))
        assert [(plan, rate.prefix) for plan, rate, _ in page] == keys[behind + 1 : behind + 4]
    of_one = await database.read(lambda connection: list_rates(connection, "b"))
    assert [(plan, rate.prefix) for plan, rate, _ in of_one] == keys[5:]
