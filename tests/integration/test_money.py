"""Money on real calls: what is held bounds the talk, and each call is charged once, whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from sqlalchemy import Connection

from huibo import config
from huibo.clock import Clock
from huibo.model import App, AppSettings
from huibo.rating import Rate
from huibo.sandbox import journal
from huibo.sandbox.journal import PhoneMoment
from huibo.stack.stack import Stack
from huibo.storage import accounts, catalog, locks, rates
from huibo.storage.accounts import Account, Entry, EntryKind
from huibo.storage.database import Database
from tests.integration.conftest import StartStack
from tests.integration.customer import PATIENCE_S, Customer
from tests.integration.test_survival import kill

PATH = "/201511v3/callBack?id=demo"
PREPAID = AppSettings(rate_plan="seconds", prepaid=True)


class Till:
    """The account of an app, as it is in the database."""

    def __init__(self, database: Database, app_id: str, paid: int) -> None:
        self.database = database
        self.app_id = app_id

        def enter(connection: Connection) -> None:
            catalog.add_app(connection, App(app_id, "demo", settings=PREPAID), 1)
            for number in catalog.list_numbers(connection):
                catalog.change_number(connection, replace(number, apps=(*number.apps, app_id)))
            rates.put_rate(connection, "seconds", Rate("86", 60, first_s=3, next_s=1), "", 1)
            accounts.pay_in(connection, app_id, paid, "test", "", 1)

        database.write_now(enter)

    @property
    def account(self) -> Account:
        return self.database.read_now(lambda connection: accounts.find_account(connection, self.app_id))

    @property
    def entries(self) -> list[Entry]:
        return self.database.read_now(lambda connection: accounts.list_entries(connection, self.app_id))


@asynccontextmanager
async def till(stack: Stack, app_id: str, paid: int) -> AsyncIterator[Till]:
    database = Database(config.load(stack.settings_file).database_url)
    try:
        yield Till(database, app_id, paid)
    finally:
        await database.close()


async def test_a_call_is_cut_when_its_hold_ends_and_costs_no_more(stack: Stack, customer: Customer) -> None:
    async with till(
        stack, "thrifty", paid=12
    ) as money:  # one a second and leg: with the ringing, 5 s of talk
        call = await customer.call("13800001100", "13900001100", appId="thrifty")
        assert money.account == Account("thrifty", 12, held=12)
        refused = await customer.post(customer.request("13800001200", "13900001200") | {"appId": "thrifty"})
        assert refused["errorCode"] == "-105"
        cdr = await call.cdr()
        talked = int(cdr["endCallTime"]) - int(cdr["dstAcceptTime"])
        assert 3 <= talked <= 8
        assert cdr["callEndStatus"] == "1"
        charge, release, _hold, _credit = money.entries
        assert (charge.kind, release.kind) == (EntryKind.CHARGE, EntryKind.RELEASE)
        assert 10 <= charge.amount <= 12
        assert money.account == Account("thrifty", 12 - charge.amount, held=0)


async def test_a_call_that_nobody_answers_costs_nothing(stack: Stack, customer: Customer) -> None:
    async with till(stack, "unlucky", paid=1000) as money:
        await (await customer.call("13800001300", "13900001305", appId="unlucky")).cdr()
        assert money.account == Account("unlucky", 1000, held=0)
        assert [entry.kind.value for entry in money.entries] == ["release", "hold", "credit"]


async def test_a_hold_is_kept_and_settled_once_though_the_control_plane_dies(own: StartStack) -> None:
    stack, customer = await own()
    async with till(stack, "robust", paid=16) as money:
        call = await customer.call("13800001400", "13900001400", appId="robust")
        await call.until_told("dst answered")
        kill(stack.control_child.pid)
        await stack.control_child.process.wait()
        assert money.account == Account("robust", 16, held=16)
        async with asyncio.timeout(PATIENCE_S):  # the engine itself ends the call meanwhile
            async for event in journal.follow(stack.carrier.calls_log):
                if event.number == "13800001400" and event.event is PhoneMoment.HUNG_UP:
                    break
        await stack.control_child.start()
        await customer.until_ready()
        await call.cdr()
        (charge,) = [entry for entry in money.entries if entry.kind is EntryKind.CHARGE]
        # what came after the last sign of life is not charged: 3 s of each leg are the least
        assert 6 <= charge.amount <= 16
        assert money.account == Account("robust", 16 - charge.amount, held=0)


async def test_an_app_that_calls_and_calls_and_nobody_answers_is_locked(own: StartStack) -> None:
    stack, customer = await own({"abuse": {"unanswered": 4, "refusals": 5}})
    calls = [await customer.call(f"1380001{n}500", f"1390001{n}505") for n in range(4)]  # busy at once
    for call in calls:
        await call.cdr()
    refused = {"errorCode": "0"}
    async with asyncio.timeout(PATIENCE_S):
        while refused["errorCode"] == "0":  # what is taken before the lock is written is no mistake
            refused = await customer.post(customer.request("13800001600", "13900001605"))
    assert (refused["errorCode"], refused["msg"][:12]) == ("-423", "appId locked")
    database = Database(config.load(stack.settings_file).database_url)
    found = database.read_now(lambda connection: locks.list_locks(connection, Clock().now_ms()))
    assert [(lock.kind.value, lock.subject) for lock in found] == [("app", "demo")]
    assert database.write_now(lambda connection: locks.lift(connection, locks.LockKind.APP, "demo"))
    call = await customer.call("13800001700", "13900001705")
    codes = [
        (await customer.post(customer.request("13800001600", "13900001605"), PATH + "x"))["errorCode"]
        for _ in range(7)
    ]
    assert codes == ["-402"] * 5 + ["-423"] * 2
    right = await customer.post(customer.request("13800001600", "13900001605"))
    assert right["errorCode"] == "-423"
    assert database.write_now(lambda connection: locks.lift(connection, locks.LockKind.ADDRESS, "127.0.0.1"))
    assert (await customer.post({"appId": "demo"}, "/201511v3/getCallerDisplayList?id=demo"))[
        "errorCode"
    ] == "0"
    await call.cdr()
    await database.close()
