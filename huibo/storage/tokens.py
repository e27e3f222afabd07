"""Tokens of the operators' API: units of work. Of a token only its digest is here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from huibo.storage.tables import api_tokens


class Role(StrEnum):
    """What the bearer of a token may do: each role all that those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Token:
    """A token. `digest`: the SHA-256 of the whole of it, in hex. Times are UNIX ms."""

    id: str
    name: str
    role: Role
    digest: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def valid(self, now: int) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


_find = select(api_tokens).where(api_tokens.c.id == bindparam("of"))


def add_token(connection: Connection, token: Token) -> None:
    connection.execute(insert(api_tokens), asdict(token))


def find_token(connection: Connection, token_id: str) -> Token | None:
    """A token, also one that is valid no longer."""
    row = connection.execute(_find, {"of": token_id}).first()
    return _token(row) if row else None


def list_tokens(
    connection: Connection, before: tuple[int, str] | None = None, limit: int = -1
) -> list[Token]:
    """Tokens, the newest first; `before`: when the last one seen was made, and its id."""
    query = select(api_tokens).order_by(api_tokens.c.created_at.desc(), api_tokens.c.id.desc())
    if before is not None:
        at, token_id = before
        same = (api_tokens.c.created_at == at) & (api_tokens.c.id < token_id)
        query = query.where((api_tokens.c.created_at < at) | same)
    return [_token(row) for row in connection.execute(query.limit(limit) if limit >= 0 else query)]


def revoke(connection: Connection, token_id: str, at: int) -> bool:
    """Make a token invalid from now on; it stays on record."""
    query = update(api_tokens).where(api_tokens.c.id == token_id, api_tokens.c.revoked_at.is_(None))
    return connection.execute(query.values(revoked_at=at)).rowcount > 0


def _token(row: Row[Any]) -> Token:
    return Token(**dict(row._mapping) | {"role": Role(row.role)})
