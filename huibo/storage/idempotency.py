"""Which requests have been accepted under which idempotency key: units of work.

A key is remembered for a day, in the transaction that accepts its call.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from huibo.model import IdempotencyKey
from huibo.storage.tables import idempotency

KEPT_MS = 24 * 3600 * 1000


def remembered(connection: Connection, app_id: str, key: str, now: int) -> tuple[str, str] | None:
    """The body's digest and the call id of the request that came with this key; None: it is new."""
    query = select(idempotency.c.digest, idempotency.c.call_id).where(
        idempotency.c.app_id == app_id, idempotency.c.key == key, idempotency.c.created_at > now - KEPT_MS
    )
    row = connection.execute(query).first()
    return (row.digest, row.call_id) if row else None


def forget(connection: Connection, app_id: str, key: IdempotencyKey, call_id: str) -> None:
    """The request that came with this key was refused after all: it may be made again."""
    gone = delete(idempotency).where(idempotency.c.app_id == app_id, idempotency.c.key == key.key)
    connection.execute(gone.where(idempotency.c.call_id == call_id))


def remember(connection: Connection, app_id: str, key: IdempotencyKey, call_id: str, now: int) -> None:
    """Remember a request; what is older than a day is forgotten on the way."""
    connection.execute(delete(idempotency).where(idempotency.c.created_at <= now - KEPT_MS))
    row = {"app_id": app_id, "key": key.key, "digest": key.digest, "call_id": call_id, "created_at": now}
    connection.execute(insert(idempotency).values(row))
