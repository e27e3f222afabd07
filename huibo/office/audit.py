"""The audit log, as an operator reads it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection

from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.storage.audit import list_noted


class Change(BaseModel):
    """What somebody changed, from where ("cli" or an address) and when (UNIX ms); without secrets."""

    id: int
    at: int
    author: str
    origin: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def page(
    connection: Connection,
    kind: str | None = None,
    subject: str | None = None,
    author: str | None = None,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[Change]:
    """Changes, the newest first. Raises `Invalid` for a bad cursor."""
    key = key_of(after, int)
    found = list_noted(connection, kind, subject, author, int(key[0]) if key else None, limit + 1)
    shown = [Change(**one._asdict()) for one in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].id) if len(found) > limit else None)
