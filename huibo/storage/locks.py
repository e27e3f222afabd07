"""Locks that the platform sets by itself for a time: on an address, an app, a trunk. Units of work.

Knows when one ends; why they are set is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, or_, select, tuple_

from huibo.storage.dialects import put
from huibo.storage.prepared import Prepared
from huibo.storage.tables import locks


class LockKind(StrEnum):
    """What is locked."""

    ADDRESS = "address"
    APP = "app"
    TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class Lock:
    """`since` and `until` in UNIX ms; `reason` for people."""

    kind: LockKind
    subject: str
    reason: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Bars:
    """Whether the address and the app are locked, and which trunks are."""

    address: bool = False
    app: bool = False
    trunks: frozenset[str] = frozenset()


_find = select(locks).where(
    locks.c.kind == bindparam("of_kind"), locks.c.subject == bindparam("of"), locks.c.until > bindparam("now")
)
_barring = Prepared(
    select(locks.c.kind, locks.c.subject).where(
        locks.c.until > bindparam("now"),
        or_(
            locks.c.kind == LockKind.TRUNK.value,
            and_(locks.c.kind == LockKind.APP.value, locks.c.subject == bindparam("of_app")),
            and_(locks.c.kind == LockKind.ADDRESS.value, locks.c.subject == bindparam("of_address")),
        ),
    )
)


def find_lock(connection: Connection, kind: LockKind, subject: str, now: int) -> Lock | None:
    """The lock that is in force."""
    row = connection.execute(_find, {"of_kind": kind.value, "of": subject, "now": now}).first()
    return _lock(row) if row else None


def bars_to(connection: Connection, app_id: str, address: str, now: int) -> Bars:
    """What is locked that a call of this app, asked for from this address, needs."""
    found = _barring.all(connection, {"of_app": app_id, "of_address": address, "now": now})
    trunks = frozenset(subject for kind, subject in found if kind == LockKind.TRUNK.value)
    kinds = {kind for kind, _ in found}
    return Bars(LockKind.ADDRESS.value in kinds, LockKind.APP.value in kinds, trunks)


def put_lock(connection: Connection, lock: Lock) -> None:
    """Set a lock, in place of the one there was; what is long over is forgotten on the way."""
    row = {"kind": lock.kind.value, "subject": lock.subject, "reason": lock.reason}
    put(connection, locks, row | {"since": lock.since, "until": lock.until})
    connection.execute(delete(locks).where(locks.c.until <= lock.since))


def list_locks(
    connection: Connection,
    now: int,
    kind: LockKind | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int = -1,
) -> list[Lock]:
    """Those in force, by kind and subject, behind `after`; `limit` -1: all."""
    query = select(locks).where(locks.c.until > now).order_by(locks.c.kind, locks.c.subject)
    if kind is not None:
        query = query.where(locks.c.kind == kind.value)
    if after != ("", ""):
        query = query.where(tuple_(locks.c.kind, locks.c.subject) > tuple_(*after))
    return [_lock(row) for row in connection.execute(query.limit(limit) if limit >= 0 else query)]


def lift(connection: Connection, kind: LockKind, subject: str) -> bool:
    """End a lock before its time."""
    gone = delete(locks).where(locks.c.kind == kind.value, locks.c.subject == subject)
    return connection.execute(gone).rowcount > 0


def _lock(row: Row[Any]) -> Lock:
    return Lock(LockKind(row.kind), row.subject, row.reason, row.since, row.until)
