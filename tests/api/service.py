"""A real huibo process with a database of its own, without an engine, and a client that knows its rules."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import SOCK_STREAM
from typing import Any, TypeVar

import aiohttp
from sqlalchemy import Connection, Engine

import huibo
from huibo.clock import Clock
from huibo.office import tokens
from huibo.office.author import Author
from huibo.office.tokens import NewToken
from huibo.stack import ports
from huibo.storage.database import open_engine
from huibo.storage.tokens import Role

T = TypeVar("T")
MAX_BODY_BYTES = 65536
MAX_IMPORT_BYTES = 300_000
BODY_TIMEOUT_S = 1.5
PATIENCE_S = 60


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is decoded where it is JSON."""

    status: int
    body: Any
    headers: dict[str, str]
    text: str

    def fails(self, status: int, *words: str) -> None:
        """Assert that it is this problem, in the one form that problems have."""
        assert self.status == status, self.text
        assert self.headers["content-type"] == "application/problem+json"
        assert self.body["status"] == status
        assert set(self.body) <= {"type", "title", "status", "detail", "errors", "rule", "code"}
        for word in words:
            assert word in self.body["detail"], self.body

    def ok(self, status: int = 200) -> Any:
        assert self.status == status, self.text
        return self.body


@dataclass(frozen=True)
class Service:
    """The process, as one with a token sees it."""

    base_url: str
    http: aiohttp.ClientSession
    engine: Engine
    log: Path
    token: str | None = None

    def acting_as(self, token: str | None) -> Service:
        return replace(self, token=token)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Something done to the database beside the process."""
        with self.engine.begin() as connection:
            return work(connection)

    def make_token(self, role: Role, **more: Any) -> str:
        by = Author("tests", "cli", Clock().now_ms())
        new = NewToken(name=f"a {role}", role=role, **more)
        return self.transact(lambda connection: tokens.make(connection, by, new)).token

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **query: Any
    ) -> Answer:
        sent = {"authorization": f"Bearer {self.token}"} if self.token else {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent["content-type"] = "application/json"
        async with self.http.request(
            method, f"{self.base_url}/v1{path}", data=data, headers=sent | (headers or {}), params=query
        ) as answer:
            text = await answer.text()
            kind = answer.headers.get("content-type", "")
            decoded = json.loads(text) if text and "json" in kind else None
            return Answer(answer.status, decoded, {k.lower(): v for k, v in answer.headers.items()}, text)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.ask("GET", path, **query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.ask("POST", path, body, **query)

    async def put(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self.ask("PUT", path, body, **query)

    async def patch(self, path: str, body: Any) -> Answer:
        return await self.ask("PATCH", path, body)

    async def delete(self, path: str, **query: Any) -> Answer:
        return await self.ask("DELETE", path, **query)

    async def every(self, path: str, limit: int, **query: Any) -> list[Any]:
        """All items of a list, page by page."""
        found, more = [], {}
        while True:
            page = (await self.get(path, limit=limit, **query, **more)).ok()
            assert len(page["items"]) <= limit
            found += page["items"]
            if page["next"] is None:
                return found
            assert len(page["items"]) == limit
            more = {"cursor": page["next"]}

    async def noted(self, kind: str, subject: str) -> list[dict[str, Any]]:
        """What the audit log says of something, the oldest first."""
        return (await self.get("/audit", kind=kind, subject=subject)).ok()["items"][::-1]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Service]:
    """A process of its own; the client acts as an admin."""
    (port, engine_port) = ports.free(SOCK_STREAM, SOCK_STREAM)
    settings = folder / "huibo.toml"
    settings.write_text(
        f'database_url = "sqlite:///{folder}/huibo.sqlite3"\n'
        f"[http]\nport = {port}\nmax_import_bytes = {MAX_IMPORT_BYTES}\nbody_timeout_s = {BODY_TIMEOUT_S}\n"
        f'[engine]\nurl = "http://127.0.0.1:{engine_port}"\n'
        f'[recording]\nfolder = "{folder}/recordings"\nraw_folder = "{folder}/raw"\n'
        f'[prompts]\nfolder = "{folder}/prompts"\n'
        f'[log]\nformat = "json"\n'
    )
    env = dict(os.environ) | {
        "HUIBO_CONFIG": str(settings),
        "PYTHONPATH": str(Path(huibo.__file__).parents[1]),
    }
    log = folder / "huibo.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "huibo", "serve"), env=env, stdout=output, stderr=output
        )
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
            await _until_it_answers(http, f"http://127.0.0.1:{port}/healthz", process, log)
            engine = open_engine(f"sqlite:///{folder}/huibo.sqlite3")
            service = Service(f"http://127.0.0.1:{port}", http, engine, log)
            yield service.acting_as(service.make_token(Role.ADMIN))
            engine.dispose()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_it_answers(
    http: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process, log: Path
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
