"""The targets of pushes that fail, and those that get none any more: units of work.

A target is an app's URL without its query string. One that works has no row and costs nothing. When one is
to be disabled is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from huibo.storage.outbox import DEAD, PENDING, REPLAY_LANE, receiver_of
from huibo.storage.tables import audit, push_targets, pushes

_LONGEST = 500  # characters: an index of PostgreSQL takes no more than 2700 bytes
_KEPT_PER_APP = 100  # an app with an id in its path has a target for each call
PLATFORM = "huibo"  # who disables, in the audit log

Key = tuple[str, str]  # app and target


class PushTarget(NamedTuple):
    """A target that fails. Times in UNIX ms; `failed_at` to the hour; `reason`: why it is disabled."""

    app_id: str
    target: str
    failing_since: int
    failed_at: int
    last_error: str
    disabled_at: int | None = None
    reason: str | None = None


class Failure(NamedTuple):
    """What is to be known of a target from now on: it failed (`at`, UNIX ms), `since` then nothing else."""

    key: Key
    at: int
    error: str
    since: int
    disable: str | None = None  # why it is to get no pushes any more


@lru_cache(4096)
def target_of(url: str) -> str:
    """The target that a URL belongs to: no user, query or fragment. Never raises."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "unusable"
    host = parts.hostname
    if not parts.scheme or not host:
        return "unusable"
    host = f"[{host}]" if ":" in host else host
    usual = port is None or port == (443 if parts.scheme == "https" else 80)
    shown = f"{parts.scheme}://{host}{'' if usual else f':{port}'}{parts.path or '/'}"
    return shown[:_LONGEST]


def key_of(app_id: str, url: str) -> Key:
    return app_id, target_of(url)


def load(connection: Connection) -> dict[Key, PushTarget]:
    """All targets that fail or are disabled."""
    rows = map(PushTarget._make, connection.execute(select(push_targets)))
    return {(row.app_id, row.target): row for row in rows}


def list_targets(
    connection: Connection, app_id: str | None, disabled: bool | None, after: Key, limit: int
) -> list[PushTarget]:
    """Targets by app and URL, behind `after`. `disabled`: only those that are, or are not."""
    query = select(push_targets).order_by(push_targets.c.app_id, push_targets.c.target).limit(limit)
    if app_id is not None:
        query = query.where(push_targets.c.app_id == app_id)
    if disabled is not None:
        query = query.where(push_targets.c.disabled_at.is_not(None) == disabled)
    if after != ("", ""):
        query = query.where(tuple_(push_targets.c.app_id, push_targets.c.target) > after)
    return [PushTarget._make(row) for row in connection.execute(query)]


def find_disabled(connection: Connection, key: Key) -> PushTarget | None:
    query = select(push_targets).where(*_is(key), push_targets.c.disabled_at.is_not(None))
    row = connection.execute(query).first()
    return PushTarget._make(row) if row else None


def disabled_among(connection: Connection, ids: Collection[int]) -> set[Key]:
    """The disabled targets that pushes with these ids are owed to."""
    owed = select(pushes.c.app_id, pushes.c.url, push_targets.c.target).distinct()
    owed = owed.join(push_targets, push_targets.c.app_id == pushes.c.app_id)
    rows = connection.execute(owed.where(pushes.c.id.in_(ids), push_targets.c.disabled_at.is_not(None)))
    return {(row.app_id, row.target) for row in rows if target_of(row.url) == row.target}


def forget(connection: Connection, keys: Iterable[Key], *, disabled: bool = False) -> None:
    """These targets work. One that is disabled stays so, unless `disabled` is given."""
    for key in sorted(keys):
        gone = delete(push_targets).where(*_is(key))
        connection.execute(gone if disabled else gone.where(push_targets.c.disabled_at.is_(None)))


def fail(connection: Connection, failures: Iterable[Failure], stale_before: int) -> list[PushTarget]:
    """Write down what failed; returns what is disabled by it. An app has a bounded number of targets here.

    Those not disabled that failed last before `stale_before` (UNIX ms) are forgotten.
    """
    of_age = push_targets.c.failed_at < stale_before
    connection.execute(delete(push_targets).where(push_targets.c.disabled_at.is_(None), of_age))
    disabled = []
    for failure in sorted(failures):
        _write(connection, failure)
        if failure.disable is not None and (target := _disable(connection, failure)):
            disabled.append(target)
    return disabled


def bury(connection: Connection, key: Key, at: int, after: int, limit: int) -> int | None:
    """Give up pending pushes to a disabled target. Returns the id to go on behind; None: that was all."""
    target = find_disabled(connection, key)
    if target is None:
        return None
    receiver = receiver_of(target.target)
    pending = select(pushes.c.id, pushes.c.url).where(
        pushes.c.state == PENDING,
        pushes.c.receiver.in_([receiver, receiver + REPLAY_LANE]),
        pushes.c.app_id == target.app_id,
        pushes.c.id > after,
    )
    rows = connection.execute(pending.order_by(pushes.c.id).limit(limit)).all()
    dead = [row.id for row in rows if target_of(row.url) == target.target]
    if dead:
        given_up = update(pushes).where(pushes.c.id.in_(dead), pushes.c.state == PENDING)
        error = why_not_tried(target)
        connection.execute(given_up.values(state=DEAD, finished_at=at, last_error=error))
    return rows[-1].id if len(rows) == limit else None


def why_not_tried(target: PushTarget) -> str:
    """The last error of a push that is given up because its target is disabled."""
    return f"target disabled: {target.reason}"


def _write(connection: Connection, failure: Failure) -> None:
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    app_id, target = failure.key
    changed = {"failing_since": failure.since, "failed_at": failure.at, "last_error": failure.error}
    there = update(push_targets).where(*_is(failure.key), push_targets.c.disabled_at.is_(None))
    if connection.execute(there.values(**changed)).rowcount:
        return
    kept = select(func.count()).select_from(push_targets).where(push_targets.c.app_id == app_id)
    if connection.execute(kept).scalar_one() < _KEPT_PER_APP:
        row = {"app_id": app_id, "target": target} | changed
        connection.execute(kind.insert(push_targets).values(row).on_conflict_do_nothing())


def _disable(connection: Connection, failure: Failure) -> PushTarget | None:
    enabled = update(push_targets).where(*_is(failure.key), push_targets.c.disabled_at.is_(None))
    changed = enabled.values(disabled_at=failure.at, reason=failure.disable)
    row = connection.execute(changed.returning(push_targets)).first()
    if row is None:  # it is already, or there is no room for it
        return None
    target = PushTarget._make(row)
    noted = {"at": failure.at, "author": PLATFORM, "origin": PLATFORM, "action": "disable"}
    noted |= {"kind": "push target", "subject": f"{target.app_id}/{target.target}"}
    after = {"url" if name == "target" else name: value for name, value in target._asdict().items()}
    connection.execute(insert(audit), noted | {"before": None, "after": after})
    return target


def _is(key: Key) -> tuple[ColumnElement[bool], ...]:
    return push_targets.c.app_id == key[0], push_targets.c.target == key[1]
