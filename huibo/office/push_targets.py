"""The targets of pushes as an operator sees them: those that fail, those that get no pushes any more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.office.author import Author
from huibo.office.errors import NotFound
from huibo.office.fields import Printable
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.storage import push_targets

_KIND = "push target"


class PushTarget(BaseModel):
    """An app's URL, without its query, that fails. Times in UNIX ms.

    `failing_since`: its attempts have done nothing but fail; `failed_at`: the last of them, to the hour;
    `disabled_at`: it gets no pushes any more, `reason` says why; null: it does.
    """

    app_id: str
    url: str
    failing_since: int
    failed_at: int
    last_error: str
    disabled_at: int | None
    reason: str | None


class Named(BaseModel, extra="forbid"):
    """Which target. Of `url` counts what stands before its query."""

    app_id: Annotated[Printable, Field(min_length=1, max_length=64)]
    url: Annotated[Printable, Field(min_length=1, max_length=2048)]


def page(
    connection: Connection,
    app_id: str | None = None,
    disabled: bool | None = None,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[PushTarget]:
    """The targets that fail, by app and URL. Raises `Invalid` for a bad cursor."""
    key = key_of(after, str, str) or ("", "")
    behind = str(key[0]), str(key[1])
    found = push_targets.list_targets(connection, app_id, disabled, behind, limit + 1)
    shown = [_target(one) for one in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].app_id, shown[-1].url) if len(found) > limit else None)


def enable(connection: Connection, by: Author, named: Named) -> PushTarget:
    """Have a target get pushes again; its failures are forgotten. Raises `NotFound` for one not disabled."""
    key = push_targets.key_of(named.app_id, named.url)
    found = push_targets.find_disabled(connection, key)
    if found is None:
        raise NotFound(_KIND, f"{named.app_id}/{key[1]} that is disabled")
    push_targets.forget(connection, [key], disabled=True)
    by.note(connection, "enable", _KIND, f"{key[0]}/{key[1]}", before=_target(found))
    return _target(found)


def enable_for(connection: Connection, by: Author, push_ids: Collection[int]) -> None:
    """Enable the targets of these pushes, as far as they are disabled."""
    for app_id, target in sorted(push_targets.disabled_among(connection, push_ids)):
        enable(connection, by, Named.model_construct(app_id=app_id, url=target))


def _target(found: push_targets.PushTarget) -> PushTarget:
    return PushTarget(
        app_id=found.app_id,
        url=found.target,
        failing_since=found.failing_since,
        failed_at=found.failed_at,
        last_error=found.last_error,
        disabled_at=found.disabled_at,
        reason=found.reason,
    )
