"""The pushes owed: units of work.

A push is written in the transaction of the step that owes it and stays until delivered or dead. Status
pushes of one call leave in order and before whatever follows them: a pending one blocks the later pushes of
its call. One that is sent once more for an operator blocks only others like it. What may leave is chosen here
and nowhere else; several processes share an outbox by leases. What a process owes it may deliver without
looking for it here: `hand_over`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Text,
    bindparam,
    case,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from huibo.model import Push
from huibo.storage.prepared import Prepared
from huibo.storage.push_secrets import signing
from huibo.storage.tables import pushes

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
STATUS = "status"  # the kind whose order is kept
REPLAY_LANE = " replay"  # behind a receiver's name: what is sent there once more, beside what is new
HANDED_MS = 90_000  # so long what is handed over is nobody else's: an attempt, and clocks that differ


class OwedPush(NamedTuple):
    """A push as the deliverer sees it. `attempts` counts those already made, `receiver` see `receiver_of`."""

    id: int
    call_id: str
    app_id: str
    kind: str
    seq: int
    url: str
    receiver: str
    body: bytes
    attempts: int
    replayed_at: int | None = None  # which is how a verdict knows that it comes too late
    created_at: int = 0


class Lease(NamedTuple):
    """By whom pushes are attempted, and until when (UNIX ms) they are nobody else's."""

    cell: str
    until: int


class Handed(NamedTuple):
    """Pushes of one call in their order, written for this process to deliver, and what signs them.

    `behind`: earlier ones that block them were still pending then.
    """

    pushes: tuple[OwedPush, ...] = ()
    behind: bool = False
    secrets: tuple[str, ...] = ()


class Waiting(NamedTuple):
    """A receiver with pending pushes: when the first became due, and the first after now. UNIX ms.

    What became due may still be under way, or blocked by an earlier push of its call.
    """

    receiver: str
    first_at: int
    later_at: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a push. `at` (UNIX ms): of a pending push its next attempt, of others their end.

    `tried`: by an attempt; else what is known of its last attempt's error stays unless there is another.
    """

    push: OwedPush
    state: str
    at: int
    error: str | None = None
    tried: bool = True


@lru_cache(4096)
def receiver_of(url: str) -> str:
    """The receiver that a URL belongs to: scheme, host and port. Never raises: a step must not fail by it."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "unusable"
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def add_pushes(connection: Connection, owed: Sequence[Push], at: int) -> None:
    """Write pushes; they are due at once (UNIX ms `at`), or when the push that blocks them is."""
    _add.run_many(connection, [_row(push, at, None) for push in owed])


def hand_over(connection: Connection, owed: Sequence[Push], cell: str, at: int) -> Handed:
    """Write pushes of one call as `add_pushes` does, to be delivered by this process once that is committed.

    Where there are others, these are kept from them for `HANDED_MS`.
    """
    if not owed:
        return Handed()
    lease = None if connection.dialect.name == "sqlite" else Lease(cell, at + HANDED_MS)
    owed = sorted(owed, key=lambda push: push.seq)
    first, last = owed[0], owed[-1]
    _add.run_many(connection, [_row(push, at, lease) for push in owed])
    ids, behind = {}, False
    pending = _pending_until.all(connection, {"of_call": first.call_id, "last": last.seq})
    for number, seq, kind, receiver in pending:
        if seq >= first.seq:
            ids[seq] = number
        elif kind == STATUS and not receiver.endswith(REPLAY_LANE):
            behind = True
    handed = tuple(_owed_push(ids[push.seq], push, at) for push in owed)
    return Handed(handed, behind, signing(connection, {first.app_id}, at).get(first.app_id, ()))


def waiting(connection: Connection, now: int) -> list[Waiting]:
    """All receivers with pending pushes. Costs a few index look-ups a receiver, however many wait there."""
    return [Waiting._make(row) for row in _waiting.all(connection, {"now": now})]


def due_pushes(
    connection: Connection, receiver: str, now: int, limit: int, lease: Lease | None = None
) -> list[OwedPush]:
    """The pushes for a receiver that may leave now, those that are due longest first.

    `lease`: nobody else gets them until it ends, or until their verdict.
    """
    query = _due if lease is None else _due_to_lease
    rows = query.all(connection, {"receiver": receiver, "now": now, "limit": limit})
    found = [OwedPush._make(row) for row in rows]
    if lease is not None:
        _lease.run_many(
            connection, [{"push": push.id, "cell": lease.cell, "until": lease.until} for push in found]
        )
    return found


def release(connection: Connection, cell: str, ids: Collection[int]) -> None:
    """This cell will not attempt these pushes: others may have them at once."""
    _release.run_many(connection, [{"push": push, "cell": cell} for push in sorted(ids)])


def end_leases(connection: Connection, cells: Collection[str]) -> None:
    """These cells make no attempt any more: others may have their pushes at once."""
    ended = update(pushes).where(pushes.c.leased_by.in_(cells))
    connection.execute(ended.values(leased_until=None, leased_by=None))


def save_verdicts(connection: Connection, verdicts: Sequence[Verdict]) -> None:
    """Count the attempts and store what they came to; not of a push that was begun anew meanwhile."""
    _save.run_many(connection, [_outcome(verdict) for verdict in verdicts])
    # What a failed status push blocks need not be looked at before it is: a dead receiver piles that up.
    blocking = [each for each in verdicts if each.state == PENDING and each.push.kind == STATUS]
    _postpone.run_many(
        connection,
        [{"of_call": each.push.call_id, "behind": each.push.seq, "until": each.at} for each in blocking],
    )


def in_replay_lane(table: FromClause) -> ColumnElement[bool]:
    """Whether a push is sent once more, out of the way of what is new."""
    return table.c.receiver.endswith(REPLAY_LANE)


def _select_waiting() -> Select[tuple[str, int, int | None]]:
    """Hops through the index from one receiver to the next, without touching the rows between."""
    pending = pushes.c.state == PENDING
    seed = select(func.min(pushes.c.receiver).label("receiver")).where(pending)
    hop = seed.cte("hop", recursive=True)
    following = select(func.min(pushes.c.receiver)).where(pending, pushes.c.receiver > hop.c.receiver)
    hop = hop.union_all(select(following.scalar_subquery()).where(hop.c.receiver.is_not(None)))
    first_at = select(func.min(pushes.c.next_at)).where(pending, pushes.c.receiver == hop.c.receiver)
    later_at = first_at.where(pushes.c.next_at > bindparam("now"))
    query = select(hop.c.receiver, first_at.scalar_subquery(), later_at.scalar_subquery())
    return query.where(hop.c.receiver.is_not(None)).order_by(hop.c.receiver)


def _select_due() -> Select[tuple[object, ...]]:
    earlier = pushes.alias("earlier")
    blocked = (
        select(earlier.c.id)
        .where(
            earlier.c.call_id == pushes.c.call_id,
            earlier.c.seq < pushes.c.seq,
            earlier.c.state == PENDING,
            earlier.c.kind == STATUS,
            or_(~in_replay_lane(earlier), in_replay_lane(pushes)),
        )
        .exists()
    )
    return (
        select(*(pushes.c[name] for name in OwedPush._fields))
        .where(
            pushes.c.state == PENDING,
            pushes.c.receiver == bindparam("receiver"),
            pushes.c.next_at <= bindparam("now"),
            or_(pushes.c.leased_until.is_(None), pushes.c.leased_until <= bindparam("now")),
            ~blocked,
        )
        .order_by(pushes.c.next_at, pushes.c.id)
        .limit(bindparam("limit"))
    )


_waiting = Prepared(_select_waiting())
_due = Prepared(_select_due())
_due_to_lease = Prepared(_select_due().with_for_update(of=pushes, skip_locked=True))
_lease = Prepared(
    update(pushes)
    .where(pushes.c.id == bindparam("push"))
    .values(leased_until=bindparam("until"), leased_by=bindparam("cell"))
)
_release = Prepared(
    update(pushes)
    .where(pushes.c.id == bindparam("push"), pushes.c.leased_by == bindparam("cell"))
    .values(leased_until=null(), leased_by=null())
)
_pending_until = Prepared(
    select(pushes.c.id, pushes.c.seq, pushes.c.kind, pushes.c.receiver).where(
        pushes.c.call_id == bindparam("of_call"),
        pushes.c.seq <= bindparam("last"),
        pushes.c.state == PENDING,
    )
)

_blocker = pushes.alias("blocker")
_blocked_until = select(func.max(_blocker.c.next_at)).where(
    _blocker.c.call_id == bindparam("of_call"),
    _blocker.c.seq < bindparam("before"),
    _blocker.c.state == PENDING,
    _blocker.c.kind == STATUS,
    ~in_replay_lane(_blocker),
    _blocker.c.next_at > bindparam("at"),
)
_ROW = ("call_id", "app_id", "kind", "seq", "url", "receiver", "body", "state", "attempts", "created_at")
_add = Prepared(
    insert(pushes).values(next_at=func.coalesce(_blocked_until.scalar_subquery(), bindparam("at"))),
    (*_ROW, "leased_until", "leased_by"),
)

_save = Prepared(
    update(pushes)
    .where(
        pushes.c.id == bindparam("push"),
        func.coalesce(pushes.c.replayed_at, 0) == bindparam("begun_at"),
    )
    .values(
        attempts=pushes.c.attempts + bindparam("tried", type_=Integer),
        state=bindparam("state"),
        next_at=bindparam("next_at"),
        finished_at=bindparam("finished_at"),
        last_error=case(
            (bindparam("tried", type_=Integer) == 1, bindparam("last_error", type_=Text)),
            else_=func.coalesce(bindparam("last_error", type_=Text), pushes.c.last_error),
        ),
        leased_until=null(),
        leased_by=null(),
    )
)

_holds_up = select(_blocker.c.id).where(
    _blocker.c.call_id == bindparam("of_call"),
    _blocker.c.seq == bindparam("behind"),
    _blocker.c.next_at == bindparam("until"),
    or_(~in_replay_lane(_blocker), in_replay_lane(pushes)),
)
_postpone = Prepared(
    update(pushes)
    .where(
        pushes.c.call_id == bindparam("of_call"),
        pushes.c.seq > bindparam("behind"),
        pushes.c.state == PENDING,
        pushes.c.next_at < bindparam("until"),
        _holds_up.exists(),
    )
    .values(next_at=bindparam("until"))
)


def _owed_push(number: int, push: Push, at: int) -> OwedPush:
    return OwedPush(
        number,
        push.call_id,
        push.app_id,
        push.kind,
        push.seq,
        push.url,
        receiver_of(push.url),
        push.body,
        attempts=0,
        created_at=at,
    )


def _row(push: Push, at: int, lease: Lease | None) -> dict[str, object]:
    return {
        "call_id": push.call_id,
        "app_id": push.app_id,
        "kind": push.kind,
        "seq": push.seq,
        "url": push.url,
        "receiver": receiver_of(push.url),
        "body": push.body,
        "state": PENDING,
        "attempts": 0,
        "created_at": at,
        "leased_until": lease and lease.until,
        "leased_by": lease and lease.cell,
        "at": at,
        "of_call": push.call_id,
        "before": push.seq,
    }


def _outcome(verdict: Verdict) -> dict[str, object]:
    return {
        "push": verdict.push.id,
        "begun_at": verdict.push.replayed_at or 0,
        "state": verdict.state,
        "next_at": verdict.at,
        "finished_at": None if verdict.state == PENDING else verdict.at,
        "last_error": verdict.error,
        "tried": int(verdict.tried),
    }
