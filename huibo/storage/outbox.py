"""The pushes owed: units of work.

A push is written in the transaction of the step that owes it and stays until delivered or dead. Status
pushes of one call leave in order and before its CDR: a push is due only when no earlier one is pending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import Connection, and_, func, insert, select, update

from huibo.model import Push
from huibo.storage.tables import pushes

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"


@dataclass(frozen=True, slots=True)
class OwedPush:
    """A push as the deliverer sees it. `attempts` counts those already made."""

    id: int
    call_id: str
    app_id: str
    kind: str
    seq: int
    url: str
    receiver: str
    body: bytes
    attempts: int


def receiver_of(url: str) -> str:
    """The receiver that a URL belongs to: scheme, host and port. One receiver never delays another."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def add_pushes(connection: Connection, owed: Sequence[Push], at: int) -> None:
    """Write pushes; they are due at once (UNIX ms `at`)."""
    if owed:
        connection.execute(insert(pushes), [_row(push, at) for push in owed])


def due_receivers(connection: Connection, now: int) -> list[str]:
    """Receivers with at least one push whose time has come."""
    query = select(pushes.c.receiver).where(pushes.c.state == PENDING, pushes.c.next_at <= now)
    return list(connection.scalars(query.distinct()))


def due_pushes(connection: Connection, receiver: str, now: int, limit: int) -> list[OwedPush]:
    """The oldest pushes for a receiver that may leave now, at most one of each call."""
    earlier = pushes.alias("earlier")
    blocked = (
        select(earlier.c.id)
        .where(
            and_(
                earlier.c.call_id == pushes.c.call_id,
                earlier.c.state == PENDING,
                earlier.c.seq < pushes.c.seq,
            )
        )
        .exists()
    )
    query = (
        select(pushes)
        .where(pushes.c.state == PENDING, pushes.c.receiver == receiver, pushes.c.next_at <= now, ~blocked)
        .order_by(pushes.c.next_at, pushes.c.id)
        .limit(limit)
    )
    fields = OwedPush.__dataclass_fields__
    return [OwedPush(**{name: row[name] for name in fields}) for row in connection.execute(query).mappings()]


def next_due_at(connection: Connection, after: int) -> int | None:
    """When the next push that is not due yet becomes due, UNIX ms."""
    query = select(func.min(pushes.c.next_at)).where(pushes.c.state == PENDING, pushes.c.next_at > after)
    return connection.scalar(query)


def mark_delivered(connection: Connection, push_id: int, at: int) -> None:
    _finish(connection, push_id, DELIVERED, at, None)


def mark_dead(connection: Connection, push_id: int, at: int, error: str) -> None:
    """Give up: the push stays, to be seen and replayed."""
    _finish(connection, push_id, DEAD, at, error)


def mark_failed(connection: Connection, push_id: int, next_at: int, error: str) -> None:
    """One attempt failed; try again at `next_at`."""
    connection.execute(
        update(pushes)
        .where(pushes.c.id == push_id)
        .values(attempts=pushes.c.attempts + 1, next_at=next_at, last_error=error)
    )


def _finish(connection: Connection, push_id: int, state: str, at: int, error: str | None) -> None:
    connection.execute(
        update(pushes)
        .where(pushes.c.id == push_id)
        .values(attempts=pushes.c.attempts + 1, state=state, finished_at=at, last_error=error)
    )


def _row(push: Push, at: int) -> dict[str, object]:
    return {
        "call_id": push.call_id,
        "app_id": push.app_id,
        "kind": push.kind,
        "seq": push.seq,
        "url": push.url,
        "receiver": receiver_of(push.url),
        "body": push.body,
        "state": PENDING,
        "attempts": 0,
        "created_at": at,
        "next_at": at,
    }
