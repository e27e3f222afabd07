"""Cells: the processes that share a database, who is alive, what they ask of each other. Units of work.

A cell is alive while it says so, by the database's clock. Whoever takes over the calls of a dead one does it
in one update: two cannot, and the dead one, should it live after all, can store no step of them any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    insert,
    select,
    text,
    update,
)

from huibo.flow.state import CallState
from huibo.model import Call, CancelUnless
from huibo.storage import dialects
from huibo.storage.calls import call_of, state_of
from huibo.storage.notices import tell
from huibo.storage.outbox import end_leases
from huibo.storage.recordings import PENDING
from huibo.storage.tables import calls, cells, recordings, trunk_turns, wishes

# Notices: for the cell that is named, and for whoever asked.
WISHED, DRAINED, ANSWERED = "wish", "drain", "answer"

_silent = select(cells.c.name).where(cells.c.seen_at < bindparam("before"))


@dataclass(frozen=True, slots=True)
class Cell:
    """What a process says of itself. `base_url`: what customers reach it under."""

    name: str
    base_url: str
    version: str
    engine_ready: bool
    live_calls: int


@dataclass(frozen=True, slots=True)
class SeenCell(Cell):
    """A cell, and for how long nothing has been heard of it (ms). `draining`: it is to take no more calls."""

    silent_ms: int
    draining: bool


class Answer(StrEnum):
    """What became of a wish that a call be ended."""

    ENDING = "ending"
    KEPT = "kept"  # it has come too far
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Wish:
    """Another cell's customer wants a call of ours ended."""

    id: int
    call_id: str
    unless: CancelUnless


def now_of(connection: Connection) -> int:
    """The database's clock, UNIX ms: the same for all cells."""
    if connection.dialect.name == "sqlite":
        query = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    else:
        query = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
    return int(connection.execute(text(query)).scalar_one())


def beat(connection: Connection, cell: Cell) -> None:
    """Say that a cell is alive."""
    now = now_of(connection)
    row = {name: getattr(cell, name) for name in Cell.__dataclass_fields__}
    dialects.put(connection, cells, row | {"started_at": now, "seen_at": now}, kept=("started_at",))


def list_cells(connection: Connection) -> list[SeenCell]:
    """All cells that there ever were, by name."""
    now = now_of(connection)
    rows = connection.execute(select(cells).order_by(cells.c.name)).mappings()
    return [_seen(row, now) for row in rows]


def seen_at(connection: Connection, name: str) -> int | None:
    """When a cell said last that it lives (UNIX ms, the database's clock); None: never."""
    return connection.scalar(select(cells.c.seen_at).where(cells.c.name == name))


def drain(connection: Connection, name: str, draining: bool) -> None:
    """Have a cell take no more calls, or take calls again."""
    connection.execute(update(cells).where(cells.c.name == name).values(draining=draining))
    tell(connection, DRAINED, name)


def is_draining(connection: Connection, name: str) -> bool:
    return bool(connection.scalar(select(cells.c.draining).where(cells.c.name == name)))


def inherit(connection: Connection, name: str) -> None:
    """Make all that is not over a cell's own: for a database that only one process can be at.

    It may have had another name before; its calls, and recordings to be finished, are no less its own.
    """
    unfinished = select(recordings.c.call_id).where(recordings.c.state == PENDING)
    # one after the other: for both at once all calls there ever were are looked at
    for owed in (calls.c.ended_at.is_(None), calls.c.call_id.in_(unfinished)):
        connection.execute(update(calls).where(calls.c.cell != name, owed).values(cell=name))


def take_over(connection: Connection, by: str, silent_ms: int, limit: int) -> list[tuple[Call, CallState]]:
    """Make the calls of cells that have been silent for so long another one's, and free their pushes."""
    end_leases(connection, connection.scalars(_silent, {"before": now_of(connection) - silent_ms}).all())
    alive = select(cells.c.name).where(
        cells.c.name == calls.c.cell, cells.c.seen_at > now_of(connection) - silent_ms
    )
    orphans = (
        select(calls.c.call_id)
        .where(calls.c.ended_at.is_(None), calls.c.cell != by, ~alive.exists())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = connection.scalars(orphans).all()
    if not ids:
        return []
    taken = update(calls).where(calls.c.call_id.in_(ids)).values(cell=by).returning(calls)
    return [(call_of(row), state_of(row)) for row in connection.execute(taken).mappings()]


def next_turn(
    connection: Connection, trunk: str, per_second: int, window_ms: int, longest_ms: int
) -> int | None:
    """In how many ms one more INVITE may leave over a trunk; None: not within `longest_ms`.

    In no window are there more than `per_second`, whichever cells they leave from.
    """
    first = dialects.insert(connection, trunk_turns).values(trunk=trunk, slots=[]).on_conflict_do_nothing()
    connection.execute(first)
    query = select(trunk_turns.c.slots).where(trunk_turns.c.trunk == trunk).with_for_update()
    slots = list(connection.scalars(query).one())
    now = now_of(connection)
    at = max(now, slots[-per_second] + window_ms) if len(slots) >= per_second else now
    if at - now > longest_ms:
        return None
    kept = [*slots[-per_second:], at][-per_second:]
    connection.execute(update(trunk_turns).where(trunk_turns.c.trunk == trunk).values(slots=kept))
    return at - now


def carrier_of(connection: Connection, call_id: str) -> str | None:
    """The cell of a call that has no end yet."""
    query = select(calls.c.cell).where(calls.c.call_id == call_id, calls.c.ended_at.is_(None))
    return connection.scalar(query)


def wish(connection: Connection, cell: str, call_id: str, unless: CancelUnless, at: int) -> int:
    """Leave a wish for another cell; its number."""
    row = {"cell": cell, "call_id": call_id, "unless": unless.value, "created_at": at}
    key = connection.execute(insert(wishes), row).inserted_primary_key
    assert key is not None
    tell(connection, WISHED, cell)
    return int(key[0])


def wishes_of(connection: Connection, cell: str) -> list[Wish]:
    """What is wished of a cell and not answered yet."""
    query = select(wishes.c.id, wishes.c.call_id, wishes.c.unless).where(
        wishes.c.cell == cell, wishes.c.answer.is_(None)
    )
    return [Wish(row.id, row.call_id, CancelUnless(row.unless)) for row in connection.execute(query)]


def answer(connection: Connection, wish_id: int, what: Answer) -> None:
    connection.execute(update(wishes).where(wishes.c.id == wish_id).values(answer=what.value))
    tell(connection, ANSWERED)


def answer_to(connection: Connection, wish_id: int) -> Answer | None:
    found = connection.scalar(select(wishes.c.answer).where(wishes.c.id == wish_id))
    return Answer(found) if found else None


def withdraw(connection: Connection, wish_id: int, older_than: int) -> None:
    """Remove a wish, and those that nobody has waited for since then (UNIX ms)."""
    connection.execute(delete(wishes).where((wishes.c.id == wish_id) | (wishes.c.created_at < older_than)))


def _seen(row: Any, now: int) -> SeenCell:
    values = {name: row[name] for name in Cell.__dataclass_fields__}
    return SeenCell(**values, silent_ms=max(0, now - row["seen_at"]), draining=row["draining"])
