"""The world that is put under faults: a whole stack, two carriers, two customers' apps, their receivers.

Owns how it is set up, and how to tell that it is whole again. Breaks nothing itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from socket import SOCK_STREAM
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, make_url

from huibo import config
from huibo.clock import Clock
from huibo.engine.install.binary import Asterisk
from huibo.model import App, AppSettings
from huibo.rating import Rate
from huibo.sandbox.carrier import Terms
from huibo.sandbox.phones import PHONES, Answer, Phone, Ring, Stay
from huibo.stack.ports import free
from huibo.stack.stack import Stack
from huibo.storage import accounts, catalog, rates
from huibo.storage.database import open_engine
from huibo.yuan import parse
from tests import postgres
from tests.faults.control_plane import LEVERS
from tests.faults.disk import SmallDisk
from tests.faults.levers import Levers
from tests.faults.proxy import Proxy
from tests.faults.receivers import TEMPERS, Receiver

CREDIT_YUAN = "40"
AT_ONCE, PER_SECOND = 12, 3
PREPAID, FREE = "prepaid", "demo"  # the apps: the second is the stack's own, without limits
_PRICED = AppSettings(rate_plan="seconds", prepaid=True, calls_at_once=AT_ONCE, calls_per_second=PER_SECOND)

RING_S, DEADLINE_S = 12, 30
_RETRIES = [0.5] * 4 + [2.0] * 40  # a receiver's trouble is over long before
SETTINGS: dict[str, dict[str, object]] = {
    "calls": {
        "caller_ring_s": RING_S,
        "callee_ring_s": RING_S,
        "no_audio_s": 6,
        "dispatch_deadline_s": DEADLINE_S,
    },
    "push": {
        "allowed_networks": ["127.0.0.0/8"],
        "connect_timeout_s": 2.0,
        "timeout_s": 3.0,
        "status_retry_s": _RETRIES,
        "cdr_retry_s": _RETRIES,
    },
    "engine": {"heartbeat_s": 3.0},
    "abuse": {"refusals": 0, "unanswered": 0},  # nothing but the apps' own limits
    "recording": {"retry_s": [1.0] * 10},
}
# What the first carrier has no line for, the second may have; else their phones are the same.
SECOND = Terms(
    phones=tuple(phone for phone in PHONES if phone.digits not in ("09", "25")),
    otherwise=Phone("..", (Ring(1), Answer(), Stay(5)), "answers", "接听"),
)
_DISK_MB = 192
WHOLE_S = 90


class NotWhole(Exception):
    """The world did not come back by itself. The message says what is missing."""


@dataclass(slots=True)
class Disks:
    """The disks of recordings, where there may be such."""

    finished: SmallDisk
    raw: SmallDisk


@contextmanager
def database_url(kind: str) -> Iterator[str | None]:
    """The URL of an empty PostgreSQL database; None for the stack's own SQLite."""
    if kind == "sqlite":
        yield None
        return
    with postgres.running() as server:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE faults"))
        url = make_url(server.replace("postgresql://", "postgresql+psycopg://", 1))
        yield url.set(database="faults").render_as_string(hide_password=False)


class World:
    """`async with World(…) as world`: up, and supervised."""

    def __init__(
        self, asterisk: Asterisk, cache: Path, url: str | None, chance: Random, own_mounts: bool
    ) -> None:
        (port,) = free(SOCK_STREAM)
        settings = SETTINGS | {"engine": SETTINGS["engine"] | {"url": f"http://127.0.0.1:{port}"}}
        if url is not None:
            settings[""] = {"database_url": url}
        self.stack = Stack.create(asterisk, cache, settings=settings, more_carriers={"second": SECOND})
        self.stack.control_child.argv = (sys.executable, "-m", "tests.faults.control_plane")
        self.settings = config.load(self.stack.settings_file)
        engine_port = urlsplit(self.stack.engine_url).port
        assert engine_port is not None
        self.proxy = Proxy(port, engine_port)
        self.levers = Levers(self.stack.settings_file.with_name(LEVERS))
        self.receivers = {
            "good": Receiver("good", chance),
            "sour": Receiver("sour", chance, TEMPERS, 0.15),
            "moody": Receiver("moody", chance),
        }
        self.database: Engine = open_engine(self.settings.database_url)
        self.disks: Disks | None = None
        if own_mounts:
            folders = self.settings.recording
            self.disks = Disks(SmallDisk(folders.folder, _DISK_MB), SmallDisk(folders.raw_folder, _DISK_MB))
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            exits.callback(self.database.dispose)
            timeout = aiohttp.ClientTimeout(total=10)
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            self.http = await exits.enter_async_context(
                aiohttp.ClientSession(timeout=timeout, connector=connector)
            )
            for receiver in self.receivers.values():
                await exits.enter_async_context(receiver)
            await exits.enter_async_context(self.proxy)
            await exits.enter_async_context(self.stack)
            await asyncio.to_thread(self._set_up)
            self.stack.supervise()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    @property
    def on_sqlite(self) -> bool:
        return self.database.dialect.name == "sqlite"

    async def ready(self) -> bool:
        """Whether the control plane would take a call."""
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with self.http.get(f"{self.stack.base_url}/readyz", timeout=timeout) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def until_whole(self) -> None:
        """Wait until it takes calls again. Raises `NotWhole`."""
        try:
            async with asyncio.timeout(WHOLE_S):
                while not await self.ready():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise NotWhole(f"/readyz did not say 200 for {WHOLE_S} s: see {self.stack.log}") from None

    async def ask_engine(self, what: str) -> list[dict[str, Any]] | None:
        """A list of the engine (`channels`, `bridges`), past the proxy; None when it does not answer."""
        secret = aiohttp.encode_basic_auth(self.settings.engine.username, self.settings.engine.password)
        url, timeout = f"{self.stack.engine_url}/ari/{what}", aiohttp.ClientTimeout(total=1.5)
        try:
            async with self.http.get(url, headers={"Authorization": secret}, timeout=timeout) as answer:
                found: list[dict[str, Any]] = await answer.json()
                return found if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    def _set_up(self) -> None:
        now = Clock().now_ms()

        def enter(connection: Connection) -> None:
            catalog.add_app(connection, App(PREPAID, PREPAID, settings=_PRICED), now)
            for number in catalog.list_numbers(connection):
                catalog.change_number(connection, replace(number, apps=(*number.apps, PREPAID)))
            rates.put_rate(connection, "seconds", Rate("86", 6000, first_s=3, next_s=1), "", now)
            accounts.pay_in(connection, PREPAID, parse(CREDIT_YUAN), "faults", "", now)

        with self.database.begin() as connection:
            enter(connection)
