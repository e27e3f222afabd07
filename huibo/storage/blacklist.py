"""The blacklist: numbers and beginnings of numbers that are not called, or do not call. Units of work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    RowMapping,
    Select,
    bindparam,
    cast,
    delete,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from huibo.model import Leg
from huibo.numbers import beginnings
from huibo.storage.dialects import one_of
from huibo.storage.prepared import Prepared
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


Key = tuple[str, bool, str, str]  # pattern, exact, app_id, direction: what an entry is known by
_Row = tuple[str, bool, str, str, int | None, str]

_DIRECTION = {Leg.CALLER: Direction.CALLER, Leg.CALLEE: Direction.CALLEE}


def _entries(dialect: Dialect) -> Select[Any]:
    return select(blacklist.c.pattern, blacklist.c.exact, blacklist.c.direction).where(
        one_of(dialect, blacklist.c.pattern, "patterns"),
        blacklist.c.app_id.in_(("", bindparam("of_app"))),
        or_(blacklist.c.expires_at.is_(None), blacklist.c.expires_at > bindparam("now")),
    )


_find = Prepared(_entries)
_KEY = (blacklist.c.pattern, blacklist.c.exact, blacklist.c.app_id, blacklist.c.direction)


def listed_party(connection: Connection, app_id: str, parties: Mapping[Leg, str], now: int) -> Leg | None:
    """The first of these parties (E.164) that may not be so in a call of this app; None: all may."""
    beginning = {leg: beginnings(e164)[:-1] for leg, e164 in parties.items()}
    patterns = list({one for some in beginning.values() for one in some})
    found = _find.all(connection, {"patterns": patterns, "of_app": app_id, "now": now})
    for leg, own in beginning.items():
        for pattern, exact, direction in found:
            for_it = direction in (Direction.BOTH.value, _DIRECTION[leg].value)
            if for_it and (pattern == own[0] if exact else pattern in own):
                return leg
    return None


def put_listed(connection: Connection, entries: Iterable[Listed], at: int) -> int:
    """Add entries, or replace those of the same number, kind, app and direction. Returns how many."""
    rows = list({row[: len(_KEY)]: row for row in map(_row, entries)}.values())
    if rows:
        put = _put_arrays if connection.dialect.name == "postgresql" else _put_rows
        put(connection, sorted(rows, key=_key_first), at)  # two lists in one order do not block each other
    return len(rows)


def find_listed(connection: Connection, key: Listed) -> Listed | None:
    row = connection.execute(select(blacklist).where(*_same(key))).mappings().first()
    return _listed(row) if row else None


def list_listed(
    connection: Connection,
    app_id: str | None = None,
    direction: Direction | None = None,
    about: str | None = None,
    after: Key | None = None,
    limit: int = -1,
) -> list[Listed]:
    """Entries by their key, behind `after`; `limit` -1: all.

    `app_id` "": only those for all apps. `about`: only what concerns numbers that begin so, as a pattern.
    """
    query = select(blacklist).order_by(*_KEY)
    if app_id is not None:
        query = query.where(blacklist.c.app_id == app_id)
    if direction is not None:
        query = query.where(blacklist.c.direction == direction.value)
    if about is not None:
        query = query.where(_concerns(about))
    if after is not None:
        query = query.where(tuple_(*_KEY) > tuple_(*after))
    if limit >= 0:
        query = query.limit(limit)
    return [_listed(row) for row in connection.execute(query).mappings()]


def remove_listed(connection: Connection, key: Listed) -> bool:
    """Remove the entry of the same number, kind, app and direction."""
    return connection.execute(delete(blacklist).where(*_same(key))).rowcount > 0


def remove_expired(connection: Connection, now: int) -> int:
    """Forget the entries that are over; returns how many there were."""
    return connection.execute(delete(blacklist).where(blacklist.c.expires_at <= now)).rowcount


def key_of(entry: Listed) -> Key:
    return entry.pattern, entry.exact, entry.app_id, entry.direction.value


def _concerns(about: str) -> ColumnElement[bool]:
    """Entries of numbers that begin so, and the shorter beginnings that these numbers have."""
    longer = blacklist.c.pattern >= about
    if bound := about.rstrip("9"):  # "138" and before "139"; no LIKE, which on SQLite uses no index
        longer &= blacklist.c.pattern < bound[:-1] + str(int(bound[-1]) + 1)
    shorter = ~blacklist.c.exact & blacklist.c.pattern.in_(beginnings(about)[1:])
    return longer | shorter


def _put_rows(connection: Connection, rows: list[_Row], at: int) -> None:
    # straight to the driver: what SQLAlchemy does to each row would take longer than all the rest
    connection.exec_driver_sql(_UPSERT, [(*row, at) for row in rows])


def _put_arrays(connection: Connection, rows: list[_Row], at: int) -> None:
    """One statement for all: row by row, a list of a million numbers would take minutes."""
    columns = blacklist.c[: len(rows[0])]
    arrays = [
        func.unnest(cast(bindparam(f"all_{column.name}"), postgresql.ARRAY(column.type)))
        for column in columns
    ]
    adding = postgresql.insert(blacklist)
    query = adding.from_select(list(blacklist.c), select(*arrays, cast(bindparam("at"), BigInteger)))
    given = {
        f"all_{column.name}": list(each)
        for column, each in zip(columns, zip(*rows, strict=True), strict=True)
    }
    connection.execute(
        query.on_conflict_do_update(index_elements=_KEY, set_=_changed(adding)), given | {"at": at}
    )


def _changed(adding: sqlite.Insert | postgresql.Insert) -> dict[str, ColumnElement[Any]]:
    return {name: adding.excluded[name] for name in ("expires_at", "reason", "created_at")}


def _upsert() -> str:
    """For SQLite, with a mark for each column in its order."""
    adding = sqlite.insert(blacklist)
    query = adding.on_conflict_do_update(index_elements=_KEY, set_=_changed(adding))
    return str(query.compile(dialect=sqlite.dialect(paramstyle="qmark")))


_UPSERT = _upsert()


def _same(key: Listed) -> list[ColumnElement[bool]]:
    return [
        blacklist.c.pattern == key.pattern,
        blacklist.c.exact == key.exact,
        blacklist.c.app_id == key.app_id,
        blacklist.c.direction == key.direction.value,
    ]


def _row(entry: Listed) -> _Row:
    """The columns in their order, but the last."""
    direction = entry.direction.value
    return entry.pattern, entry.exact, entry.app_id, direction, entry.expires_at, entry.reason


def _key_first(row: _Row) -> Key:
    return row[:4]


def _listed(row: RowMapping) -> Listed:
    return Listed(
        row["pattern"],
        row["exact"],
        row["app_id"],
        Direction(row["direction"]),
        row["expires_at"],
        row["reason"],
    )
