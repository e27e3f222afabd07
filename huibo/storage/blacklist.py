"""The blacklist: numbers and beginnings of numbers that are not called, or do not call. Units of work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, bindparam, delete, or_, select

from huibo.model import Leg
from huibo.numbers import beginnings
from huibo.storage.tables import blacklist


class Direction(StrEnum):
    """As which party a number is unwanted."""

    CALLER = "caller"
    CALLEE = "callee"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry. `pattern` as of `numbers.pattern`; `exact`: that number alone, else all that begin so.

    `app_id` "": for all apps. `expires_at`: UNIX ms, None: never.
    """

    pattern: str
    exact: bool = True
    app_id: str = ""
    direction: Direction = Direction.BOTH
    expires_at: int | None = None
    reason: str = ""


_DIRECTION = {Leg.CALLER: Direction.CALLER, Leg.CALLEE: Direction.CALLEE}
_find = (
    select(blacklist.c.reason)
    .where(
        blacklist.c.pattern.in_(bindparam("patterns", expanding=True)),
        or_(~blacklist.c.exact, blacklist.c.pattern == bindparam("whole")),
        blacklist.c.app_id.in_(("", bindparam("of_app"))),
        blacklist.c.direction.in_((Direction.BOTH.value, bindparam("as_party"))),
        or_(blacklist.c.expires_at.is_(None), blacklist.c.expires_at > bindparam("now")),
    )
    .limit(1)
)
_COLUMNS = ("pattern", "exact", "app_id", "direction", "expires_at", "reason", "created_at")


def is_listed(connection: Connection, app_id: str, e164: str, leg: Leg, now: int) -> bool:
    """Whether a number may not be this party of a call of this app."""
    whole, *shorter = beginnings(e164)
    given = {"patterns": [whole, *shorter[:-1]], "whole": whole, "of_app": app_id, "now": now}
    return connection.execute(_find, given | {"as_party": _DIRECTION[leg].value}).first() is not None


def put_listed(connection: Connection, entries: Iterable[Listed], at: int) -> int:
    """Add entries, or replace those of the same number, app and direction. Returns how many."""
    rows = [_row(entry, at) for entry in entries]
    if rows:
        # straight to the driver: a list of a million numbers is to take seconds
        marks = ", ".join(f":{name}" for name in _COLUMNS)
        connection.exec_driver_sql(
            f"INSERT OR REPLACE INTO blacklist ({', '.join(_COLUMNS)}) VALUES ({marks})", rows
        )
    return len(rows)


def find_listed(connection: Connection, key: Listed) -> Listed | None:
    row = connection.execute(select(blacklist).where(*_same(key))).mappings().first()
    return _listed(dict(row)) if row else None


def remove_listed(connection: Connection, key: Listed) -> bool:
    """Remove the entry of the same number, kind, app and direction."""
    return connection.execute(delete(blacklist).where(*_same(key))).rowcount > 0


def _same(key: Listed) -> list[ColumnElement[bool]]:
    return [
        blacklist.c.pattern == key.pattern,
        blacklist.c.exact == key.exact,
        blacklist.c.app_id == key.app_id,
        blacklist.c.direction == key.direction.value,
    ]


def _row(entry: Listed, at: int) -> dict[str, object]:
    return {
        "pattern": entry.pattern,
        "exact": entry.exact,
        "app_id": entry.app_id,
        "direction": entry.direction.value,
        "expires_at": entry.expires_at,
        "reason": entry.reason,
        "created_at": at,
    }


def _listed(row: dict[str, object]) -> Listed:
    del row["created_at"]
    return Listed(**row | {"direction": Direction(row["direction"])})  # type: ignore[arg-type]
