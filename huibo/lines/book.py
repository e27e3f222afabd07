"""The trunks as this process knows them: read from the database again and again, and at once when asked.

The database is the truth; whoever enters a trunk, here or on the command line, need tell nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from huibo.model import Trunk
from huibo.storage.catalog import list_trunks
from huibo.storage.database import Database

log = structlog.get_logger()


class TrunkBook:
    """All trunks by name. `run` keeps it up to date; `on_change` is called first and after each change."""

    def __init__(self, database: Database, look_s: float) -> None:
        """`look_s`: so soon a change made elsewhere counts."""
        self._database = database
        self._look_s = look_s
        self._trunks: dict[str, Trunk] = {}
        self._known = False
        self._woken = asyncio.Event()
        self.on_change: Callable[[Mapping[str, Trunk]], Awaitable[None]] | None = None

    def __getitem__(self, name: str) -> Trunk:
        """A trunk. KeyError: there is none of that name, as far as is known."""
        return self._trunks[name]

    @property
    def trunks(self) -> Mapping[str, Trunk]:
        return self._trunks

    def wake(self) -> None:
        """Trunks have been changed in this process."""
        self._woken.set()

    async def refresh(self) -> None:
        """Read the trunks now."""
        found = {trunk.name: trunk for trunk in await self._database.read(list_trunks)}
        if self._known and found == self._trunks:
            return
        self._trunks, self._known = found, True
        if self.on_change is not None:
            await self.on_change(found)

    async def find(self, name: str) -> Trunk | None:
        """A trunk, also when it has only just been entered."""
        if name not in self._trunks:
            await self.refresh()
        return self._trunks.get(name)

    async def run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.refresh()
            except Exception as error:
                log.error("trunks not read, trying again", reason=str(error).partition("\n")[0])
            try:
                async with asyncio.timeout(self._look_s):
                    await self._woken.wait()
            except TimeoutError:
                pass
