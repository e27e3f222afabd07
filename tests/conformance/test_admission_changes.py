"""Admission sees what anybody has changed, from the next request on, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from huibo.admission.admit import Admission, Admitted
from huibo.clock import Clock
from huibo.config import load
from huibo.errors import Refused
from huibo.model import App, AppSettings, AppState, CallRequest, DisplayNumber, Trunk
from huibo.ports import Engine
from huibo.rating import Rate
from huibo.storage import accounts, blacklist, catalog, locks, rates
from huibo.storage.database import Database
from tests.unit.test_admission import Switch

APP = App("shop", "u", allowed_ips=("192.0.2.0/24",), settings=AppSettings(rate_plan="plan", prepaid=True))
NUMBER = DisplayNumber("02131264133", apps=("shop",))
TRUNK = Trunk("line", "192.0.2.1", channels=100)
MOBILE, LANDLINE = "+8613800138000", "+8675586013388"
REQUEST = CallRequest("shop", "u", "192.0.2.7", caller=MOBILE, callee=LANDLINE, max_talk_s=60)


def furnish(connection: Connection) -> None:
    catalog.add_app(connection, APP, 1)
    catalog.add_number(connection, NUMBER, 1)
    catalog.add_trunk(connection, TRUNK, 1)
    rates.put_rate(connection, "plan", Rate("86", 60), "", 1)
    accounts.pay_in(connection, "shop", 10**9, "test", "", 1)


@pytest.fixture
async def other(database: Database, database_url: str) -> AsyncIterator[Database]:
    """The same database as another process has it open, furnished."""
    await database.write(furnish)
    other = Database(database_url)
    yield other
    await other.close()


def admission_of(database: Database) -> Admission:
    return Admission(database, cast(Engine, Switch()), Clock(), load().calls)


def app(**changes: Any) -> Callable[[Connection], None]:
    return lambda connection: catalog.change_app(connection, replace(APP, **changes))


def own(**changes: Any) -> Callable[[Connection], None]:
    return app(settings=replace(APP.settings, **changes))


def lock(kind: locks.LockKind, subject: str) -> Callable[[Connection], None]:
    until = Clock().now_ms() + 60_000
    return lambda connection: locks.put_lock(connection, locks.Lock(kind, subject, "", 1, until))


# What somebody does, and the answer that it gives the next request.
CHANGES: list[tuple[Callable[[Connection], Any], str, str]] = [
    (app(state=AppState.BLOCKED), "-423", "appId blocked"),
    (app(url_id="x"), "-402", "url does not match appId"),
    (app(allowed_ips=()), "-403", "ip not allowed"),
    (own(calls_at_once=1), "-423", "too many calls at once"),
    (own(calls_per_second=1), "-423", "too many calls per second"),
    (own(callee_per_hour=1), "-423", "dst: called too often in an hour"),
    (own(callee_per_day=1), "-423", "dst: called too often in a day"),
    (own(rate_plan="none"), "-501", "src: no rate for this number"),
    (lambda c: rates.put_rate(c, "plan", Rate("8613", 10**12), "", 1), "-105", "balance exhausted"),
    (lambda c: rates.remove_rate(c, "plan", "86"), "-501", "src: no rate for this number"),
    (lambda c: catalog.change_number(c, replace(NUMBER, enabled=False)), "-102", "srcDisplayNum: "),
    (lambda c: catalog.change_number(c, replace(NUMBER, apps=())), "-102", "srcDisplayNum: "),
    (lambda c: catalog.change_number(c, replace(NUMBER, trunks=("x",))), "-3", "no line available that"),
    (lambda c: catalog.remove_number(c, NUMBER.number), "-102", "srcDisplayNum: "),
    (lambda c: catalog.change_trunk(c, replace(TRUNK, channels=1)), "-3", "no line available for src"),
    (lambda c: catalog.change_trunk(c, replace(TRUNK, prefixes=("1",))), "-3", "no line available for src"),
    (lambda c: catalog.remove_trunk(c, TRUNK.name), "-3", "no line available for src"),
    (lambda c: catalog.remove_app(c, "shop"), "-401", "appId invalid"),
    (lock(locks.LockKind.TRUNK, TRUNK.name), "-3", "no line available for src"),
    (lock(locks.LockKind.APP, "shop"), "-423", "appId locked for a time"),
    (lock(locks.LockKind.ADDRESS, "192.0.2.7"), "-423", "ip locked for a time"),
    (lambda c: blacklist.put_listed(c, [blacklist.Listed(LANDLINE[1:])], 1), "-110", "dst: number on"),
]


def undo(connection: Connection) -> None:
    """What is there but calls is as it was before."""
    for name in ("shop", "line", NUMBER.number):
        for remove in (catalog.remove_app, catalog.remove_trunk, catalog.remove_number):
            remove(connection, name)
    for prefix in ("86", "8613"):
        rates.remove_rate(connection, "plan", prefix)
    for one in locks.list_locks(connection, 0):
        locks.lift(connection, one.kind, one.subject)
    for listed in blacklist.list_listed(connection):
        blacklist.remove_listed(connection, listed)
    furnish(connection)


async def test_the_next_request_is_decided_on_what_somebody_has_changed(
    database: Database, other: Database
) -> None:
    admission = admission_of(database)
    for change, code, message in CHANGES:
        await admission.accept(REQUEST)
        await other.write(change)
        with pytest.raises(Refused) as refused:
            await admission.accept(REQUEST)
        assert refused.value.refusal.code == code, message
        assert refused.value.message.startswith(message)
        await other.write(undo)


async def test_who_may_ask_is_looked_up_at_each_request(database: Database, other: Database) -> None:
    admission = admission_of(database)
    for change, code, _ in CHANGES[:3]:
        await admission.authenticate("shop", "u", "192.0.2.7")
        await other.write(change)
        with pytest.raises(Refused) as refused:
            await admission.authenticate("shop", "u", "192.0.2.7")
        assert refused.value.refusal.code == code
        await other.write(undo)


async def test_a_refused_change_by_the_same_process_is_not_decided_upon(
    database: Database, other: Database
) -> None:
    """It is in the transaction of the request, and is undone with another unit's failure."""
    admission = admission_of(database)

    def fails(connection: Connection) -> None:
        app(state=AppState.BLOCKED)(connection)
        with pytest.raises(Refused):
            admission._admit(connection, REQUEST, None)
        raise RuntimeError("not kept")

    await admission.accept(REQUEST)
    with pytest.raises(RuntimeError, match="not kept"):
        await database.write(fails)
    await admission.accept(REQUEST)
    await other.write(app(status_url="http://192.0.2.9/"))
    assert (await admission.accept(REQUEST)).call.status_url == "http://192.0.2.9/"


async def accepted(cells: list[Admission], times: int) -> int:
    """How many of so many requests at the same moment, spread over processes, get a call."""
    asked = [cells[n % len(cells)].accept(REQUEST) for n in range(times)]
    came = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in came} == {Admitted, Refused}
    return sum(isinstance(one, Admitted) for one in came)


async def test_two_processes_share_the_channels_of_a_trunk_and_the_limits_of_an_app(
    database: Database, other: Database
) -> None:
    cells = [admission_of(database), admission_of(other)]
    await other.write(lambda c: catalog.change_trunk(c, replace(TRUNK, channels=6)))
    assert await accepted(cells, 12) == 3  # each has two legs
    await other.write(lambda c: catalog.change_trunk(c, TRUNK))
    await database.write(own(calls_at_once=8))
    assert await accepted(cells, 20) == 5
