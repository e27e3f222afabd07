"""Accounts: the ledger balances after any sequence of movements, and nothing in it is ever changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from huibo.storage.accounts import (
    Account,
    EntryKind,
    adjust,
    balance_at,
    find_account,
    hold,
    items_between,
    list_entries,
    pay_in,
    settle,
)
from huibo.storage.database import Database
from huibo.storage.tables import audit

amounts = st.integers(0, 10**9)
moves = st.one_of(
    st.tuples(st.just("credit"), amounts.map(lambda amount: amount + 1), st.just(0)),
    st.tuples(st.just("adjust"), st.integers(-(10**9), 10**9).filter(bool), st.just(0)),
    st.tuples(st.just("hold"), amounts, st.just(0)),
    st.tuples(st.just("settle"), st.integers(0, 9), amounts),
)
names = count()


@dataclass
class Book:
    """What an account must come to, reckoned beside the database."""

    app_id: str
    balance: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    at: int = 0

    def move(self, connection: Connection, what: str, one: int, other: int) -> None:
        self.at += 10
        if what == "credit":
            pay_in(connection, self.app_id, one, "me", "paid", self.at)
            self.balance += one
        elif what == "adjust":
            adjust(connection, self.app_id, one, "me", "so be it", self.at)
            self.balance += one
        elif what == "hold":
            call = f"{self.app_id}-{self.at}"
            hold(connection, self.app_id, call, one, self.at)
            self.holds[call] = one
        elif self.holds:
            call = sorted(self.holds)[one % len(self.holds)]
            charge = min(other, self.holds[call])
            settle(connection, self.app_id, call, self.holds.pop(call), charge, self.at)
            self.balance -= charge


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(moves, max_size=25))
async def test_the_ledger_always_balances(database: Database, steps: list[tuple[str, int, int]]) -> None:
    book = Book(f"app-{next(names)}")
    for step in steps:
        await database.write(lambda connection, step=step: book.move(connection, *step))
    app_id = book.app_id
    account = await database.read(lambda c: find_account(c, app_id))
    assert account == Account(app_id, book.balance, sum(book.holds.values()))
    entries = (await database.read(lambda c: list_entries(c, app_id, limit=1000)))[::-1]
    balance = held = 0
    for entry in entries:
        moved = -entry.amount if entry.kind is EntryKind.CHARGE else entry.amount
        if entry.kind in (EntryKind.HOLD, EntryKind.RELEASE):
            held += entry.amount if entry.kind is EntryKind.HOLD else -entry.amount
        else:
            balance += moved
        assert (entry.balance, entry.held) == (balance, held)
    assert (balance, held) == (account.balance, account.held)
    middle = book.at // 2
    before = await database.read(lambda c: balance_at(c, app_id, middle))
    later = await database.read(
        lambda c: sum(i.amount for i in items_between(c, app_id, middle, book.at + 1))
    )
    assert before + later == account.balance
    assert await database.read(lambda c: balance_at(c, app_id, book.at + 1)) == account.balance


async def test_no_call_is_held_released_or_charged_twice(database: Database) -> None:
    await database.write(lambda c: pay_in(c, "shop", 100, "me", "", 1))
    await database.write(lambda c: hold(c, "shop", "call", 60, 2))
    with pytest.raises(IntegrityError):
        await database.write(lambda c: hold(c, "shop", "call", 1, 3))
    await database.write(lambda c: settle(c, "shop", "call", 60, 50, 4))
    for held, charge in ((60, 50), (60, 0), (0, 50)):
        with pytest.raises(IntegrityError):
            await database.write(lambda c, h=held, x=charge: settle(c, "shop", "call", h, x, 5))
    assert await database.read(lambda c: find_account(c, "shop")) == Account("shop", 50, 0)
    assert len(await database.read(lambda c: list_entries(c, "shop"))) == 4


async def test_what_is_nothing_is_not_written(database: Database) -> None:
    await database.write(lambda c: settle(c, "shop", "call", 0, 0, 1))
    assert await database.read(lambda c: list_entries(c, "shop")) == []
    for nothing in (0, -1):
        with pytest.raises(ValueError, match="more than 0"):
            await database.write(lambda c, n=nothing: pay_in(c, "shop", n, "me", "", 1))
    with pytest.raises(ValueError, match="not 0"):
        await database.write(lambda c: adjust(c, "shop", 0, "me", "", 1))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger SET amount = 0",
        "DELETE FROM ledger",
        "UPDATE audit SET author = 'x'",
        "DELETE FROM audit",
    ],
)
async def test_what_was_written_down_stays_as_it_is(database: Database, change: str) -> None:
    noted = {"at": 1, "author": "me", "origin": "cli", "action": "add", "kind": "app", "subject": "shop"}
    await database.write(lambda c: pay_in(c, "shop", 100, "me", "", 1))
    await database.write(lambda c: c.execute(insert(audit), noted) and None)
    with pytest.raises(DBAPIError, match="is written once"):
        await database.write(lambda c: c.execute(text(change)) and None)
    (entry,) = await database.read(lambda c: list_entries(c, "shop"))
    assert (entry.amount, entry.author) == (100, "me")


async def test_hundreds_at_once_never_overdraw(database: Database) -> None:
    await database.write(lambda c: pay_in(c, "shop", 1000, "me", "", 1))

    def take(connection: Connection, call: str) -> bool:
        """Hold 7 if they are there, as admission does, and settle every third call at once."""
        if find_account(connection, "shop", lock=True).available < 7:
            return False
        hold(connection, "shop", call, 7, 2)
        if int(call) % 3 == 0:
            settle(connection, "shop", call, 7, 5, 3)
        return True

    taken = await asyncio.gather(
        *(database.write(lambda c, call=str(call): take(c, call)) for call in range(400))
    )
    charged = sum(5 for call, went in enumerate(taken) if went and call % 3 == 0)
    held = sum(7 for call, went in enumerate(taken) if went and call % 3)
    account = await database.read(lambda c: find_account(c, "shop"))
    assert account == Account("shop", 1000 - charged, held)
    assert 0 <= account.available < 7


async def test_accounts_are_opened_once_by_many_at_once(database: Database) -> None:
    """Beside the writer: other processes have transactions of their own."""

    def credit(_: int) -> None:
        database.write_now(lambda c: pay_in(c, "new", 1, "me", "", 1))

    await asyncio.gather(*(asyncio.to_thread(credit, number) for number in range(40)))
    assert (await database.read(lambda c: find_account(c, "new"))).balance == 40
