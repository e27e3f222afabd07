"""Calls as an operator looks for them, whosever they are: units of work that only read.

Every way of looking goes through an index; `result` alone is looked for along the time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, literal_column, select

from huibo.flow.state import CallState
from huibo.model import Call, CallResult
from huibo.storage.calls import call_of, state_of
from huibo.storage.tables import calls, cdrs

_NAMES, _GIVEN = ("app_id", "caller", "callee", "call_id"), ("biz_id", "order_id")


@dataclass(frozen=True, slots=True)
class Sought:
    """Which calls are meant; None: whatever it is. Accepted from `start` until before `end`, UNIX ms.

    Numbers are E.164. `live`: have no end yet, False: are over.
    """

    app_id: str | None = None
    caller: str | None = None
    callee: str | None = None
    call_id: str | None = None
    biz_id: str | None = None
    order_id: str | None = None
    result: CallResult | None = None
    live: bool | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A call, how far it is and, once it is over, what became of it."""

    call: Call
    state: CallState
    result: CallResult | None
    talk_s: int | None
    billed_s: int | None
    charge: int | None


def search(connection: Connection, sought: Sought, behind: tuple[int, str] | None, limit: int) -> list[Found]:
    """Calls, the newest first; `behind`: when the last one seen was accepted, and its id."""
    query = query_of(sought)
    if behind is not None:
        at, call_id = behind
        query = query.where(
            calls.c.accepted_at <= at, (calls.c.accepted_at < at) | (calls.c.call_id < call_id)
        )
    query = query.order_by(calls.c.accepted_at.desc(), calls.c.call_id.desc()).limit(limit)
    return [_found(row) for row in connection.execute(query).mappings()]


def find(connection: Connection, call_id: str) -> Found | None:
    """A call of any app."""
    row = connection.execute(query_of(Sought(call_id=call_id))).mappings().first()
    return _found(row) if row else None


def query_of(sought: Sought) -> Select[tuple[object, ...]]:
    """The calls that are meant, in no order."""
    joined = calls.outerjoin(cdrs, cdrs.c.call_id == calls.c.call_id)
    results = (cdrs.c.result, cdrs.c.talk_s, cdrs.c.billed_s, cdrs.c.charge)
    return select(calls, *results).select_from(joined).where(*_conditions(sought))


def _conditions(sought: Sought) -> list[ColumnElement[bool]]:
    wanted = {name: getattr(sought, name) for name in (*_NAMES, *_GIVEN)}
    found = [calls.c[name] == value for name, value in wanted.items() if value is not None]
    # as the index says it: it leaves out the calls that have no such name
    found += [literal_column(f"calls.{name} <> ''") for name in _GIVEN if wanted[name]]
    if sought.result is not None:
        found.append(cdrs.c.result == sought.result.value)
    if sought.live is not None:
        found.append(calls.c.ended_at.is_(None) if sought.live else calls.c.ended_at.is_not(None))
    if sought.start is not None:
        found.append(calls.c.accepted_at >= sought.start)
    if sought.end is not None:
        found.append(calls.c.accepted_at < sought.end)
    return found


def _found(row: RowMapping) -> Found:
    result = None if row["result"] is None else CallResult(row["result"])
    return Found(call_of(row), state_of(row), result, row["talk_s"], row["billed_s"], row["charge"])
