"""The secrets that apps' pushes are signed with: units of work. They appear in no log and no answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Dialect, Select, bindparam, delete, insert, or_, select, update

from huibo.storage.dialects import one_of
from huibo.storage.prepared import Prepared
from huibo.storage.tables import push_secrets


@dataclass(frozen=True, slots=True)
class PushSecret:
    """One secret of an app. `expires_at`: when it signs no longer, once another has taken its place."""

    id: int
    app_id: str
    secret: str = field(repr=False)
    created_at: int
    expires_at: int | None


def _select_living(dialect: Dialect) -> Select[tuple[int, str, str, int, int | None]]:
    living = or_(push_secrets.c.expires_at.is_(None), push_secrets.c.expires_at > bindparam("now"))
    of_apps = one_of(dialect, push_secrets.c.app_id, "app_ids")
    return select(push_secrets).where(of_apps, living).order_by(push_secrets.c.id.desc())


_living = Prepared(_select_living)


def signing(connection: Connection, app_ids: Collection[str], now: int) -> dict[str, tuple[str, ...]]:
    """What signs the pushes of these apps now, the newest first; apps without a secret are not in it."""
    found: dict[str, tuple[str, ...]] = {}
    if app_ids:
        for row in _living.all(connection, {"app_ids": list(app_ids), "now": now}):
            one = PushSecret(*row)
            found[one.app_id] = (*found.get(one.app_id, ()), one.secret)
    return found


def list_secrets(connection: Connection, app_id: str, now: int) -> list[PushSecret]:
    """The secrets of an app that sign, the newest first."""
    return [PushSecret(*row) for row in _living.all(connection, {"app_ids": [app_id], "now": now})]


def add_secret(connection: Connection, app_id: str, secret: str, at: int) -> int:
    """Returns its id."""
    row = {"app_id": app_id, "secret": secret, "created_at": at}
    added = connection.execute(insert(push_secrets).values(row).returning(push_secrets.c.id))
    return int(added.scalar_one())


def expire(connection: Connection, secret_id: int, at: int) -> None:
    """Have a secret sign until then."""
    connection.execute(update(push_secrets).where(push_secrets.c.id == secret_id).values(expires_at=at))


def keep_only(connection: Connection, app_id: str, kept: Sequence[int] = ()) -> None:
    """Delete the secrets of an app, but those with these ids."""
    gone = delete(push_secrets).where(push_secrets.c.app_id == app_id, push_secrets.c.id.not_in(list(kept)))
    connection.execute(gone)
