"""huibo as a process with the double for an engine, on a database of one's choice.

Furnishes what is measured, the double's or not: an app for which every check of admission has to look.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import SOCK_STREAM
from typing import TypeVar, cast

import aiohttp
from sqlalchemy import Connection

from huibo.model import App, AppSettings, DisplayNumber, Trunk
from huibo.rating import Rate
from huibo.stack.children import Child
from huibo.stack.ports import free
from huibo.storage import accounts, catalog, rates
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate

T = TypeVar("T")

APP = "bench"
_NUMBERS = ("02131264133", "075561948986", "4001360123")
_NO_LIMIT = 10**6
# Every check of admission has something to look at.
SETTINGS = AppSettings(
    calls_per_second=_NO_LIMIT,
    calls_at_once=_NO_LIMIT,
    callee_per_hour=_NO_LIMIT,
    callee_per_day=_NO_LIMIT,
    hours=("00:00-24:00",),
    rate_plan="bench",
    prepaid=True,
)


@dataclass(frozen=True, slots=True)
class Server:
    """A huibo that answers at 127.0.0.1:`port`; it took `ready_s` from its start to that."""

    port: int
    child: Child
    ready_s: float

    @property
    def pid(self) -> int:
        return self.child.pid

    def client(self, fields: Mapping[str, str], apps: Sequence[str] = (APP,)) -> tuple[str, ...]:
        """The words that place calls there; bench.load's options are to be added."""
        return (
            *(sys.executable, "-m", "bench.client", "--port", str(self.port)),
            *(word for app in apps for word in ("--app", app)),
            *("--fields", json.dumps(dict(fields))),
        )


def furnish(
    connection: Connection, trunk: Trunk, own: AppSettings = SETTINGS, apps: Sequence[str] = (APP,)
) -> None:
    """Apps with all limits, an account and numbers, and a trunk."""
    for app in apps:
        catalog.add_app(connection, App(app, app, settings=own), 1)
        accounts.pay_in(connection, app, 10**14, "bench", "", 1)
    for number in catalog.list_numbers(connection):
        catalog.change_number(connection, replace(number, apps=(*number.apps, *apps)))
    for name in _NUMBERS:
        if catalog.find_number(connection, name) is None:
            catalog.add_number(connection, DisplayNumber(name, apps=tuple(apps)), 1)
    rates.put_rate(connection, "bench", Rate("86", 60), "", 1)
    catalog.add_trunk(connection, trunk, 1)


def prepare(url: str, own: AppSettings = SETTINGS, apps: Sequence[str] = (APP,)) -> None:
    """A new database."""
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        furnish(connection, Trunk("carrier", "127.0.0.1", options_s=0), own, apps)
    engine.dispose()


@asynccontextmanager
async def serving(
    folder: Path, url: str, cell: str = "main", options: Sequence[str] = ()
) -> AsyncIterator[Server]:
    """`options`: of bench.double."""
    folder.mkdir(parents=True)
    (port,) = free(SOCK_STREAM)
    own = folder / "huibo.toml"
    own.write_text(
        f'database_url = "{url}"\n[http]\nport = {port}\nrequests_per_s = 0\n[cell]\nname = "{cell}"\n'
        f'[push]\nallowed_networks = ["127.0.0.0/8"]\n[prompts]\nfolder = "{folder}/prompts"\n'
        f'[recording]\nfolder = "{folder}/recordings"\nraw_folder = "{folder}/raw"\n[log]\nformat = "json"\n'
    )
    env = dict(os.environ) | {"HUIBO_CONFIG": str(own)}
    argv = (sys.executable, "-m", "bench.double", *options)
    async with _running(
        Child(f"huibo {cell}", argv, env, folder / "log", _ready(port), patience_s=60), port
    ) as one:
        yield one


@asynccontextmanager
async def one_row(folder: Path, url: str) -> AsyncIterator[Server]:
    """The endpoint that only writes one row."""
    folder.mkdir(parents=True)
    (port,) = free(SOCK_STREAM)
    argv = (sys.executable, "-m", "bench.one_row", url, str(port))
    async with _running(Child("one row", argv, dict(os.environ), folder / "log", _ready(port)), port) as one:
        yield one


async def enter_all(exits: AsyncExitStack, contexts: Sequence[AbstractAsyncContextManager[T]]) -> list[T]:
    """Enter them at the same time: most of their starts is waiting."""
    entered = await asyncio.gather(*map(exits.enter_async_context, contexts), return_exceptions=True)
    for one in entered:
        if isinstance(one, BaseException):
            raise one
    return cast(list[T], entered)


@asynccontextmanager
async def _running(child: Child, port: int) -> AsyncIterator[Server]:
    began = time.monotonic()
    await child.start()
    try:
        await child.wait_until_it_answers()
        yield Server(port, child, time.monotonic() - began)
    finally:
        await child.stop()


def _ready(port: int) -> Callable[[], Awaitable[bool]]:
    url = f"http://127.0.0.1:{port}/readyz"

    async def answers() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    return answers
