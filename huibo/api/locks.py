"""Routes of locks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from huibo.api.parts import Key, Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import locks
from huibo.office.locks import Lock, NewLock
from huibo.office.page import Page
from huibo.storage.locks import LockKind

router = APIRouter(prefix="/locks", tags=["locks"])


class LocksQuery(Paging):
    """Which locks are listed."""

    kind: LockKind | None = None


@router.get("")
async def list_locks(office: Viewer, query: Annotated[LocksQuery, Query()]) -> Page[Lock]:
    """The locks in force: on addresses, apps and trunks."""
    return await office.read(locks.page, office.now, query.kind, query.cursor, query.limit)


@router.put("")
async def put_lock(office: Operator, new: NewLock) -> Lock:
    """Lock something for some minutes, in place of the lock that there was."""
    return await office.write(locks.put, new)


@router.delete("/{kind}/{subject}", status_code=204, responses=documented(404))
async def lift_lock(office: Operator, kind: LockKind, subject: Key) -> None:
    """End a lock before its time."""
    await office.write(locks.lift, kind, subject)
