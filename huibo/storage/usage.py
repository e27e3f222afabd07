"""How much apps and trunks are in use: what limits are measured against. Units of work that only read."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select

from huibo.storage.tables import calls

_live = select(func.count()).where(calls.c.app_id == bindparam("of_app"), calls.c.ended_at.is_(None))
_nth = (
    select(calls.c.accepted_at)
    .where(calls.c.app_id == bindparam("of_app"))
    .order_by(calls.c.accepted_at.desc())
    .limit(1)
    .offset(bindparam("before"))
)
_to_callee = select(func.count().filter(calls.c.accepted_at > bindparam("recently")), func.count()).where(
    calls.c.callee == bindparam("to"),
    calls.c.accepted_at > bindparam("since"),
    calls.c.app_id == bindparam("of_app"),
)
_caller_legs = select(func.count()).where(calls.c.caller_trunk == bindparam("on"), calls.c.ended_at.is_(None))
_callee_legs = select(func.count()).where(calls.c.callee_trunk == bindparam("on"), calls.c.ended_at.is_(None))


def live_calls(connection: Connection, app_id: str) -> int:
    """How many calls of an app have no end yet."""
    return connection.scalars(_live, {"of_app": app_id}).one()


def nth_last(connection: Connection, app_id: str, n: int) -> int | None:
    """When the n-th last call of an app was accepted (UNIX ms); None: it has fewer."""
    return connection.scalar(_nth, {"of_app": app_id, "before": n - 1})


def calls_to(connection: Connection, app_id: str, callee: str, recently: int, since: int) -> tuple[int, int]:
    """How many calls of an app to a callee were accepted after each of two moments (UNIX ms), later first."""
    given = {"of_app": app_id, "to": callee, "recently": recently, "since": since}
    recent, all_of_them = connection.execute(_to_callee, given).one()
    return recent, all_of_them


def calls_of(connection: Connection, cell: str) -> int:
    """The calls that a cell carries."""
    query = select(func.count()).where(calls.c.cell == cell, calls.c.ended_at.is_(None))
    return int(connection.scalar(query) or 0)


def legs_on(connection: Connection, trunk: str) -> int:
    """How many legs are on a trunk or will be tried there first: a call takes both its channels at once."""
    used = {"on": trunk}
    return connection.scalars(_caller_legs, used).one() + connection.scalars(_callee_legs, used).one()
