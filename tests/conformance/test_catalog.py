"""What the operator enters: added once, found again as it was, removed with all that hangs on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from huibo.model import App, DisplayNumber, Trunk, TrunkState
from huibo.storage import catalog
from huibo.storage.catalog import Conflict
from huibo.storage.database import Database

PLAIN = App("1400000001", "test")
FULL = App(
    "1400000002",
    "回拨",
    "名字 [red] \U0001f4de",
    ("10.0.0.0/8", "2001:db8::/32"),
    status_url="https://example.com/status?a=1&b=2",
    cdr_url="http://192.0.2.1:8080/cdr",
)
TRUNKS = [
    Trunk("b-second", "2001:db8::1", 5080, "ulaw", "user", "pass word", priority=5),
    Trunk("z-first", "sip.example.com", state=TrunkState.OFF),
    Trunk("a-last", "192.0.2.1", priority=7),
]
AT = 1_763_817_738_000


async def shown_by(database: Database, app: App) -> list[str]:
    found = await database.read(lambda connection: catalog.numbers_of(connection, app.app_id))
    return [number.number for number in found]


async def test_apps_come_back_as_they_were_entered(database: Database) -> None:
    for app in (FULL, PLAIN):
        await database.write(lambda connection, app=app: catalog.add_app(connection, app, AT))
    assert await database.read(catalog.list_apps) == [PLAIN, FULL]
    assert await database.read(lambda connection: catalog.find_app(connection, FULL.app_id)) == FULL
    assert await database.read(lambda connection: catalog.find_app(connection, "")) is None


async def test_trunks_come_back_in_the_order_in_which_they_are_tried(database: Database) -> None:
    for trunk in TRUNKS:
        await database.write(lambda connection, trunk=trunk: catalog.add_trunk(connection, trunk, AT))
    by_name = {trunk.name: trunk for trunk in TRUNKS}
    expected = [by_name["z-first"], by_name["b-second"], by_name["a-last"]]
    assert await database.read(catalog.list_trunks) == expected


async def test_numbers_belong_to_their_apps(database: Database) -> None:
    def enter(connection: Connection) -> None:
        catalog.add_app(connection, PLAIN, AT)
        catalog.add_app(connection, FULL, AT)
        catalog.add_number(connection, DisplayNumber("4001360123", apps=(FULL.app_id, PLAIN.app_id)), AT)
        catalog.add_number(connection, DisplayNumber("02131264133", apps=(PLAIN.app_id,)), AT)
        catalog.add_number(connection, DisplayNumber("075561948986"), AT)

    await database.write(enter)
    assert await database.read(catalog.list_numbers) == [
        DisplayNumber("02131264133", apps=(PLAIN.app_id,)),
        DisplayNumber("075561948986"),
        DisplayNumber(
            "4001360123",
            apps=(
                PLAIN.app_id,
                FULL.app_id,
            ),
        ),
    ]
    assert await shown_by(database, PLAIN) == ["02131264133", "4001360123"]
    assert await database.read(lambda c: catalog.numbers_of(c, "nobody")) == []
    # With its app goes what the app may show, but not the number
    assert await database.write(lambda c: catalog.remove_app(c, PLAIN.app_id))
    assert await database.read(catalog.list_numbers) == [
        DisplayNumber("02131264133"),
        DisplayNumber("075561948986"),
        DisplayNumber("4001360123", apps=(FULL.app_id,)),
    ]
    assert await database.write(lambda c: catalog.remove_number(c, "4001360123"))
    assert await shown_by(database, FULL) == []
    assert await database.read(lambda c: catalog.find_app(c, FULL.app_id)) == FULL


@pytest.mark.parametrize(
    ("add", "complaint"),
    [
        (lambda c: catalog.add_app(c, PLAIN, AT), "app 1400000001 exists already"),
        (
            lambda c: catalog.add_number(c, DisplayNumber("4001360123"), AT),
            "number 4001360123 exists already",
        ),
        (lambda c: catalog.add_trunk(c, TRUNKS[0], AT), "trunk b-second exists already"),
    ],
)
async def test_what_is_there_is_not_added_again(
    database: Database, add: Callable[[Connection], None], complaint: str
) -> None:
    await database.write(add)
    with pytest.raises(Conflict, match=f"^{complaint}$"):
        await database.write(add)
    assert sum(map(len, [await everything(database, kind) for kind in LISTS])) == 1


async def test_a_number_for_an_unknown_app_is_not_added_at_all(database: Database) -> None:
    await database.write(lambda c: catalog.add_app(c, PLAIN, AT))
    with pytest.raises(Conflict, match=r"^no app nobody$"):
        await database.write(
            lambda c: catalog.add_number(c, DisplayNumber("4001360123", apps=(PLAIN.app_id, "nobody")), AT)
        )
    assert await database.read(catalog.list_numbers) == []


@pytest.mark.parametrize("remove", [catalog.remove_app, catalog.remove_number, catalog.remove_trunk])
async def test_removing_tells_whether_it_was_there(
    database: Database, remove: Callable[[Connection, str], bool]
) -> None:
    assert not await database.write(lambda c: remove(c, "nothing"))
    await database.write(lambda c: catalog.add_app(c, App("it", "it"), AT))
    await database.write(lambda c: catalog.add_number(c, DisplayNumber("it"), AT))
    await database.write(lambda c: catalog.add_trunk(c, Trunk("it", "192.0.2.1"), AT))
    assert await database.write(lambda c: remove(c, "it"))
    assert not await database.write(lambda c: remove(c, "it"))
    assert sum(map(len, [await everything(database, kind) for kind in LISTS])) == 2


LISTS = (catalog.list_apps, catalog.list_numbers, catalog.list_trunks)


async def everything(database: Database, kind: Callable[[Connection], list[Any]]) -> list[Any]:
    return await database.read(kind)
