"""How this process and the trunks are at this moment."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel
from sqlalchemy import Connection

from huibo import model
from huibo.model import TrunkState
from huibo.office.errors import NotFound
from huibo.ports import Engine
from huibo.storage import catalog
from huibo.storage.cells import list_cells
from huibo.storage.locks import LockKind, find_lock
from huibo.storage.usage import legs_on


class TrunkLock(BaseModel):
    """Why no call goes over a trunk, and until when (UNIX ms)."""

    reason: str
    until: int


class TrunkHealth(BaseModel):
    """A trunk as it is. What is null is not known: it is not asked after, or not bounded.

    `usable`: new calls may take it, if it has a channel left.
    """

    name: str
    state: TrunkState
    usable: bool
    reachable: bool | None
    registered: bool | None
    roundtrip_ms: float | None
    channels_in_use: int
    channels: int | None
    lock: TrunkLock | None


class CellHealth(BaseModel):
    """A process with its Asterisk. `live_calls`: those that it carries. `draining`: it takes no more.

    `silent_ms`: so long ago it was heard of last; a cell that is dead is still listed.
    """

    name: str
    base_url: str
    version: str
    engine_ready: bool
    live_calls: int
    silent_ms: int
    draining: bool = False


class Health(BaseModel):
    """All that takes calls. `ok`: this process can place one over at least one trunk."""

    ok: bool
    cells: list[CellHealth]
    trunks: list[TrunkHealth]


def health(connection: Connection, cell: CellHealth, engine: Engine, now: int) -> Health:
    trunks = [_trunk(connection, trunk, engine, now) for trunk in catalog.list_trunks(connection)]
    listed = list_cells(connection)
    own = cell.model_copy(update={"draining": any(one.draining for one in listed if one.name == cell.name)})
    ok = own.engine_ready and not own.draining and any(trunk.usable for trunk in trunks)
    others = [CellHealth(**asdict(one)) for one in listed if one.name != cell.name]
    return Health(ok=ok, cells=[own, *others], trunks=trunks)


def trunk_health(connection: Connection, name: str, engine: Engine, now: int) -> TrunkHealth:
    """Raises `NotFound`."""
    trunk = catalog.find_trunk(connection, name)
    if trunk is None:
        raise NotFound("trunk", name)
    return _trunk(connection, trunk, engine, now)


def _trunk(connection: Connection, trunk: model.Trunk, engine: Engine, now: int) -> TrunkHealth:
    line = engine.line(trunk.name)
    lock = find_lock(connection, LockKind.TRUNK, trunk.name, now)
    return TrunkHealth(
        name=trunk.name,
        state=trunk.state,
        usable=trunk.state is TrunkState.ACTIVE and line.usable and lock is None,
        reachable=line.reachable,
        registered=line.registered,
        roundtrip_ms=line.roundtrip_ms,
        channels_in_use=legs_on(connection, trunk.name),
        channels=trunk.channels,
        lock=TrunkLock(reason=lock.reason, until=lock.until) if lock else None,
    )
