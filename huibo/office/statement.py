"""The statement of an app's account: one month as CSV, a line for all that moved the balance."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from io import StringIO
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from huibo.model import AppSettings
from huibo.numbers import national
from huibo.office.accounts import known
from huibo.office.errors import Invalid, NotFound
from huibo.storage import accounts, catalog
from huibo.storage.accounts import Item
from huibo.yuan import shown

HEADS = (
    *("time", "kind", "call", "caller", "callee", "caller_s", "callee_s"),
    *("amount", "balance", "author", "reason"),
)
_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


def statement(connection: Connection, app_id: str, month: str) -> Iterator[str]:
    """Lines of CSV: the balance before, what moved it, the balance after. Amounts are in yuan.

    `month` like 2026-11, in the app's time zone. Raises `NotFound` and `Invalid`.
    """
    if (found := _MONTH.fullmatch(month)) is None:
        raise Invalid("month", "a month is written like 2026-11")
    if not known(connection, app_id):
        raise NotFound("app", app_id)
    app = catalog.find_app(connection, app_id)
    zone = ZoneInfo((app.settings if app else AppSettings()).timezone)
    year, number = int(found[1]), int(found[2])
    start = datetime(year, number, 1, tzinfo=zone)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=zone)
    return _lines(connection, app_id, start, end, zone)


def _lines(
    connection: Connection, app_id: str, start: datetime, end: datetime, zone: ZoneInfo
) -> Iterator[str]:
    begin, over = int(start.timestamp() * 1000), int(end.timestamp() * 1000)
    balance = accounts.balance_at(connection, app_id, begin)
    yield _line(HEADS)
    yield _line((start.isoformat(), "opening", *("",) * 6, shown(balance), "", ""))
    for item in accounts.items_between(connection, app_id, begin, over):
        balance += item.amount
        yield _line(_cells(item, balance, zone))
    yield _line((end.isoformat(), "closing", *("",) * 6, shown(balance), "", ""))


def _cells(item: Item, balance: int, zone: ZoneInfo) -> tuple[str, ...]:
    at = datetime.fromtimestamp(item.at / 1000, zone).isoformat(timespec="seconds")
    ends = [end for end in (item.caller_ended_at, item.callee_ended_at) if end is not None]
    end = min(ends, default=None)  # the conversation is over when the first leg is
    return (
        *(at, item.kind.value, item.call_id or ""),
        *(national(number) if number else "" for number in (item.caller, item.callee)),
        *(_seconds(begin, end) for begin in (item.caller_answered_at, item.callee_answered_at)),
        *(shown(item.amount), shown(balance), _text(item.author), _text(item.reason)),
    )


def _seconds(answered_at: int | None, ended_at: int | None) -> str:
    """Whole seconds, rounded up as they are billed."""
    if answered_at is None or ended_at is None:
        return ""
    return str(-(-max(0, ended_at - answered_at) // 1000))


def _text(written: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula, and carries it out."""
    return f"'{written}" if written.startswith(("=", "+", "-", "@", "\t", "\r")) else written


def _line(cells: Iterable[str]) -> str:
    text = StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
