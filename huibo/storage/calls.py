"""Calls, their steps and their records: units of work.

Each function takes a `Connection` inside a transaction. A step is one update of the call and the pushes that
it owes, together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, Select, bindparam, insert, select, update

from huibo.flow.state import CallState
from huibo.model import Call, CallResult, Cdr, EndReason, Leg, LegRecord, Push
from huibo.storage.accounts import settle
from huibo.storage.outbox import Handed, hand_over
from huibo.storage.prepared import Prepared
from huibo.storage.tables import calls, cdrs

_state_json = TypeAdapter(CallState)

_CALL = tuple(field.name for field in fields(Call))
_LEG = tuple(field.name for field in fields(LegRecord))

_add_call = Prepared(insert(calls), (*_CALL, "state"))
_add_cdr = Prepared(insert(cdrs), [column.name for column in cdrs.c])
_of_cell = (calls.c.call_id == bindparam("id"), calls.c.cell == bindparam("of_cell"))
_stored = Prepared(select(calls.c.state).where(*_of_cell))
_save = Prepared(update(calls).where(*_of_cell).values(state=bindparam("state")))
_save_all = Prepared(
    update(calls)
    .where(*_of_cell)
    .values(
        state=bindparam("state"),
        ended_at=bindparam("ended_at"),
        caller_trunk=bindparam("caller_on"),
        callee_trunk=bindparam("callee_on"),
    )
)


class NotOurs(Exception):
    """The call has been taken over by another cell: whoever gets this must let go of it."""


def add_call(connection: Connection, call: Call, state: CallState) -> None:
    """Write a call that has just been accepted."""
    row = {name: getattr(call, name) for name in _CALL}
    row["state"] = _dump(state)
    _add_call.run(connection, row)


def save_step(
    connection: Connection,
    call: Call,
    state: CallState,
    owed: Sequence[Push],
    cdr: Cdr | None,
    at: int,
    again: bool = False,
) -> Handed | None:
    """Write the state after a step, the pushes that it owes and, with the last, the CDR and the charge.

    Returns the pushes, to be delivered once that is committed. `again`: an earlier try may have been
    committed without our hearing of it; then there is nothing left to do, which None says. Raises `NotOurs`.
    """
    step = {"id": call.call_id, "of_cell": call.cell, "state": _dump(state)}
    if again and _stored.first(connection, step) == (step["state"],):
        return None
    beside = _beside(call, state)
    # the state alone is in no index: half the work for SQLite
    saved = _save.run(connection, step) if beside is None else _save_all.run(connection, step | beside)
    if saved == 0:
        raise NotOurs(call.call_id)
    if cdr is not None:
        _add_cdr.run(connection, _cdr_row(call, cdr))
        budget = state.plan.budget
        if budget is not None:
            settle(connection, call.app_id, call.call_id, budget.hold or 0, cdr.charge, at)
    return hand_over(connection, owed, call.cell, at)


def unfinished(connection: Connection, cell: str = "main") -> list[tuple[Call, CallState]]:
    """All calls of a cell that have no end yet, the oldest first."""
    query = (
        select(calls).where(calls.c.ended_at.is_(None), calls.c.cell == cell).order_by(calls.c.accepted_at)
    )
    return [(call_of(row), state_of(row)) for row in connection.execute(query).mappings()]


def unfinished_ids(connection: Connection, cell: str, before: int) -> list[str]:
    """The ids of the calls of a cell that were accepted before (UNIX ms) and have no end yet."""
    query = select(calls.c.call_id).where(
        calls.c.ended_at.is_(None), calls.c.cell == cell, calls.c.accepted_at < before
    )
    return list(connection.scalars(query))


def find_call(connection: Connection, app_id: str, call_id: str) -> tuple[Call, CallState] | None:
    """A call of this app, and how far it is; None when the app has no such call."""
    query = select(calls).where(calls.c.call_id == call_id, calls.c.app_id == app_id)
    row = connection.execute(query).mappings().first()
    return (call_of(row), state_of(row)) if row else None


def find_record(connection: Connection, app_id: str, call_id: str) -> tuple[Call, Cdr] | None:
    """A finished call of this app with its CDR."""
    query = _records(app_id).where(cdrs.c.call_id == call_id)
    row = connection.execute(query).mappings().first()
    return _record(row) if row else None


def list_records(
    connection: Connection, app_id: str, start_s: int, end_s: int, caller: str | None, limit: int
) -> tuple[list[tuple[Call, Cdr]], int]:
    """Finished calls that began in a period of whole UNIX seconds, both included, oldest first.

    At most `limit`, cut only between two seconds so that the second number, from where to go on, loses
    nothing; 0 when this is all. A single second with more calls than that comes whole.
    """
    query = _records(app_id).order_by(cdrs.c.started_at, cdrs.c.call_id)
    if caller is not None:
        query = query.where(cdrs.c.caller == caller)
    in_period = query.where(cdrs.c.started_at >= start_s * 1000, cdrs.c.started_at < (end_s + 1) * 1000)
    rows = connection.execute(in_period.limit(limit + 1)).mappings().all()
    if len(rows) <= limit:
        return [_record(row) for row in rows], 0
    cut_s = rows[-1]["started_at"] // 1000
    kept = [row for row in rows if row["started_at"] < cut_s * 1000]
    if not kept:
        whole_second = query.where(cdrs.c.started_at >= cut_s * 1000, cdrs.c.started_at < (cut_s + 1) * 1000)
        kept = list(connection.execute(whole_second).mappings())
        cut_s += 1
    return [_record(row) for row in kept], cut_s


def find_cdr(connection: Connection, call_id: str) -> Cdr | None:
    row = connection.execute(select(cdrs).where(cdrs.c.call_id == call_id)).mappings().first()
    return _cdr(row) if row else None


def _records(app_id: str) -> Select[Any]:
    """Calls with their CDRs; the columns that both have are told apart by a prefix."""
    own = [column.label(f"cdr_{column.name}") for column in cdrs.c]
    joined = cdrs.join(calls, calls.c.call_id == cdrs.c.call_id)
    return select(calls, cdrs.c.started_at, *own).select_from(joined).where(cdrs.c.app_id == app_id)


def _record(row: RowMapping) -> tuple[Call, Cdr]:
    return call_of(row), _cdr(row, "cdr_")


def state_of(row: RowMapping) -> CallState:
    return _state_json.validate_json(row["state"])


def _dump(state: CallState) -> str:
    return _state_json.dump_json(state).decode()


def _beside(call: Call, state: CallState) -> dict[str, Any] | None:
    """What the database is to know of a state without reading it; None: what its row says since it was added.

    A call that is not over and was never refused by a trunk is where it was to begin.
    """
    caller_on = state.trunk(Leg.CALLER) or call.caller_trunk
    callee_on = state.trunk(Leg.CALLEE) or call.callee_trunk
    moved = (
        state.caller.tried
        or state.callee.tried
        or (caller_on, callee_on) != (call.caller_trunk, call.callee_trunk)
    )
    if not (moved or state.over):
        return None
    return {"ended_at": state.ended_at, "caller_on": caller_on, "callee_on": callee_on}


def call_of(row: RowMapping) -> Call:
    return Call(**{name: row[name] for name in _CALL})


def _cdr_row(call: Call, cdr: Cdr) -> dict[str, Any]:
    row = {
        "call_id": cdr.call_id,
        "app_id": call.app_id,
        "caller": call.caller,
        "started_at": cdr.caller.invited_at or call.accepted_at,
        "ended_at": cdr.ended_at,
        "result": cdr.result.value,
        "talk_s": cdr.talk_s,
        "billed_s": cdr.billed_s,
        "charge": cdr.charge,
    }
    for leg, record in (("caller", cdr.caller), ("callee", cdr.callee)):
        row.update({f"{leg}_{name}": getattr(record, name) for name in _LEG})
    return row


def _cdr(row: RowMapping, prefix: str = "") -> Cdr:
    return Cdr(
        call_id=row[f"{prefix}call_id"],
        caller=_leg_record(row, f"{prefix}caller"),
        callee=_leg_record(row, f"{prefix}callee"),
        ended_at=row[f"{prefix}ended_at"],
        result=CallResult(row[f"{prefix}result"]),
        talk_s=row[f"{prefix}talk_s"],
        billed_s=row[f"{prefix}billed_s"],
        charge=row[f"{prefix}charge"],
    )


def _leg_record(row: RowMapping, leg: str) -> LegRecord:
    values = {name: row[f"{leg}_{name}"] for name in _LEG}
    if values["reason"] is not None:
        values["reason"] = EndReason(values["reason"])
    return LegRecord(**values)
