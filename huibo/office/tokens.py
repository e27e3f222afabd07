"""Tokens of the operators' API: made, shown once, recognised, revoked.

A token is `hb_`, its id, `_` and a secret. The secret is in no table, log or answer but that to its maker.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.fields import Printable, Time
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.storage import tokens
from huibo.storage.tokens import Role

_KIND = "token"
_LONGEST = 200  # characters that are looked at


class NewToken(BaseModel, extra="forbid"):
    """A token that is to be made."""

    name: Annotated[Printable, Field(min_length=1, max_length=80)] = Field(
        description="whose it is, or for what"
    )
    role: Role
    expires_at: Time | None = Field(None, description="UNIX ms; null: never")


class Token(BaseModel):
    """A token, without what makes it one. Times in UNIX ms."""

    id: str
    name: str
    role: Role
    created_at: int
    expires_at: int | None
    revoked_at: int | None


class MadeToken(Token):
    """A token as it is shown once."""

    token: str = Field(repr=False)


def page(connection: Connection, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Token]:
    """Tokens, the newest first, also those that are valid no longer. Raises `Invalid` for a bad cursor."""
    key = key_of(after, int, str)
    found = tokens.list_tokens(connection, (int(key[0]), str(key[1])) if key else None, limit + 1)
    shown = [_shown(token) for token in found[:limit]]
    following = cursor(shown[-1].created_at, shown[-1].id) if len(found) > limit else None
    return Page(items=shown, next=following)


def make(connection: Connection, by: Author, new: NewToken) -> MadeToken:
    """Make a token; this is the only time that it is told. Raises `Invalid`."""
    if new.expires_at is not None and new.expires_at <= by.at:
        raise Invalid("expires_at", "is over already")
    token_id = secrets.token_hex(6)
    whole = f"hb_{token_id}_{secrets.token_urlsafe(32)}"
    stored = tokens.Token(token_id, new.name, new.role, _digest(whole), by.at, new.expires_at)
    tokens.add_token(connection, stored)
    shown = _shown(stored)
    by.note(connection, "add", _KIND, token_id, after=shown)
    return MadeToken(**shown.model_dump(), token=whole)


def revoke(connection: Connection, by: Author, token_id: str) -> None:
    """Make a token invalid at once. Raises `NotFound` for one that is not there or was revoked before."""
    before = tokens.find_token(connection, token_id)
    if before is None or not tokens.revoke(connection, token_id, by.at):
        raise NotFound(_KIND, token_id)
    by.note(connection, "revoke", _KIND, token_id, _shown(before))


def recognise(connection: Connection, whole: str, now: int) -> Token | None:
    """The token that this is, if it is valid now."""
    parts = whole.split("_", 2)
    if len(whole) > _LONGEST or len(parts) != 3 or parts[0] != "hb":
        return None
    found = tokens.find_token(connection, parts[1])
    # compared in any case: how long it takes tells nobody which ids there are
    same = hmac.compare_digest(_digest(whole), found.digest if found else _digest(""))
    return _shown(found) if found and same and found.valid(now) else None


def _digest(whole: str) -> str:
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _shown(token: tokens.Token) -> Token:
    return Token(
        id=token.id,
        name=token.name,
        role=token.role,
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )
