"""Money: an account per app and the ledger of what moved it. Units of work.

Balance and hold change here and nowhere else, each change with its ledger entry in the same transaction. An
account outlives its app. Amounts are in 1/1000 fen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, insert, select, update

from huibo.storage.dialects import insert as insert_
from huibo.storage.prepared import Prepared
from huibo.storage.tables import accounts, cdrs, ledger
from huibo.storage.tables import calls as call_rows


class EntryKind(StrEnum):
    """What an entry does: to the balance, or to what is held of it."""

    CREDIT = "credit"
    ADJUSTMENT = "adjustment"
    CHARGE = "charge"
    HOLD = "hold"
    RELEASE = "release"


_HOLDING = {EntryKind.HOLD: 1, EntryKind.RELEASE: -1}
_PLATFORM = "huibo"


@dataclass(frozen=True, slots=True)
class Account:
    """What an app has paid and not used (`balance`), and what of that calls under way may use (`held`)."""

    app_id: str
    balance: int = 0
    held: int = 0

    @property
    def available(self) -> int:
        return self.balance - self.held


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. `amount` is positive, but of an adjustment; `balance` and `held`: after it."""

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


@dataclass(frozen=True, slots=True)
class Item:
    """What moved a balance: by `amount`, more or less; of a charge with what is known of its call."""

    at: int
    kind: EntryKind
    call_id: str | None
    author: str
    reason: str
    amount: int
    caller: str | None
    callee: str | None
    caller_answered_at: int | None
    caller_ended_at: int | None
    callee_answered_at: int | None
    callee_ended_at: int | None


_moved = case(
    (ledger.c.kind == EntryKind.CHARGE.value, -ledger.c.amount),
    (ledger.c.kind.in_([kind.value for kind in _HOLDING]), 0),
    else_=ledger.c.amount,
)
_enter = Prepared(insert(ledger), [column.name for column in ledger.c if column.name != "id"])
_account = select(accounts).where(accounts.c.app_id == bindparam("of_app"))
_find = Prepared(_account)
_lock = Prepared(_account.with_for_update())
_set = Prepared(
    update(accounts)
    .where(accounts.c.app_id == bindparam("of_app"))
    .values(balance=bindparam("balance"), held=bindparam("held"))
)


def find_account(connection: Connection, app_id: str, lock: bool = False) -> Account:
    """The account of an app; an empty one where nothing has moved yet. `lock`: until the transaction ends."""
    row = (_lock if lock else _find).first(connection, {"of_app": app_id})
    return Account(*row) if row else Account(app_id)


def pay_in(connection: Connection, app_id: str, amount: int, author: str, reason: str, at: int) -> Account:
    """Credit an amount. Raises ValueError unless it is positive."""
    if amount <= 0:
        raise ValueError("a credit is more than 0")
    return _move(connection, app_id, [(EntryKind.CREDIT, amount)], None, author, reason, at)


def adjust(connection: Connection, app_id: str, amount: int, author: str, reason: str, at: int) -> Account:
    """Change the balance either way, as a person decided. Raises ValueError where there is nothing to do."""
    if amount == 0:
        raise ValueError("an adjustment is not 0")
    return _move(connection, app_id, [(EntryKind.ADJUSTMENT, amount)], None, author, reason, at)


def hold(
    connection: Connection, app_id: str, call_id: str, amount: int, at: int, found: Account | None = None
) -> Account:
    """Set an amount aside for a call that is being accepted.

    `found`: the account as it was locked in this transaction, with something on it.
    """
    return _move(connection, app_id, [(EntryKind.HOLD, amount)], call_id, _PLATFORM, "", at, found)


def settle(connection: Connection, app_id: str, call_id: str, held: int, charge: int, at: int) -> None:
    """Let go of what was held for a call, and charge what it came to; nothing is written for nothing."""
    moves = [(EntryKind.RELEASE, held), (EntryKind.CHARGE, charge)]
    if held or charge:
        _move(connection, app_id, [one for one in moves if one[1]], call_id, _PLATFORM, "", at)


def list_entries(
    connection: Connection, app_id: str, before: int | None = None, limit: int = 100
) -> list[Entry]:
    """Entries of an account, the newest first; `before`: the id of the last one seen."""
    query = select(ledger).where(ledger.c.app_id == app_id).order_by(ledger.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ledger.c.id < before)
    return [_entry(row) for row in connection.execute(query)]


def balance_at(connection: Connection, app_id: str, at: int) -> int:
    """The balance before a moment (UNIX ms), summed up from the ledger."""
    query = select(func.coalesce(func.sum(_moved), 0)).where(ledger.c.app_id == app_id, ledger.c.at < at)
    return int(connection.scalars(query).one())  # PostgreSQL sums into decimals


def items_between(connection: Connection, app_id: str, start: int, end: int) -> Iterator[Item]:
    """What moved the balance in a period (UNIX ms, `end` not included), the oldest first."""
    query = (
        select(
            *(ledger.c[name] for name in ("at", "kind", "call_id", "author", "reason")),
            _moved.label("amount"),
            *(call_rows.c[name] for name in ("caller", "callee")),
            *(cdrs.c[f"{leg}_{event}_at"] for leg in ("caller", "callee") for event in ("answered", "ended")),
        )
        .select_from(ledger)
        .outerjoin(call_rows, call_rows.c.call_id == ledger.c.call_id)
        .outerjoin(cdrs, cdrs.c.call_id == ledger.c.call_id)
        .where(ledger.c.app_id == app_id, ledger.c.at >= start, ledger.c.at < end)
        .where(ledger.c.kind.not_in([kind.value for kind in _HOLDING]))
        .order_by(ledger.c.at, ledger.c.id)
        .execution_options(yield_per=1000)
    )
    for row in connection.execute(query).mappings():
        yield Item(**dict(row) | {"kind": EntryKind(row["kind"])})


def _move(
    connection: Connection,
    app_id: str,
    moves: Sequence[tuple[EntryKind, int]],
    call_id: str | None,
    author: str,
    reason: str,
    at: int,
    found: Account | None = None,
) -> Account:
    """One after the other, each with its entry."""
    account = found or _locked(connection, app_id)
    balance, held = account.balance, account.held
    entries = []
    for kind, amount in moves:
        held += _HOLDING.get(kind, 0) * amount
        if kind not in _HOLDING:
            balance += -amount if kind is EntryKind.CHARGE else amount
        entry = {"app_id": app_id, "at": at, "kind": kind.value, "amount": amount, "call_id": call_id}
        entries.append(entry | {"balance": balance, "held": held, "author": author, "reason": reason})
    _enter.run_many(connection, entries)
    _set.run(connection, {"of_app": app_id, "balance": balance, "held": held})
    return Account(app_id, balance, held)


def _locked(connection: Connection, app_id: str) -> Account:
    """The account until the transaction ends, opened where nothing has moved yet."""
    if (row := _lock.first(connection, {"of_app": app_id})) is None:
        opened = insert_(connection, accounts).values(app_id=app_id, balance=0, held=0)
        connection.execute(opened.on_conflict_do_nothing())  # another may open it at the same moment
        row = _lock.first(connection, {"of_app": app_id})
        assert row is not None
    return Account(*row)


def _entry(row: Row[Any]) -> Entry:
    values = dict(row._mapping)
    return Entry(**values | {"kind": EntryKind(values["kind"])})
