"""Cells, as an operator has them take no more calls before they are stopped for good."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import Connection

from huibo.office.author import Author
from huibo.office.errors import NotFound
from huibo.storage import cells
from huibo.storage.usage import calls_of


class Draining(BaseModel):
    """How far a cell is with its calls. `live_calls`: those that it has accepted and not yet ended.

    `silent_ms`: so long ago it was heard of last.
    """

    name: str
    draining: bool
    live_calls: int
    silent_ms: int


def find(connection: Connection, name: str) -> Draining:
    """Raises `NotFound`."""
    found = next((one for one in cells.list_cells(connection) if one.name == name), None)
    if found is None:
        raise NotFound("cell", name)
    return Draining(
        name=name,
        draining=found.draining,
        live_calls=calls_of(connection, name),
        silent_ms=found.silent_ms,
    )


def drain(connection: Connection, by: Author, name: str, draining: bool) -> Draining:
    """Have a cell take no more calls (-501), or take calls again. Those it has go on. Raises `NotFound`."""
    before = find(connection, name)
    cells.drain(connection, name, draining)
    after = find(connection, name)
    if after.draining is not before.draining:
        by.note(connection, "drain" if draining else "undrain", "cell", name, before, after)
    return after
