"""The audit log, to be read: units of work. Never changed once it is written.

It is written by `huibo.office.author`; what the platform does by itself, by `push_targets`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from huibo.storage.tables import audit


class Noted(NamedTuple):
    """A change that somebody made. `at`: UNIX ms; `before`, `after`: what it was and is, without secrets."""

    id: int
    at: int
    author: str
    origin: str
    action: str
    kind: str
    subject: str
    before: Any
    after: Any


def list_noted(
    connection: Connection,
    kind: str | None = None,
    subject: str | None = None,
    author: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Noted]:
    """Changes, the newest first; `before`: the id of the last one seen."""
    query = select(*(audit.c[name] for name in Noted._fields)).order_by(audit.c.id.desc()).limit(limit)
    for column, wanted in ((audit.c.kind, kind), (audit.c.subject, subject), (audit.c.author, author)):
        if wanted is not None:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [Noted._make(row) for row in connection.execute(query)]
