"""Routes of pushes and their targets: to see them, to have pushes sent once more and targets enabled."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from huibo.api.parts import Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import push_targets, pushes
from huibo.office.page import Page
from huibo.office.push_targets import Named, PushTarget
from huibo.office.pushes import Push, PushWithBody, Range, Replayed, ReplayRange

router = APIRouter(tags=["pushes"])

Id = Annotated[int, Path(ge=1, lt=2**53)]


class PushesQuery(Range, Paging):
    """Which pushes are listed."""


class TargetsQuery(Paging):
    """Which targets are listed. `disabled`: only those that are, or are not."""

    app_id: Annotated[str, Field(max_length=64)] | None = None
    disabled: bool | None = None


@router.get("/pushes")
async def list_pushes(office: Viewer, query: Annotated[PushesQuery, Query()]) -> Page[Push]:
    """Pushes, the newest first."""
    wanted = Range(**query.model_dump(exclude={"cursor", "limit"}))
    return await office.read(pushes.page, wanted, query.cursor, query.limit)


@router.get("/pushes/{push_id}", responses=documented(404))
async def show_push(office: Viewer, push_id: Id) -> PushWithBody:
    return await office.read(pushes.show, push_id)


@router.post("/pushes/{push_id}:replay", status_code=202, responses=documented(404))
async def replay_push(office: Operator, push_id: Id) -> Push:
    """Send a push once more, whatever became of it."""
    replayed = await office.write(pushes.replay, push_id)
    office.parts.pushes_owed()
    return replayed


@router.post("/pushes:replay", status_code=202)
async def replay_pushes(
    office: Operator, wanted: ReplayRange, cursor: Annotated[str | None, Query(max_length=500)] = None
) -> Replayed:
    """Send many pushes once more, the oldest first. `next`: ask again with it for those that are left."""
    replayed = await office.write(pushes.replay_range, wanted, cursor)
    office.parts.pushes_owed()
    return replayed


@router.get("/push-targets")
async def list_targets(office: Viewer, query: Annotated[TargetsQuery, Query()]) -> Page[PushTarget]:
    """The URLs whose pushes fail, and those that get none any more, by app and URL."""
    return await office.read(push_targets.page, query.app_id, query.disabled, query.cursor, query.limit)


@router.post("/push-targets:enable", responses=documented(404))
async def enable_target(office: Operator, named: Named) -> PushTarget:
    """Have a disabled URL get pushes again. Answers what it was; what it missed is for `/pushes:replay`."""
    return await office.write(push_targets.enable, named)
