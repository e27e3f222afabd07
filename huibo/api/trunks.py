"""Routes of trunks. A change is told to the trunk book, so that it counts at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from huibo.api.parts import Key, Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import health, trunks
from huibo.office.health import TrunkHealth
from huibo.office.page import Page
from huibo.office.trunks import NewTrunk, Trunk, TrunkChange

router = APIRouter(prefix="/trunks", tags=["trunks"])


@router.get("")
async def list_trunks(office: Viewer, query: Annotated[Paging, Query()]) -> Page[Trunk]:
    return await office.read(trunks.page, query.cursor, query.limit)


@router.post("", status_code=201, responses=documented(409))
async def add_trunk(office: Operator, new: NewTrunk) -> Trunk:
    """Calls use it at once."""
    added = await office.write(trunks.add, new)
    office.parts.trunks.wake()
    return added


@router.get("/{name}", responses=documented(404))
async def show_trunk(office: Viewer, name: Key) -> Trunk:
    return await office.read(trunks.find, name)


@router.patch("/{name}", responses=documented(404))
async def change_trunk(office: Operator, name: Key, changes: TrunkChange) -> Trunk:
    """Change what is given; no call is cut. `{"state": "draining"}` has it take no new ones."""
    changed = await office.write(trunks.change, name, changes)
    office.parts.trunks.wake()
    return changed


@router.delete("/{name}", status_code=204, responses=documented(404, 409))
async def remove_trunk(office: Operator, name: Key) -> None:
    """Calls that are up on it stay. Refused while a number names it."""
    await office.write(trunks.remove, name)
    office.parts.trunks.wake()


@router.get("/{name}/health", responses=documented(404))
async def trunk_health(office: Viewer, name: Key) -> TrunkHealth:
    """How the trunk is at this moment."""
    return await office.read(health.trunk_health, name, office.parts.engine, office.now)
