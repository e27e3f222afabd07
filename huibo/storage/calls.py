"""Calls, their steps and their records: units of work.

Each function takes a `Connection` inside a transaction. A step is one update of the call and the pushes that
it owes, together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from huibo.flow.state import CallState
from huibo.model import Call, CallResult, Cdr, EndReason, LegRecord, Push, Trunk
from huibo.storage.catalog import trunk_of
from huibo.storage.outbox import add_pushes
from huibo.storage.tables import calls, cdrs, trunks

_state_json = TypeAdapter(CallState)

_save = (
    update(calls)
    .where(calls.c.call_id == bindparam("id"))
    .values(state=bindparam("state"), ended_at=bindparam("ended_at"))
)


def add_call(connection: Connection, call: Call, state: CallState) -> None:
    """Write a call that has just been accepted."""
    row = {column.name: getattr(call, column.name) for column in calls.c if hasattr(call, column.name)}
    row["trunk"] = call.trunk.name
    row["state"] = _dump(state)
    connection.execute(insert(calls), row)


def save_step(
    connection: Connection, call_id: str, state: CallState, owed: Sequence[Push], cdr: Cdr | None, at: int
) -> None:
    """Write the state after a step, the pushes that it owes and, with the last step, the CDR."""
    connection.execute(_save, {"id": call_id, "state": _dump(state), "ended_at": state.ended_at})
    if cdr is not None:
        connection.execute(insert(cdrs), _cdr_row(cdr))
    add_pushes(connection, owed, at)


def unfinished(connection: Connection) -> list[tuple[Call, CallState]]:
    """All calls that have no end yet, the oldest first."""
    query = select(calls).where(calls.c.ended_at.is_(None)).order_by(calls.c.accepted_at)
    rows = connection.execute(query).mappings().all()
    lines = {row["name"]: trunk_of(row) for row in connection.execute(select(trunks)).mappings()}
    return [(_call(row, lines), _state_json.validate_json(row["state"])) for row in rows]


def find_cdr(connection: Connection, call_id: str) -> Cdr | None:
    row = connection.execute(select(cdrs).where(cdrs.c.call_id == call_id)).mappings().first()
    return _cdr(row) if row else None


def _dump(state: CallState) -> str:
    return _state_json.dump_json(state).decode()


def _call(row: RowMapping, lines: dict[str, Trunk]) -> Call:
    gone = Trunk(row["trunk"], host="", enabled=False)  # removed since: what is up stays, nothing is dialled
    fields = {name: row[name] for name in Call.__dataclass_fields__ if name != "trunk"}
    return Call(trunk=lines.get(row["trunk"], gone), **fields)


def _cdr_row(cdr: Cdr) -> dict[str, Any]:
    row = asdict(cdr)
    for leg in ("caller", "callee"):
        row.update({f"{leg}_{name}": value for name, value in row.pop(leg).items()})
    return row


def _cdr(row: RowMapping) -> Cdr:
    return Cdr(
        call_id=row["call_id"],
        caller=_leg_record(row, "caller"),
        callee=_leg_record(row, "callee"),
        ended_at=row["ended_at"],
        result=CallResult(row["result"]),
        talk_s=row["talk_s"],
        billed_s=row["billed_s"],
    )


def _leg_record(row: RowMapping, leg: str) -> LegRecord:
    values = {name: row[f"{leg}_{name}"] for name in LegRecord.__dataclass_fields__}
    if values["reason"] is not None:
        values["reason"] = EndReason(values["reason"])
    return LegRecord(**values)
