"""How much apps and trunks are in use: what limits are measured against. Units of work that only read."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, ScalarSelect, bindparam, func, literal, null, select

from huibo.model import AppSettings, Usage
from huibo.storage.prepared import Prepared
from huibo.storage.tables import calls

_SECOND_MS, _HOUR_MS = 1000, 3600_000

_live: ScalarSelect[int] = (
    select(func.count())
    .where(calls.c.app_id == bindparam("of_app"), calls.c.ended_at.is_(None))
    .scalar_subquery()
)
_nth_last: ScalarSelect[int] = (
    select(calls.c.accepted_at)
    .where(calls.c.app_id == bindparam("of_app"), calls.c.accepted_at >= bindparam("second_ago"))
    .order_by(calls.c.accepted_at.desc())
    .limit(1)
    .offset(bindparam("before"))
    .scalar_subquery()
)
_in_hour = func.count().filter(calls.c.accepted_at > bindparam("hour_ago"))
_to_callee = (
    select(_in_hour.label("in_hour"), func.count().label("in_all"))
    .where(
        calls.c.callee == bindparam("to"),
        calls.c.accepted_at > bindparam("since"),
        calls.c.app_id == bindparam("of_app"),
    )
    .subquery()
)
_on_trunk = Prepared(
    select(
        select(func.count())
        .where(calls.c.caller_trunk == bindparam("on"), calls.c.ended_at.is_(None))
        .scalar_subquery()
        + select(func.count())
        .where(calls.c.callee_trunk == bindparam("on"), calls.c.ended_at.is_(None))
        .scalar_subquery()
    )
)


def used(connection: Connection, app_id: str, callee: str, limits: AppSettings, now: int) -> Usage:
    """What an app has used of these limits (UNIX ms `now`); what has none is not counted."""
    at_once, per_second = limits.calls_at_once is not None, limits.calls_per_second
    to_callee = limits.callee_per_hour is not None or limits.callee_per_day is not None
    if not (at_once or per_second or to_callee):
        return Usage()
    hour_ago = now - _HOUR_MS
    given = {
        "of_app": app_id,
        "before": (per_second or 1) - 1,
        "to": callee,
        "second_ago": now - _SECOND_MS,
        "hour_ago": hour_ago,
        "since": hour_ago if limits.callee_per_day is None else now - 24 * _HOUR_MS,
    }
    found = _counting(at_once, per_second is not None, to_callee).first(connection, given)
    assert found is not None
    return Usage._make(found)


@cache
def _counting(live: bool, nth_last: bool, to_callee: bool) -> Prepared:
    """Nothing is looked at but what is asked for."""
    found = select(
        _live if live else literal(0),
        _nth_last if nth_last else null(),
        *((_to_callee.c.in_hour, _to_callee.c.in_all) if to_callee else (literal(0), literal(0))),
    )
    return Prepared(found)


def legs_on(connection: Connection, trunk: str) -> int:
    """How many legs are on a trunk or will be tried there first: a call takes both its channels at once."""
    found = _on_trunk.first(connection, {"on": trunk})
    assert found is not None
    return int(found[0])


def live_calls(connection: Connection, app_id: str) -> int:
    """How many calls of an app have no end yet."""
    return connection.scalars(select(_live), {"of_app": app_id}).one()


def calls_of(connection: Connection, cell: str) -> int:
    """The calls that a cell carries."""
    query = select(func.count()).where(calls.c.cell == cell, calls.c.ended_at.is_(None))
    return int(connection.scalar(query) or 0)
