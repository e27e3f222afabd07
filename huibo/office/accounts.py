"""Accounts, as an operator sees and moves them. Amounts are in 1/1000 fen (1 yuan = 100 000)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.model import App
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.fields import Printable
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.storage import accounts, catalog
from huibo.storage.accounts import EntryKind
from huibo.yuan import shown

_KIND = "account"
_MOST = 10**13  # a hundred million yuan

Reason = Annotated[Printable, Field(max_length=500)]


class Account(BaseModel):
    """What an app has paid and not used, what of that its live calls may use, and what is left of both."""

    app_id: str
    balance: int
    held: int
    available: int


class Credit(BaseModel, extra="forbid"):
    """An amount paid in."""

    amount: Annotated[int, Field(gt=0, le=_MOST)]
    reason: Reason = ""


class Adjustment(BaseModel, extra="forbid"):
    """A change of the balance either way, and why a person decided so."""

    amount: Annotated[int, Field(ge=-_MOST, le=_MOST)]
    reason: Annotated[Reason, Field(min_length=1, pattern=r"\S")]


class Entry(BaseModel):
    """A line of the ledger. `amount` is positive, but of an adjustment; `balance` and `held`: after it."""

    id: int
    app_id: str
    at: int
    kind: EntryKind
    amount: int
    call_id: str | None
    balance: int
    held: int
    author: str
    reason: str


def show(connection: Connection, app_id: str) -> Account:
    """The account of an app, also of one that was removed. Raises `NotFound`."""
    account = accounts.find_account(connection, app_id)
    if account == accounts.Account(app_id) and not known(connection, app_id):
        raise NotFound("app", app_id)
    return _account(account)


def credit(connection: Connection, by: Author, app_id: str, paid: Credit) -> Account:
    """Pay an amount in. Raises `NotFound`."""
    _app(connection, app_id)
    account = accounts.pay_in(connection, app_id, paid.amount, by.name, paid.reason, by.at)
    by.note(connection, "credit", _KIND, app_id, after=paid)
    return _account(account)


def adjust(connection: Connection, by: Author, app_id: str, change: Adjustment) -> Account:
    """Change a balance by hand. A prepaid app keeps what its live calls may use.

    Raises `NotFound` and `Invalid`.
    """
    app = _app(connection, app_id)
    if change.amount == 0:
        raise Invalid("amount", "an adjustment is not 0")
    available = accounts.find_account(connection, app_id, lock=True).available
    if app.settings.prepaid and change.amount < 0 and available + change.amount < 0:
        raise Invalid("amount", f"more than the {shown(available)} yuan that can be taken away")
    account = accounts.adjust(connection, app_id, change.amount, by.name, change.reason, by.at)
    by.note(connection, "adjust", _KIND, app_id, after=change)
    return _account(account)


def ledger(
    connection: Connection, app_id: str, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Entry]:
    """Entries of an account, the newest first. Raises `NotFound`, and `Invalid` for a bad cursor."""
    key = key_of(after, int)
    found = accounts.list_entries(connection, app_id, int(key[0]) if key else None, limit + 1)
    if not found and not known(connection, app_id):
        raise NotFound("app", app_id)
    shown = [_entry(one) for one in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].id) if len(found) > limit else None)


def known(connection: Connection, app_id: str) -> bool:
    """Whether there is such an app, or an account of one that was removed."""
    return catalog.find_app(connection, app_id) is not None or bool(
        accounts.list_entries(connection, app_id, limit=1)
    )


def _app(connection: Connection, app_id: str) -> App:
    """The app, while nobody else decides upon its money. Raises `NotFound`."""
    app = catalog.find_app(connection, app_id, lock=True)
    if app is None:
        raise NotFound("app", app_id)
    return app


def _account(account: accounts.Account) -> Account:
    return Account(
        app_id=account.app_id, balance=account.balance, held=account.held, available=account.available
    )


def _entry(entry: accounts.Entry) -> Entry:
    return Entry(
        id=entry.id,
        app_id=entry.app_id,
        at=entry.at,
        kind=entry.kind,
        amount=entry.amount,
        call_id=entry.call_id,
        balance=entry.balance,
        held=entry.held,
        author=entry.author,
        reason=entry.reason,
    )
