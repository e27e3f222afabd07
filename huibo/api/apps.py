"""Routes of apps and of the secrets that sign their pushes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from huibo.api.parts import Admin, Key, Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import apps, secrets
from huibo.office.apps import App, AppChange, NewApp
from huibo.office.page import Page
from huibo.office.secrets import NewPushSecret, PushSecret, Rotation

router = APIRouter(prefix="/apps", tags=["apps"])


@router.get("")
async def list_apps(office: Viewer, query: Annotated[Paging, Query()]) -> Page[App]:
    return await office.read(apps.page, query.cursor, query.limit)


@router.post("", status_code=201, responses=documented(409))
async def add_app(office: Operator, new: NewApp) -> App:
    return await office.write(apps.add, new)


@router.get("/{app_id}", responses=documented(404))
async def show_app(office: Viewer, app_id: Key) -> App:
    return await office.read(apps.find, app_id)


@router.patch("/{app_id}", responses=documented(404))
async def change_app(office: Operator, app_id: Key, changes: AppChange) -> App:
    """Change what is given. Calls under way go on as they began."""
    return await office.write(apps.change, app_id, changes)


@router.delete("/{app_id}", status_code=204, responses=documented(404, 409))
async def remove_app(office: Operator, app_id: Key) -> None:
    """Refused while it has calls under way. Its calls, records and account stay."""
    await office.write(apps.remove, app_id)


@router.get("/{app_id}/secrets", responses=documented(404))
async def list_secrets(office: Admin, app_id: Key) -> list[PushSecret]:
    """The secrets that sign the app's pushes, the newest first; never the secrets themselves."""
    return await office.read(secrets.page, app_id, office.now)


@router.post("/{app_id}/secrets", status_code=201, responses=documented(404))
async def rotate_secret(office: Admin, app_id: Key, rotation: Rotation) -> NewPushSecret:
    """Make a new secret, which is shown this once. Those before it go on signing for a time."""
    return await office.write(secrets.rotate, app_id, rotation, office.parts.keep_old_secret_s)


@router.delete("/{app_id}/secrets", status_code=204, responses=documented(404))
async def remove_secrets(office: Admin, app_id: Key) -> None:
    """Sign the app's pushes no longer."""
    await office.write(secrets.remove_all, app_id)
