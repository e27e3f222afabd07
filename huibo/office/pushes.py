"""Pushes, as an operator sees them and has them sent once more.

Whoever calls wakes the deliverer of its process once the change is committed; that of another one finds it
by itself within seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.office import push_targets
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.push.signing import id_of
from huibo.storage import pushes
from huibo.storage.outbox import DEAD, DELIVERED, PENDING

_KIND = "push"
_A_TIME = 1000  # pushes replayed in one transaction, so that calls do not wait for it


class PushKind(StrEnum):
    """What a push tells."""

    STATUS = "status"
    KEY = "key"
    CDR = "cdr"
    RECORDING = "recording"


class PushState(StrEnum):
    """What has become of a push."""

    PENDING = PENDING
    DELIVERED = DELIVERED
    DEAD = DEAD  # given up


Moment = Annotated[int, Field(ge=0, lt=2**53)]


class Range(BaseModel, extra="forbid"):
    """Which pushes are meant; null: whatever it is. Owed from `since` until before `until`, UNIX ms."""

    app_id: Annotated[str, Field(max_length=64)] | None = None
    call_id: Annotated[str, Field(max_length=64)] | None = None
    kind: PushKind | None = None
    state: PushState | None = None
    since: Moment | None = None
    until: Moment | None = None


class ReplayRange(Range):
    """Which pushes are to be sent once more: those given up, unless it says otherwise."""

    state: PushState = PushState.DEAD


class Push(BaseModel):
    """A push. Times in UNIX ms: owed, next attempt (of a pending one), end, last sent anew by an operator.

    `attempts`: since it was owed or sent anew. `webhook_id`: how its receiver knows it.
    """

    id: int
    webhook_id: str
    app_id: str
    call_id: str
    kind: PushKind
    seq: int
    url: str
    state: PushState
    attempts: int
    last_error: str | None
    created_at: int
    next_at: int | None
    finished_at: int | None
    replayed_at: int | None


class PushWithBody(Push):
    """A push and what it says, as it is sent."""

    body: str


class Replayed(BaseModel):
    """How many pushes will be sent once more; `next`: the cursor for those that are left, null: none are."""

    count: int
    next: str | None = None


def page(
    connection: Connection, wanted: Range, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Push]:
    """Pushes, the newest first. Raises `Invalid` for a bad cursor."""
    key = key_of(after, int)
    found = pushes.list_pushes(connection, _wanted(wanted), int(key[0]) if key else None, limit + 1)
    shown = [_push(one) for one in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].id) if len(found) > limit else None)


def show(connection: Connection, push_id: int) -> PushWithBody:
    """Raises `NotFound`."""
    found = pushes.find_push(connection, push_id) if 0 < push_id < 2**63 else None
    if found is None:
        raise NotFound(_KIND, str(push_id))
    stored, body = found
    return PushWithBody(**_push(stored).model_dump(), body=body.decode(errors="replace"))


def replay(connection: Connection, by: Author, push_id: int) -> Push:
    """Have a push sent at once, whatever became of it, its schedule beginning anew. Raises `NotFound`.

    A target that is disabled is enabled by it.
    """
    before = show(connection, push_id)
    push_targets.enable_for(connection, by, [push_id])
    pushes.replay(connection, [push_id], by.at)
    after = show(connection, push_id)
    by.note(connection, "replay", _KIND, str(push_id), _without_body(before), _without_body(after))
    return _without_body(after)


def replay_range(
    connection: Connection, by: Author, wanted: ReplayRange, after: str | None = None, most: int = _A_TIME
) -> Replayed:
    """Have many pushes sent at once, the oldest first; the rest is for further transactions, by the cursor.

    Targets that are disabled are enabled by it. Raises `Invalid` for a bad cursor and for a period that is
    none.
    """
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise Invalid("since", "not before until")
    key = key_of(after, int)
    found = pushes.ids_of(connection, _wanted(wanted), int(key[0]) if key else 0, most + 1)
    chosen = found[:most]
    if chosen:
        push_targets.enable_for(connection, by, chosen)
        pushes.replay(connection, chosen, by.at)
        subject = f"{chosen[0]}-{chosen[-1]}" if len(chosen) > 1 else str(chosen[0])
        by.note(connection, "replay", _KIND, subject, before=wanted, after=Replayed(count=len(chosen)))
    return Replayed(count=len(chosen), next=cursor(chosen[-1]) if len(found) > most else None)


def _wanted(wanted: Range) -> pushes.Wanted:
    return pushes.Wanted(**wanted.model_dump())


def _without_body(push: PushWithBody) -> Push:
    return Push(**push.model_dump(exclude={"body"}))


def _push(stored: pushes.StoredPush) -> Push:
    every = stored._asdict()
    every |= {"url": public_url(stored.url), "webhook_id": id_of(stored.call_id, stored.seq)}
    every["next_at"] = stored.next_at if stored.state == PENDING else None
    return Push(**every)


def public_url(url: str) -> str:
    """A URL without the password in it, if it has one."""
    try:
        parts = urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        shown = f"{user.partition(':')[0]}:***@{host}" if at and ":" in user else parts.netloc
        return urlunsplit(parts._replace(netloc=shown))
    except ValueError:
        return url
