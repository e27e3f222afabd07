"""Rates: what a leg costs by the number it goes to, in plans. Units of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Connection, bindparam, delete, select

from huibo.numbers import beginnings
from huibo.rating import Rate
from huibo.storage.dialects import put
from huibo.storage.tables import rates

_COLUMNS = (rates.c.prefix, rates.c.per_minute, rates.c.first_s, rates.c.next_s, rates.c.setup)
_find = select(*_COLUMNS).where(
    rates.c.plan == bindparam("plan"), rates.c.prefix.in_(bindparam("prefixes", expanding=True))
)


def find_rates(connection: Connection, plan: str, *e164: str) -> list[Rate | None]:
    """For each number the rate of the longest prefix that it begins with; None: the plan has none for it."""
    prefixes = sorted({beginning for one in e164 for beginning in beginnings(one)})
    found = {
        row.prefix: Rate(*row) for row in connection.execute(_find, {"plan": plan, "prefixes": prefixes})
    }
    return [longest_prefix(found, one) for one in e164]


def longest_prefix(rates: Mapping[str, Rate], e164: str) -> Rate | None:
    """Of a plan's rates by prefix the one that counts for a number."""
    return next((rates[one] for one in beginnings(e164) if one in rates), None)


def put_rate(connection: Connection, plan: str, rate: Rate, note: str, at: int) -> None:
    """Add a rate to a plan, or replace the one of that prefix."""
    put(connection, rates, asdict(rate) | {"plan": plan, "note": note, "created_at": at})


def list_rates(
    connection: Connection, plan: str | None = None, after: tuple[str, str] = ("", ""), limit: int = -1
) -> list[tuple[str, Rate, str]]:
    """(plan, rate, note) of one plan or all, by plan and prefix, behind `after`; `limit` -1: all."""
    query = select(rates.c.plan, *_COLUMNS, rates.c.note).order_by(rates.c.plan, rates.c.prefix)
    if plan is not None:
        query = query.where(rates.c.plan == plan)
    if after != ("", ""):
        behind = (rates.c.plan > after[0]) | ((rates.c.plan == after[0]) & (rates.c.prefix > after[1]))
        query = query.where(behind)
    if limit >= 0:
        query = query.limit(limit)
    return [(row.plan, Rate(*row[1:6]), row.note) for row in connection.execute(query)]


def remove_rate(connection: Connection, plan: str, prefix: str) -> bool:
    gone = delete(rates).where(rates.c.plan == plan, rates.c.prefix == prefix)
    return connection.execute(gone).rowcount > 0
