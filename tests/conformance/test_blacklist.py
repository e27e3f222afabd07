"""The blacklist: which number may not be which party of whose calls, and until when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from huibo.model import Leg
from huibo.storage.blacklist import (
    Direction,
    Listed,
    find_listed,
    key_of,
    list_listed,
    listed_party,
    put_listed,
    remove_expired,
    remove_listed,
)
from huibo.storage.database import Database
from huibo.storage.tables import blacklist

NUMBER = "8613800138000"
OF_APP = Listed(NUMBER, app_id="shop")


async def put(database: Database, *entries: Listed) -> int:
    return await database.write(lambda connection: put_listed(connection, entries, 1))


@pytest.mark.parametrize(
    ("entry", "hits"),
    [
        (Listed(NUMBER), True),
        (Listed(NUMBER[:-1]), False),
        (Listed(NUMBER + "1", exact=False), False),
        (Listed(NUMBER, exact=False), True),
        (Listed("86138", exact=False), True),
        (Listed("86139", exact=False), False),
        (OF_APP, True),
        (Listed(NUMBER, app_id="other"), False),
        (Listed(NUMBER, direction=Direction.CALLEE), True),
        (Listed(NUMBER, direction=Direction.CALLER), False),
        (Listed(NUMBER, expires_at=1001), True),
        (Listed(NUMBER, expires_at=1000), False),
    ],
)
async def test_what_an_entry_stands_in_the_way_of(database: Database, entry: Listed, hits: bool) -> None:
    assert await put(database, entry) == 1
    parties = {Leg.CALLER: "+8613700000000", Leg.CALLEE: f"+{NUMBER}"}
    found = await database.read(lambda c: listed_party(c, "shop", parties, 1000))
    assert found is (Leg.CALLEE if hits else None)


async def test_each_party_is_looked_for_in_its_own_role(database: Database) -> None:
    """An exact entry of one number is no prefix of the other, and the caller comes first."""
    longer = f"+{NUMBER}9"
    await put(database, Listed(NUMBER, direction=Direction.CALLER))

    async def found(caller: str, callee: str) -> Leg | None:
        parties = {Leg.CALLER: caller, Leg.CALLEE: callee}
        return await database.read(lambda c: listed_party(c, "shop", parties, 1000))

    assert await found(f"+{NUMBER}", longer) is Leg.CALLER
    assert await found(longer, f"+{NUMBER}") is None
    await put(database, Listed(NUMBER, exact=False))
    assert await found(longer, f"+{NUMBER}") is Leg.CALLER
    assert await found("+8613700000000", longer) is Leg.CALLEE


async def test_an_entry_takes_the_place_of_its_like(database: Database) -> None:
    first = Listed(NUMBER, reason="a", expires_at=5)
    others = [OF_APP, replace(first, exact=False), replace(first, direction=Direction.CALLER)]
    await put(database, first, *others)
    again = replace(first, reason="b", expires_at=None)
    assert await put(database, again, replace(again, reason="c")) == 1  # within one list the last counts
    assert await database.read(lambda c: find_listed(c, first)) == replace(again, reason="c")
    assert len(await database.read(list_listed)) == 4
    assert await database.write(lambda c: remove_listed(c, first))
    assert not await database.write(lambda c: remove_listed(c, first))
    assert {key_of(one) for one in await database.read(list_listed)} == {key_of(one) for one in others}


async def test_what_is_over_is_forgotten(database: Database) -> None:
    await put(database, Listed("861", expires_at=10), Listed("862", expires_at=11), Listed("863"))
    assert await database.write(lambda c: remove_expired(c, 10)) == 1
    assert [one.pattern for one in await database.read(list_listed)] == ["862", "863"]


digits = st.text("0189", min_size=1, max_size=4)
listed = st.builds(Listed, digits, st.booleans(), st.sampled_from(["", "shop"]), st.sampled_from(Direction))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(listed, max_size=30, unique_by=key_of),
    about=st.none() | digits,
    app_id=st.sampled_from([None, "", "shop"]),
    direction=st.none() | st.sampled_from(Direction),
    limit=st.integers(1, 7),
)
async def test_pages_are_the_whole_list_filtered(
    database: Database,
    entries: list[Listed],
    about: str | None,
    app_id: str | None,
    direction: Direction | None,
    limit: int,
) -> None:
    await database.write(lambda c: c.execute(delete(blacklist)) and None)
    await put(database, *entries)
    expected = [
        one
        for one in sorted(entries, key=key_of)
        if (app_id is None or one.app_id == app_id)
        and (direction is None or one.direction is direction)
        and (
            about is None
            or one.pattern.startswith(about)
            or (not one.exact and about.startswith(one.pattern))
        )
    ]
    found: list[Listed] = []
    while True:
        after = key_of(found[-1]) if found else None
        page = await database.read(
            lambda c, after=after: list_listed(c, app_id, direction, about, after, limit)
        )
        found += page
        if len(page) < limit:
            break
    assert found == expected
