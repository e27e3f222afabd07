"""Routes of the cells: their health and the trunks', for people (probes ask `health`), and draining."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from huibo.api.parts import Key, Operator, Viewer
from huibo.api.problems import documented
from huibo.office import cells, health
from huibo.office.cells import Draining
from huibo.office.health import CellHealth, Health

router = APIRouter()


@router.get("/health", tags=["health"])
async def show_health(office: Viewer) -> Health:
    """This process with its Asterisk, the other cells, and every trunk as this one sees it at this moment."""
    parts = office.parts
    cell = CellHealth(**asdict(parts.about()), silent_ms=0)
    return await office.read(health.health, cell, parts.engine, office.now)


@router.post("/cells/{name}:drain", tags=["cells"], responses=documented(404))
async def drain_cell(office: Operator, name: Key) -> Draining:
    """Have a cell take no more calls (-501); those it has go on. Its next start ends this."""
    return await office.write(cells.drain, name, True)


@router.post("/cells/{name}:undrain", tags=["cells"], responses=documented(404))
async def undrain_cell(office: Operator, name: Key) -> Draining:
    """Have a cell take calls again."""
    return await office.write(cells.drain, name, False)
