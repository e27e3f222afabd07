"""The blacklist, as an operator sees and changes it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.fields import Line, Printable, Time
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.office.patterns import Pattern, some
from huibo.storage import blacklist, catalog
from huibo.storage.blacklist import Direction

_KIND = "blacklist"


class Kind(StrEnum):
    """Whether one number is meant, or all that begin so."""

    EXACT = "exact"
    PREFIX = "prefix"


class Listed(BaseModel, extra="forbid"):
    """A number, or the beginning of numbers, that is not called or does not call.

    `app` "": for all apps. `expires_at` in UNIX ms; null: never.
    """

    number: Pattern
    kind: Kind = Kind.EXACT
    app: Annotated[Printable, Field(max_length=64)] = ""
    direction: Direction = Direction.BOTH
    expires_at: Time | None = None
    reason: Line = ""

    @property
    def subject(self) -> str:
        """The entry in one word, for the audit log."""
        star = "*" if self.kind is Kind.PREFIX else ""
        return f"{self.app or '*'}/{self.direction}/{self.number}{star}"

    @property
    def row(self) -> blacklist.Listed:
        """The entry as it is stored."""
        exact = self.kind is Kind.EXACT
        return blacklist.Listed(self.number, exact, self.app, self.direction, self.expires_at, self.reason)


def page(
    connection: Connection,
    app: str | None = None,
    direction: Direction | None = None,
    number: str | None = None,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[Listed]:
    """Entries by number. `app` "": those for all apps. `number`: what concerns numbers that begin so.

    Raises `Invalid` for a bad cursor and a bad number.
    """
    about = None if number is None else _about(number)
    key = key_of(after, str, bool, str, str)
    behind = None if key is None else (str(key[0]), bool(key[1]), str(key[2]), str(key[3]))
    found = blacklist.list_listed(connection, app, direction, about, behind, limit + 1)
    shown = [_listed(one) for one in found[:limit]]
    following = cursor(*blacklist.key_of(found[limit - 1])) if len(found) > limit else None
    return Page(items=shown, next=following)


def put(connection: Connection, by: Author, listed: Listed) -> Listed:
    """Add an entry, or replace the one of the same number, kind, app and direction. Raises `Invalid`."""
    if listed.app and catalog.find_app(connection, listed.app) is None:
        raise Invalid("app", f"no app {listed.app}")
    before = blacklist.find_listed(connection, listed.row)
    blacklist.put_listed(connection, [listed.row], by.at)
    shown = None if before is None else _listed(before)
    by.note(connection, "change" if before else "add", _KIND, listed.subject, shown, listed)
    return listed


def remove(connection: Connection, by: Author, key: Listed) -> None:
    """Remove the entry of the same number, kind, app and direction. Raises `NotFound`."""
    before = blacklist.find_listed(connection, key.row)
    if before is None:
        raise NotFound(_KIND, key.subject)
    blacklist.remove_listed(connection, key.row)
    by.note(connection, "remove", _KIND, key.subject, _listed(before))


def _about(number: str) -> str:
    try:
        return some(number)
    except ValueError as error:
        raise Invalid("number", str(error)) from None


def _listed(row: blacklist.Listed) -> Listed:
    return Listed(
        number=row.pattern,
        kind=Kind.EXACT if row.exact else Kind.PREFIX,
        app=row.app_id,
        direction=row.direction,
        expires_at=row.expires_at,
        reason=row.reason,
    )
