"""The office's locks: set by hand for a time, lifted by hand, each noted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection

from huibo.model import App, Trunk
from huibo.office import audit, locks
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.locks import NewLock
from huibo.storage import catalog
from huibo.storage.database import open_engine
from huibo.storage.locks import LockKind
from huibo.storage.migrate import migrate

ME = Author("cli:me", "cli", 1000)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = open_engine(f"sqlite:///{tmp_path}/office.sqlite3")
    migrate(engine)
    with engine.begin() as connection:
        catalog.add_app(connection, App("shop", "shop"), 1)
        catalog.add_trunk(connection, Trunk("carrier", "192.0.2.1"), 1)
        yield connection
    engine.dispose()


@pytest.mark.parametrize(
    ("kind", "subject", "stored"),
    [
        (LockKind.APP, "shop", "shop"),
        (LockKind.TRUNK, "carrier", "carrier"),
        (LockKind.ADDRESS, "203.0.113.7", "203.0.113.7"),
        (LockKind.ADDRESS, "2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_a_lock_is_set_and_lifted(connection: Connection, kind: LockKind, subject: str, stored: str) -> None:
    lock = locks.put(connection, ME, NewLock(kind=kind, subject=subject, minutes=5))
    assert (lock.subject, lock.reason, lock.until) == (stored, "by cli:me", 1000 + 300_000)
    assert locks.page(connection, 1001).items == [lock]
    assert locks.page(connection, lock.until).items == []
    longer = locks.put(connection, ME, NewLock(kind=kind, subject=subject, minutes=9, reason="again"))
    assert locks.page(connection, 1001, kind).items == [longer]
    locks.lift(connection, ME, kind, stored)
    assert locks.page(connection, 1001).items == []
    with pytest.raises(NotFound, match="no lock"):
        locks.lift(connection, ME, kind, stored)
    noted = [(n.action, n.subject) for n in audit.page(connection).items]
    assert noted == [(action, f"{kind}/{stored}") for action in ("lift", "change", "add")]


@pytest.mark.parametrize(
    ("kind", "subject", "problem"),
    [
        (LockKind.APP, "nobody", "no app nobody"),
        (LockKind.TRUNK, "shop", "no trunk shop"),
        (LockKind.ADDRESS, "10.0.0.0/8", "not an address"),
    ],
)
def test_what_is_not_there_is_not_locked(
    connection: Connection, kind: LockKind, subject: str, problem: str
) -> None:
    with pytest.raises(Invalid, match=problem):
        locks.put(connection, ME, NewLock(kind=kind, subject=subject, minutes=5))
    assert audit.page(connection).items == []


@pytest.mark.parametrize("minutes", [0, -1, 366 * 24 * 60 + 1])
def test_a_lock_is_for_some_minutes(minutes: int) -> None:
    with pytest.raises(ValidationError):
        NewLock(kind=LockKind.APP, subject="shop", minutes=minutes)
