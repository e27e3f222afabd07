"""Word between the processes on one PostgreSQL: that there is something to look for in a table.

A notice leaves with the commit of its transaction. It says where to look, never what there is: whoever misses
one finds it at the next look. On SQLite there is nobody to tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, Engine, func, select

from huibo.storage.database import watchful

log = structlog.get_logger()

_CHANNEL = "huibo"
_RETRY_S = 1.0


def tell(connection: Connection, topic: str, of: str = "") -> None:
    """Tell all processes, once this is committed. `of`: what the topic is about, if not everything.

    Seldom: in PostgreSQL all transactions that tell something commit one after the other.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(_CHANNEL, f"{topic} {of}")))


class Listener:
    """Hears what other processes tell; `on` says who is to know."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._heard: dict[str, list[Callable[[], None]]] = {}
        self.listening = False  # else look often

    def on(self, topic: str, wake: Callable[[], None], of: str = "") -> None:
        """Have `wake` called at each notice, and whenever one may have been missed. It must not block."""
        self._heard.setdefault(f"{topic} {of}", []).append(wake)

    async def run(self) -> None:
        """Listen until cancelled; without a server try again and again."""
        if self._engine.dialect.name != "postgresql":
            return
        told = False
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                if self.listening or not told:
                    log.warning("no notices of other processes", reason=str(error).partition("\n")[0])
                told = True
            self.listening = False
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        _, options = self._engine.dialect.create_connect_args(self._engine.url)
        given: dict[str, Any] = dict(options) | watchful(self._engine.url)
        async with await psycopg.AsyncConnection.connect(**given, autocommit=True) as connection:
            await connection.execute(f"LISTEN {_CHANNEL}".encode())
            self.listening = True
            for wakes in self._heard.values():
                _call(wakes)
            async for notice in connection.notifies():
                _call(self._heard.get(notice.payload, []))


def _call(wakes: list[Callable[[], None]]) -> None:
    for wake in wakes:
        wake()
