"""Rates, as an operator sees and changes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.office.author import Author
from huibo.office.errors import NotFound
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.office.patterns import Prefix
from huibo.rating import Rate as Price
from huibo.storage import rates

_KIND = "rate"
_MOST = 10**12


Plan = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


class Rate(BaseModel, extra="forbid"):
    """What an answered leg to numbers that begin with `prefix` ("": all) costs. Money in 1/1000 fen."""

    plan: Plan = "default"
    prefix: Prefix = ""
    per_minute: Annotated[int, Field(ge=0, le=_MOST)]
    first_s: Annotated[int, Field(ge=1, le=3600)] = 60
    next_s: Annotated[int, Field(ge=1, le=3600)] = 60
    setup: Annotated[int, Field(ge=0, le=_MOST)] = 0
    note: Annotated[str, Field(max_length=200)] = ""


def page(
    connection: Connection, plan: str | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Rate]:
    """Rates by plan and prefix. Raises `Invalid` for a bad cursor."""
    key = key_of(after, str, str) or ("", "")
    found = rates.list_rates(connection, plan, (str(key[0]), str(key[1])), limit + 1)
    shown = [_rate(*one) for one in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].plan, shown[-1].prefix) if len(found) > limit else None)


def put(connection: Connection, by: Author, rate: Rate) -> Rate:
    """Add a rate to its plan, or replace the one of its prefix. Calls under way keep theirs."""
    before = _find(connection, rate.plan, rate.prefix)
    price = Price(rate.prefix, rate.per_minute, rate.first_s, rate.next_s, rate.setup)
    rates.put_rate(connection, rate.plan, price, rate.note, by.at)
    action = "change" if before else "add"
    by.note(connection, action, _KIND, f"{rate.plan}/{rate.prefix}", before, rate)
    return rate


def remove(connection: Connection, by: Author, plan: str, prefix: str) -> None:
    """Raises `NotFound`."""
    before = _find(connection, plan, prefix)
    if before is None:
        raise NotFound(_KIND, f"{plan}/{prefix}")
    rates.remove_rate(connection, plan, prefix)
    by.note(connection, "remove", _KIND, f"{plan}/{prefix}", before)


def _find(connection: Connection, plan: str, prefix: str) -> Rate | None:
    return next((_rate(*one) for one in rates.list_rates(connection, plan) if one[1].prefix == prefix), None)


def _rate(plan: str, price: Price, note: str) -> Rate:
    return Rate(
        plan=plan,
        prefix=price.prefix,
        per_minute=price.per_minute,
        first_s=price.first_s,
        next_s=price.next_s,
        setup=price.setup,
        note=note,
    )
