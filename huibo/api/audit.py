"""Route of the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from huibo.api.parts import Paging, Viewer
from huibo.office import audit
from huibo.office.audit import Change
from huibo.office.page import Page

router = APIRouter(prefix="/audit", tags=["audit"])

Text = Annotated[str, Field(max_length=200)]


class AuditQuery(Paging):
    """Which changes are listed."""

    kind: Text | None = None
    subject: Text | None = None
    author: Text | None = None


@router.get("")
async def list_changes(office: Viewer, query: Annotated[AuditQuery, Query()]) -> Page[Change]:
    """Every change that an operator made, the newest first."""
    return await office.read(audit.page, query.kind, query.subject, query.author, query.cursor, query.limit)
