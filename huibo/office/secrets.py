"""The secrets that apps' pushes are signed with, as an operator makes and removes them.

A secret is shown once, to whoever made it; after that only which one it is.
"""

from __future__ import annotations

import hashlib
from secrets import token_bytes
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import Connection

from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.push.signing import key_of, secret_of
from huibo.storage import push_secrets
from huibo.storage.catalog import find_app

_KIND = "push secret"
_BYTES = 32
_MOST = 3  # at once: each costs a signature in every push
_LONGEST_S = 30 * 24 * 3600


def _well_formed(secret: SecretStr) -> SecretStr:
    key_of(secret.get_secret_value())
    return secret


class Rotation(BaseModel):
    """A new secret for an app.

    `keep_old_s`: how long those before it go on signing too; null: as configured. `secret`: one that the
    customer has already, in place of a new one.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keep_old_s: Annotated[int, Field(ge=0, le=_LONGEST_S)] | None = None
    secret: Annotated[SecretStr, AfterValidator(_well_formed)] | None = None


class PushSecret(BaseModel):
    """A secret that signs. `fingerprint`: how its SHA-256 begins.

    Times in UNIX ms; `expires_at`: when it signs no longer, null: there is no newer one.
    """

    id: int
    app_id: str
    fingerprint: str
    created_at: int
    expires_at: int | None


class NewPushSecret(PushSecret):
    """A secret as it is shown once."""

    secret: str = Field(repr=False)


def page(connection: Connection, app_id: str, now: int) -> list[PushSecret]:
    """The secrets that sign an app's pushes, the newest first; there are never more than three."""
    _check_app(connection, app_id)
    return [_shown(one) for one in push_secrets.list_secrets(connection, app_id, now)]


def rotate(
    connection: Connection, by: Author, app_id: str, rotation: Rotation, keep_old_s: int
) -> NewPushSecret:
    """Give an app a new secret, its first or another. The old ones sign on for a time, at most two of them.

    `keep_old_s`: as configured, where the rotation does not say. Raises `NotFound` and `Invalid`.
    """
    _check_app(connection, app_id, lock=True)
    given = rotation.secret and rotation.secret.get_secret_value()
    old = push_secrets.list_secrets(connection, app_id, by.at)
    if given in [one.secret for one in old]:
        raise Invalid("secret", "signs already")
    until = by.at + 1000 * (keep_old_s if rotation.keep_old_s is None else rotation.keep_old_s)
    stays = old[: _MOST - 1] if until > by.at else []
    push_secrets.keep_only(connection, app_id, [one.id for one in stays])
    for one in stays:
        if one.expires_at is None or one.expires_at > until:
            push_secrets.expire(connection, one.id, until)
    secret = given or secret_of(token_bytes(_BYTES))
    made = push_secrets.add_secret(connection, app_id, secret, by.at)
    new = _shown(push_secrets.PushSecret(made, app_id, secret, by.at, None))
    by.note(connection, "rotate", _KIND, app_id, before=_shown(old[0]) if old else None, after=new)
    return NewPushSecret(**new.model_dump(), secret=secret)


def remove_all(connection: Connection, by: Author, app_id: str) -> int:
    """Sign the app's pushes no longer. Returns how many secrets it had; raises `NotFound`."""
    _check_app(connection, app_id, lock=True)
    old = push_secrets.list_secrets(connection, app_id, by.at)
    push_secrets.keep_only(connection, app_id)
    for one in old:
        by.note(connection, "remove", _KIND, app_id, before=_shown(one))
    return len(old)


def _check_app(connection: Connection, app_id: str, lock: bool = False) -> None:
    if find_app(connection, app_id, lock) is None:
        raise NotFound("app", app_id)


def _shown(one: push_secrets.PushSecret) -> PushSecret:
    return PushSecret(
        id=one.id,
        app_id=one.app_id,
        fingerprint=hashlib.sha256(one.secret.encode()).hexdigest()[:12],
        created_at=one.created_at,
        expires_at=one.expires_at,
    )
