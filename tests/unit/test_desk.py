"""A request for a call at the desk: who asks is looked at before all else, and whoever guesses is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from huibo.admission.abuse import Abuse
from huibo.admission.admit import Admission
from huibo.config import AbuseSettings, load
from huibo.desk import Desk
from huibo.errors import Refused
from huibo.model import App, AppState, CallRequest, DisplayNumber, Trunk
from huibo.ports import Engine
from huibo.storage import catalog
from huibo.storage.database import Database
from huibo.storage.locks import Lock, LockKind, list_locks, put_lock
from huibo.storage.migrate import migrate
from huibo.wire.operations import Asked, operations
from tests.unit.test_admission import Switch
from tests.unit.test_limits import Watch

APP = App("shop", "u", allowed_ips=("192.0.2.0/24",))
GOOD = {"appId": "shop", "src": "008613800138000", "dst": "0086075586013388"}
BAD_NUMBER = GOOD | {"src": "1"}
HERE, ELSEWHERE = "192.0.2.7", "198.51.100.1"
REFUSALS = 3
SETTINGS = AbuseSettings(refusals=REFUSALS, refusals_s=60, unanswered=4, unanswered_s=60, lock_min=15)


class World:
    """A desk that takes no calls: its engine is not ready, which is found last."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, Watch()
        admission = Admission(database, cast(Engine, Switch(ready=False)), self.clock, load().calls)
        abuse = Abuse(database, self.clock, SETTINGS)
        nobody: Any = None  # nothing is accepted, so nothing is handed on
        self.desk = Desk(admission, abuse, nobody, nobody, database, "http://192.0.2.1")
        self.call_back = operations(self.desk, 60)["callBack"].answer

    async def refused(
        self, fields: dict[str, str] = GOOD, url_id: str = "u", remote_ip: str = HERE, key: str = ""
    ) -> tuple[str, str]:
        with pytest.raises(Refused) as refused:
            await self.call_back(Asked(fields["appId"], fields, "", url_id, remote_ip, b"", key))
        return refused.value.refusal.code, refused.value.message

    async def enter(self, app: App) -> None:
        await self.database.write(lambda connection: catalog.change_app(connection, app))

    async def lock(self, kind: LockKind, subject: str) -> None:
        lock = Lock(kind, subject, "", 1, self.clock.ms + 1000)
        await self.database.write(lambda connection: put_lock(connection, lock))

    async def locked(self) -> list[str]:
        locks = await self.database.read(lambda connection: list_locks(connection, self.clock.ms))
        return [lock.subject for lock in locks]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(f"sqlite:///{tmp_path}/huibo.sqlite3")
    migrate(database.engine)

    def furnish(connection: Any) -> None:
        catalog.add_app(connection, APP, 1)
        catalog.add_number(connection, DisplayNumber("02131264133", apps=("shop",)), 1)
        catalog.add_trunk(connection, Trunk("line", "192.0.2.1"), 1)

    await database.write(furnish)
    yield World(database)
    await database.close()


@pytest.mark.parametrize("key", ["", "good", "no\nkey"])
@pytest.mark.parametrize("fields", [GOOD, BAD_NUMBER])
async def test_who_asks_is_looked_at_before_what_is_asked(
    world: World, fields: dict[str, str], key: str
) -> None:
    """Whether the fields or the key of the request can be read or not."""
    await world.lock(LockKind.APP, "shop")
    blocked = replace(APP, state=AppState.BLOCKED)
    await world.enter(blocked)
    nobody = fields | {"appId": "nobody"}
    assert await world.refused(nobody, "x", ELSEWHERE, key) == ("-401", "appId invalid")
    assert await world.refused(fields, "x", ELSEWHERE, key) == ("-402", "url does not match appId")
    await world.lock(LockKind.ADDRESS, ELSEWHERE)
    locked = ("-423", "ip locked for a time: too many refused requests")
    assert await world.refused(nobody, "x", ELSEWHERE, key) == locked
    await world.enter(replace(blocked, allowed_ips=()))
    assert await world.refused(fields, key=key) == ("-403", "ip not allowed")
    await world.enter(blocked)
    assert await world.refused(fields, key=key) == ("-423", "appId blocked")
    await world.enter(APP)
    if fields is BAD_NUMBER:
        assert (await world.refused(fields, key=key))[0] == "-101"
    elif key == "no\nkey":
        assert (await world.refused(fields, key=key))[1].startswith("Idempotency-Key: ")
    else:
        assert (await world.refused(fields, key=key))[1].startswith("appId locked for a time")


@pytest.mark.parametrize("fields", [GOOD, BAD_NUMBER])
async def test_whoever_guesses_is_locked_whatever_he_asks(world: World, fields: dict[str, str]) -> None:
    for _ in range(REFUSALS):
        assert (await world.refused(fields, "guess", ELSEWHERE))[0] == "-402"
    assert await world.locked() == [ELSEWHERE]
    assert (await world.refused(fields, "guess", ELSEWHERE))[0] == "-423"


async def test_mistakes_of_those_who_may_ask_lock_nobody(world: World) -> None:
    for _ in range(2 * REFUSALS):
        assert (await world.refused(BAD_NUMBER))[0] == "-101"
        assert (await world.refused())[0] == "-501"
    assert await world.locked() == []


async def test_an_operator_who_mistypes_locks_nobody(world: World) -> None:
    request = CallRequest("nobody", "", "", "+8613800138000", "+8675586013388", by_operator=True)
    for _ in range(2 * REFUSALS):
        with pytest.raises(Refused, match="appId invalid"):
            await world.desk.accept(request, None)
    assert await world.locked() == []
