"""Locks, as an operator sees them, lifts them, and sets one by hand."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.fields import Line, Printable
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.storage import catalog, locks
from huibo.storage.locks import LockKind

_KIND = "lock"


class Lock(BaseModel):
    """Something that is locked for a time. `since` and `until` in UNIX ms."""

    kind: LockKind
    subject: str
    reason: str
    since: int
    until: int


class NewLock(BaseModel, extra="forbid"):
    """A lock set by hand, on an address, an app or a trunk."""

    kind: LockKind
    subject: Annotated[Printable, Field(min_length=1, max_length=64)]
    minutes: Annotated[int, Field(ge=1, le=366 * 24 * 60)]
    reason: Line = ""


def page(
    connection: Connection,
    now: int,
    kind: LockKind | None = None,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[Lock]:
    """The locks in force, by kind and subject. Raises `Invalid` for a bad cursor."""
    key = key_of(after, str, str) or ("", "")
    found = locks.list_locks(connection, now, kind, (str(key[0]), str(key[1])), limit + 1)
    shown = [_lock(one) for one in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].kind, shown[-1].subject) if len(found) > limit else None)


def put(connection: Connection, by: Author, new: NewLock) -> Lock:
    """Lock something for some minutes from now, whatever lock there was. Raises `Invalid`."""
    subject = _checked(connection, new)
    before = locks.find_lock(connection, new.kind, subject, by.at)
    reason = new.reason or f"by {by.name}"
    lock = locks.Lock(new.kind, subject, reason, by.at, by.at + new.minutes * 60_000)
    locks.put_lock(connection, lock)
    shown = None if before is None else _lock(before)
    by.note(connection, "change" if before else "add", _KIND, f"{new.kind}/{subject}", shown, _lock(lock))
    return _lock(lock)


def lift(connection: Connection, by: Author, kind: LockKind, subject: str) -> None:
    """End a lock before its time. Raises `NotFound` where none is in force."""
    before = locks.find_lock(connection, kind, subject, by.at)
    if before is None:
        raise NotFound(_KIND, f"{kind}/{subject}")
    locks.lift(connection, kind, subject)
    by.note(connection, "lift", _KIND, f"{kind}/{subject}", _lock(before))


def _checked(connection: Connection, new: NewLock) -> str:
    """What is to be locked, as it is compared with; it must be there."""
    if new.kind is LockKind.ADDRESS:
        try:
            return str(ip_address(new.subject))
        except ValueError:
            raise Invalid("subject", f"{new.subject} is not an address") from None
    find = catalog.find_app if new.kind is LockKind.APP else catalog.find_trunk
    if find(connection, new.subject) is None:
        raise Invalid("subject", f"no {new.kind} {new.subject}")
    return new.subject


def _lock(lock: locks.Lock) -> Lock:
    return Lock(kind=lock.kind, subject=lock.subject, reason=lock.reason, since=lock.since, until=lock.until)
