"""Route of the health of this process and the trunks, for people; what probes ask is `health`."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from huibo.api.parts import Viewer
from huibo.office import health
from huibo.office.health import CellHealth, Health

router = APIRouter(tags=["health"])


@router.get("/health")
async def show_health(office: Viewer) -> Health:
    """This process with its Asterisk, the other cells, and every trunk as this one sees it at this moment."""
    parts = office.parts
    cell = CellHealth(**asdict(parts.about()), silent_ms=0)
    return await office.read(health.health, cell, parts.engine, office.now)
