"""The outbox as an operator looks at it: units of work to search it, and to have pushes sent once more.

What may leave, and in which order, stays the outbox's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, case, or_, select, update

from huibo.storage.notices import tell
from huibo.storage.outbox import PENDING, REPLAY_LANE, STATUS, in_replay_lane
from huibo.storage.tables import pushes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pushes are meant; None: whatever it is. Owed from `since` until before `until`, UNIX ms."""

    app_id: str | None = None
    call_id: str | None = None
    kind: str | None = None
    state: str | None = None
    since: int | None = None
    until: int | None = None


class StoredPush(NamedTuple):
    """A push as it rests in the outbox, without its body."""

    id: int
    call_id: str
    app_id: str
    kind: str
    seq: int
    url: str
    state: str
    attempts: int
    created_at: int
    next_at: int
    finished_at: int | None
    last_error: str | None
    replayed_at: int | None


_COLUMNS = [pushes.c[name] for name in StoredPush._fields]


def list_pushes(connection: Connection, wanted: Wanted, before: int | None, limit: int) -> list[StoredPush]:
    """Pushes, the newest first, beginning behind the one with the id `before`."""
    query = select(*_COLUMNS).where(*_conditions(wanted)).order_by(pushes.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(pushes.c.id < before)
    return [StoredPush._make(row) for row in connection.execute(query)]


def find_push(connection: Connection, push_id: int) -> tuple[StoredPush, bytes] | None:
    """A push and its body."""
    row = connection.execute(select(*_COLUMNS, pushes.c.body).where(pushes.c.id == push_id)).first()
    return (StoredPush._make(row[:-1]), row[-1]) if row else None


def ids_of(connection: Connection, wanted: Wanted, after: int, limit: int) -> list[int]:
    """Ids of pushes, the oldest first, behind `after`."""
    query = select(pushes.c.id).where(*_conditions(wanted), pushes.c.id > after)
    return list(connection.scalars(query.order_by(pushes.c.id).limit(limit)))


PUSHES_OWED = "pushes"  # a notice: by somebody who does not deliver them himself


def replay(connection: Connection, ids: Sequence[int], at: int) -> None:
    """Have pushes attempted as if for the first time, at once (UNIX ms `at`).

    They get out of the way of what is new; but not a status push that still has its place in the order.
    """
    tell(connection, PUSHES_OWED)
    aside = or_(pushes.c.state != PENDING, pushes.c.kind != STATUS)
    change = update(pushes).where(pushes.c.id.in_(ids))
    connection.execute(
        change.values(
            state=PENDING,
            attempts=0,
            next_at=at,
            finished_at=None,
            replayed_at=at,
            receiver=case(
                (aside & ~in_replay_lane(pushes), pushes.c.receiver + REPLAY_LANE), else_=pushes.c.receiver
            ),
        )
    )


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    equal = {
        "app_id": wanted.app_id,
        "call_id": wanted.call_id,
        "kind": wanted.kind,
        "state": wanted.state,
    }
    found = [pushes.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.since is not None:
        found.append(pushes.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(pushes.c.created_at < wanted.until)
    return found
