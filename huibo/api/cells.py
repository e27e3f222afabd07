"""Route of the health of this process and the trunks, for people; what probes ask is `health`."""

from __future__ import annotations

from fastapi import APIRouter

from huibo import __version__
from huibo.api.parts import Viewer
from huibo.office import health
from huibo.office.health import CellHealth, Health

router = APIRouter(tags=["health"])


@router.get("/health")
async def show_health(office: Viewer) -> Health:
    """This process with its Asterisk, and every trunk, as they are at this moment."""
    parts = office.parts
    cell = CellHealth(
        base_url=parts.base_url,
        version=__version__,
        engine_ready=parts.engine.ready,
        live_calls=len(parts.live),
    )
    return await office.read(health.health, cell, parts.engine, office.now)
