"""Secrets that the installation makes for itself: units of work.

Each is made once, kept, and shared by all processes on the database. They appear in no log and no answer.
"""

from __future__ import annotations

from secrets import token_bytes

from sqlalchemy import Connection, select

from huibo.storage.dialects import insert
from huibo.storage.tables import secrets

_BYTES = 32


def secret(connection: Connection, name: str) -> bytes:
    """The secret of that name, 32 random bytes; made if there is none. Needs a transaction that may write."""
    known = find_secret(connection, name)
    if known is None:
        made = insert(connection, secrets).values(name=name, value=token_bytes(_BYTES))
        connection.execute(made.on_conflict_do_nothing())  # another process may make it at the same moment
        known = find_secret(connection, name)
        assert known is not None
    return known


def find_secret(connection: Connection, name: str) -> bytes | None:
    """The secret of that name, None before it has been made."""
    return connection.scalar(select(secrets.c.value).where(secrets.c.name == name))
