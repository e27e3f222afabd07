"""The office's accounts: who moved what, and statements that agree with the ledger."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from huibo import yuan
from huibo.model import App, AppSettings
from huibo.office import accounts, audit
from huibo.office.accounts import Adjustment, Credit
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.statement import HEADS, statement
from huibo.storage import catalog
from huibo.storage.accounts import hold, pay_in, settle
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate
from huibo.storage.tables import calls, cdrs

ME = Author("cli:me", "cli", 1)
SHANGHAI = ZoneInfo("Asia/Shanghai")


def ms(*when: int, zone: ZoneInfo = SHANGHAI) -> int:
    year, month, day, *time = when
    return int(datetime(year, month, day, *time, tzinfo=zone).timestamp() * 1000)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = open_engine(f"sqlite:///{tmp_path}/office.sqlite3")
    migrate(engine)
    with engine.begin() as connection:
        catalog.add_app(connection, App("shop", "shop"), 1)
        catalog.add_app(connection, App("paid", "paid", settings=AppSettings(prepaid=True)), 1)
        yield connection
    engine.dispose()


def add_call(connection: Connection, call_id: str, answered: tuple[int, int], ended: tuple[int, int]) -> None:
    """A call that is over, with its CDR."""
    row = dict.fromkeys(("request_id", "biz_id", "order_id", "caller_display", "callee_display"), "")
    row |= {"call_id": call_id, "app_id": "shop", "caller": "+8613800138000", "callee": "+862131264133"}
    row |= {"caller_trunk": "t", "max_talk_s": 60, "accepted_at": 1, "status_mask": 0, "record": False}
    connection.execute(insert(calls), row | {"recognise_ringing": False, "state": "{}", "ended_at": ended[0]})
    cdr = {"call_id": call_id, "app_id": "shop", "caller": row["caller"], "started_at": 1}
    cdr |= {"caller_answered_at": answered[0], "callee_answered_at": answered[1]}
    cdr |= {"caller_ended_at": ended[0], "callee_ended_at": ended[1], "ended_at": max(ended)}
    connection.execute(insert(cdrs), cdr | {"result": "talked", "talk_s": 1, "billed_s": 1})


def test_money_is_moved_in_somebodys_name(connection: Connection) -> None:
    with pytest.raises(NotFound, match="no app nobody"):
        accounts.credit(connection, ME, "nobody", Credit(amount=1))
    accounts.credit(connection, ME, "shop", Credit(amount=500, reason="receipt 7"))
    account = accounts.adjust(connection, ME, "shop", Adjustment(amount=-700, reason="a fault of ours"))
    assert (account.balance, account.held, account.available) == (-200, 0, -200)
    entries = accounts.ledger(connection, "shop").items
    assert [(e.kind, e.amount, e.author, e.reason) for e in entries] == [
        ("adjustment", -700, "cli:me", "a fault of ours"),
        ("credit", 500, "cli:me", "receipt 7"),
    ]
    noted = audit.page(connection, kind="account").items
    assert [(n.action, n.subject, n.after) for n in noted] == [
        ("adjust", "shop", {"amount": -700, "reason": "a fault of ours"}),
        ("credit", "shop", {"amount": 500, "reason": "receipt 7"}),
    ]


def test_a_prepaid_app_keeps_what_its_live_calls_may_use(connection: Connection) -> None:
    accounts.credit(connection, ME, "paid", Credit(amount=1000))
    hold(connection, "paid", "call", 600, 1)
    with pytest.raises(Invalid, match=r"more than the 0\.00400 yuan"):
        accounts.adjust(connection, ME, "paid", Adjustment(amount=-401, reason="x"))
    assert accounts.adjust(connection, ME, "paid", Adjustment(amount=-400, reason="x")).available == 0


@pytest.mark.parametrize("amount", [0, -1, 10**13 + 1, 1.5])
def test_a_credit_is_some_whole_amount(amount: float) -> None:
    with pytest.raises(ValueError, match="Input should be"):
        Credit(amount=amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 501])
def test_an_adjustment_needs_a_reason(reason: str) -> None:
    with pytest.raises(ValueError, match="reason"):
        Adjustment(amount=1, reason=reason)


def test_an_adjustment_of_nothing_is_none(connection: Connection) -> None:
    with pytest.raises(Invalid, match="amount: an adjustment is not 0"):
        accounts.adjust(connection, ME, "shop", Adjustment(amount=0, reason="x"))


def test_an_account_outlives_its_app(connection: Connection) -> None:
    accounts.credit(connection, ME, "shop", Credit(amount=500))
    catalog.remove_app(connection, "shop")
    assert accounts.show(connection, "shop").balance == 500
    assert len(accounts.ledger(connection, "shop").items) == 1
    assert len(list(statement(connection, "shop", "2026-11"))) == 3
    for look in (accounts.show, accounts.ledger):
        with pytest.raises(NotFound):
            look(connection, "nobody")
    with pytest.raises(NotFound):
        statement(connection, "nobody", "2026-11")


def test_the_ledger_comes_in_pages(connection: Connection) -> None:
    for amount in range(1, 8):
        accounts.credit(connection, ME, "shop", Credit(amount=amount))
    accounts.credit(connection, ME, "paid", Credit(amount=99))
    seen, after = [], None
    while True:
        page = accounts.ledger(connection, "shop", after, 3)
        seen += [entry.amount for entry in page.items]
        if (after := page.next) is None:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_a_statement_tells_a_month(connection: Connection) -> None:
    pay_in(connection, "shop", 10_000_000, "cli:me", "=SUM(A1)", ms(2026, 10, 31, 23, 59))
    pay_in(connection, "shop", 500_000, "cli:me", "=SUM(A1)", ms(2026, 11, 1))
    at = ms(2026, 11, 5, 9, 30)
    add_call(connection, "c1", (at, at + 4200), (at + 64_201, at + 64_100))
    hold(connection, "shop", "c1", 90_000, at - 1)
    settle(connection, "shop", "c1", 90_000, 24_001, at + 64_300)
    pay_in(connection, "shop", 1, "cli:me", "", ms(2026, 12, 1))
    rows = list(csv.reader(statement(connection, "shop", "2026-11")))
    assert rows == [
        list(HEADS),
        ["2026-11-01T00:00:00+08:00", "opening", *[""] * 6, "100.00000", "", ""],
        ["2026-11-01T00:00:00+08:00", "credit", *[""] * 5, "5.00000", "105.00000", "cli:me", "'=SUM(A1)"],
        [
            *("2026-11-05T09:31:04+08:00", "charge", "c1", "13800138000", "02131264133", "65", "60"),
            *("-0.24001", "104.75999", "huibo", ""),
        ],
        ["2026-12-01T00:00:00+08:00", "closing", *[""] * 6, "104.75999", "", ""],
    ]


def test_a_month_is_that_of_the_apps_time_zone(connection: Connection) -> None:
    zone = ZoneInfo("America/New_York")
    app = catalog.find_app(connection, "shop")
    assert app is not None
    catalog.change_app(connection, replace(app, settings=AppSettings(timezone=zone.key)))
    pay_in(connection, "shop", 7, "me", "", ms(2026, 11, 1, zone=zone) - 1)
    pay_in(connection, "shop", 8, "me", "", ms(2026, 11, 1, zone=zone))
    rows = list(csv.reader(statement(connection, "shop", "2026-11")))
    assert [(row[1], row[8]) for row in rows[1:]] == [
        ("opening", "0.00007"),
        ("credit", "0.00015"),
        ("closing", "0.00015"),
    ]
    assert (rows[1][0], rows[-1][0]) == ("2026-11-01T00:00:00-04:00", "2026-12-01T00:00:00-05:00")


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-1", "november", "2026-11-01", "２０２６-11"])
def test_what_is_no_month_is_refused(connection: Connection, month: str) -> None:
    with pytest.raises(Invalid, match="like 2026-11"):
        statement(connection, "shop", month)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(ms(2026, 9, 1), ms(2027, 2, 1)), st.integers(1, 10**8), st.booleans()),
        max_size=15,
    )
)
def test_statements_follow_each_other_without_a_gap(
    connection: Connection, moves: list[tuple[int, int, bool]]
) -> None:
    savepoint = connection.begin_nested()
    for number, (at, amount, charged) in enumerate(moves):
        if charged:
            hold(connection, "shop", f"c{number}", amount, at)
            settle(connection, "shop", f"c{number}", amount, amount, at)
        else:
            pay_in(connection, "shop", amount, "me", "", at)
    closed = 0
    for month in ("2026-08", "2026-09", "2026-10", "2026-11", "2026-12", "2027-01", "2027-02"):
        _, opening, *rows, closing = csv.reader(statement(connection, "shop", month))
        assert yuan.parse(opening[8]) == closed
        closed = yuan.parse(closing[8])
        assert yuan.parse(opening[8]) + sum(yuan.parse(row[7]) for row in rows) == closed
        assert all(row[0].startswith(month) for row in rows)
    assert closed == accounts.show(connection, "shop").balance
    savepoint.rollback()
