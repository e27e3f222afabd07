"""Recordings, from owed to purged: units of work.

A row is written with the last step of its call. Whoever finishes a file holds its row for a while, longer if
need be; when the holder dies the row falls due again. Every verdict is that of the holder or is not taken.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from huibo.model import Call
from huibo.storage.calls import find_call
from huibo.storage.tables import calls, pushes, recordings

PENDING, READY, FAILED, PURGED = "pending", "ready", "failed", "purged"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in any state. Times are UNIX ms; what a state does not have yet, or no more, is None."""

    call_id: str
    app_id: str
    state: str
    talk_ms: int
    created_at: int
    next_at: int
    attempts: int
    finished_at: int | None
    expires_at: int | None
    reason: str | None
    key: str | None
    format: str | None
    bytes: int | None
    sha256: str | None
    duration_ms: int | None


class Held(NamedTuple):
    """A pending recording that this worker holds. `until` (UNIX ms) is also the proof of it."""

    call_id: str
    app_id: str
    talk_ms: int
    created_at: int
    attempts: int
    until: int


class Kept(NamedTuple):
    """A finished file in the store."""

    key: str
    format: str
    bytes: int
    sha256: str
    duration_ms: int


def add_recording(connection: Connection, call_id: str, app_id: str, talk_ms: int, at: int) -> None:
    """A call with a conversation of `talk_ms` is over: its recording is to be finished, from now on."""
    row = {"call_id": call_id, "app_id": app_id, "talk_ms": talk_ms}
    row |= {"state": PENDING, "created_at": at, "next_at": at, "attempts": 0}
    connection.execute(insert(recordings), row)


def due_recordings(
    connection: Connection, now: int, until: int, limit: int, cell: str = "main"
) -> list[Held]:
    """Take hold, until then, of recordings that are due; those that have waited longest first.

    Only of calls of this cell: what its Asterisk wrote is nowhere else.
    """
    due = (
        select(recordings.c.call_id)
        .join(calls, calls.c.call_id == recordings.c.call_id)
        .where(recordings.c.state == PENDING, recordings.c.next_at <= now, calls.c.cell == cell)
        .order_by(recordings.c.next_at)
        .limit(limit)
        .with_for_update(of=recordings, skip_locked=True)
    )
    taken = (
        update(recordings)
        .where(recordings.c.call_id.in_(connection.scalars(due).all()))
        .values(next_at=until)
        .returning(*(recordings.c[name] for name in Held._fields[:-1]), recordings.c.next_at)
    )
    return [Held._make(row) for row in connection.execute(taken)]


def next_due(connection: Connection, now: int, cell: str = "main") -> int | None:
    """When (UNIX ms) the next recording falls due after now, a holder's death included."""
    joined = recordings.join(calls, calls.c.call_id == recordings.c.call_id)
    soonest = select(func.min(recordings.c.next_at)).select_from(joined).where(calls.c.cell == cell)
    at: int | None = connection.scalar(
        soonest.where(recordings.c.state == PENDING, recordings.c.next_at > now)
    )
    return at


def hold_on(connection: Connection, held: Held, until: int) -> Held | None:
    """Hold for longer; None when it has fallen to somebody else meanwhile."""
    return held._replace(until=until) if _settle(connection, held, {"next_at": until}) else None


def mark_ready(
    connection: Connection, held: Held, kept: Kept, at: int, expires_at: int, lacks: str | None = None
) -> bool:
    """The file is in the store. Tells whether that was still this holder's to say, as all verdicts do.

    `lacks`: what is missing in it, if anything is.
    """
    done = {"state": READY, "reason": lacks, "finished_at": at, "expires_at": expires_at}
    return _settle(connection, held, done | {"attempts": held.attempts + 1} | kept._asdict())


def mark_retry(connection: Connection, held: Held, reason: str, next_at: int, attempts: int) -> bool:
    """Not finished this time. `attempts`: how many count by now."""
    return _settle(connection, held, {"reason": reason, "next_at": next_at, "attempts": attempts})


def mark_failed(connection: Connection, held: Held, reason: str, at: int) -> bool:
    """It will never be finished, and why."""
    done = {"state": FAILED, "reason": reason, "finished_at": at, "attempts": held.attempts + 1}
    return _settle(connection, held, done)


def find_recording(connection: Connection, call_id: str) -> Recording | None:
    """The recording of a call, None if none was owed."""
    row = connection.execute(select(recordings).where(recordings.c.call_id == call_id)).first()
    return Recording(**row._mapping) if row else None


def list_recordings(connection: Connection, state: str | None, limit: int) -> list[Recording]:
    """The newest recordings first, all or those in one state."""
    query = select(recordings).order_by(recordings.c.created_at.desc()).limit(limit)
    if state is not None:
        query = query.where(recordings.c.state == state)
    return [Recording(**row) for row in connection.execute(query).mappings()]


def ready_recordings(connection: Connection, call_ids: Collection[str]) -> list[Recording]:
    """Those of these calls whose recordings can be fetched."""
    query = select(recordings).where(recordings.c.state == READY, recordings.c.call_id.in_(call_ids))
    return [Recording(**row._mapping) for row in connection.execute(query)]


def expired(connection: Connection, now: int, limit: int) -> list[Recording]:
    """Ready recordings that must be deleted by now, the oldest first."""
    query = (
        select(recordings)
        .where(recordings.c.state == READY, recordings.c.expires_at <= now)
        .order_by(recordings.c.expires_at)
        .limit(limit)
    )
    return [Recording(**row._mapping) for row in connection.execute(query)]


def mark_purged(connection: Connection, call_id: str) -> None:
    """Its file has been deleted."""
    query = update(recordings).where(recordings.c.call_id == call_id, recordings.c.state == READY)
    connection.execute(query.values(state=PURGED, key=None))


def owners(connection: Connection, call_ids: Collection[str]) -> set[str]:
    """Those of these calls whose raw files are still needed: not over, or their recording is pending."""
    live = select(calls.c.call_id).where(calls.c.call_id.in_(call_ids), calls.c.ended_at.is_(None))
    pending = select(recordings.c.call_id).where(
        recordings.c.call_id.in_(call_ids), recordings.c.state == PENDING
    )
    return {*connection.scalars(live), *connection.scalars(pending)}


def call_and_seq(connection: Connection, held: Held) -> tuple[Call, int] | None:
    """The call of a recording, and the number that a push about it gets: one above the call's highest."""
    found = find_call(connection, held.app_id, held.call_id)
    highest = select(func.max(pushes.c.seq)).where(pushes.c.call_id == held.call_id)
    return (found[0], (connection.scalar(highest) or 0) + 1) if found else None


def _settle(connection: Connection, held: Held, changes: dict[str, Any]) -> bool:
    query = update(recordings).where(
        recordings.c.call_id == held.call_id,
        recordings.c.state == PENDING,
        recordings.c.next_at == held.until,
    )
    return connection.execute(query.values(**changes)).rowcount > 0
