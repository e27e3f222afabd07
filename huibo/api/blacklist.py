"""Routes of the blacklist, among them the import of a file, which is kept on disk while it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from io import TextIOWrapper
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.api.parts import Office, Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import blacklist
from huibo.office.blacklist import Kind, Listed
from huibo.office.blacklist_import import Import, import_csv
from huibo.office.fields import Printable
from huibo.office.page import Page
from huibo.office.patterns import Pattern
from huibo.storage.blacklist import Direction

router = APIRouter(tags=["blacklist"])

AppId = Annotated[Printable, Field(max_length=64)]

IMPORT_PATH = "/blacklist:import"
_IN_MEMORY = 1 << 20
_CSV_BODY: dict[str, Any] = {
    "requestBody": {"content": {"text/csv": {"schema": {"type": "string"}}}, "required": True}
}


class BlacklistQuery(Paging):
    """Which entries are listed. `app` "": those for all apps; `number`: what concerns numbers like it."""

    app: AppId | None = None
    direction: Direction | None = None
    number: Pattern | None = None


class ListedKey(BaseModel, extra="forbid"):
    """Which entry is meant."""

    number: Pattern
    kind: Kind = Kind.EXACT
    app: AppId = ""
    direction: Direction = Direction.BOTH


class BadLine(BaseModel):
    """A line that was not taken, and why."""

    line: int
    message: str


class Imported(BaseModel):
    """How many lines were taken and how many were not; `problems`: the first of these."""

    taken: int
    refused: int
    problems: list[BadLine]


@router.get("/blacklist")
async def list_blacklist(office: Viewer, query: Annotated[BlacklistQuery, Query()]) -> Page[Listed]:
    """Entries by number."""
    return await office.read(
        blacklist.page, query.app, query.direction, query.number, query.cursor, query.limit
    )


@router.put("/blacklist")
async def put_listed(office: Operator, listed: Listed) -> Listed:
    """Add an entry, or replace the one of the same number, kind, app and direction."""
    return await office.write(blacklist.put, listed)


@router.delete("/blacklist", status_code=204, responses=documented(404))
async def remove_listed(office: Operator, key: Annotated[ListedKey, Query()]) -> None:
    await office.write(blacklist.remove, Listed(**key.model_dump()))


@router.post(IMPORT_PATH, responses=documented(408, 413), openapi_extra=_CSV_BODY)
async def import_blacklist(
    office: Operator, request: Request, file: Annotated[str, Query(max_length=200)] = "upload"
) -> Imported:
    """Add the lines of a CSV file in UTF-8, whose first line names the columns: number, and as you like kind
    (exact, prefix), direction (caller, callee, both), app, expires (2026-12-31), reason.

    What is wrong with a line is told; the others are taken. `file`: its name for the audit log.
    """
    loop, done = asyncio.get_running_loop(), Import()

    def transact(work: Callable[[Connection], None]) -> None:
        asyncio.run_coroutine_threadsafe(office.parts.database.write(work), loop).result()

    with SpooledTemporaryFile(_IN_MEMORY) as kept:
        await _receive(request, kept, office)
        lines = TextIOWrapper(kept, encoding="utf-8-sig", errors="replace", newline="")
        await asyncio.to_thread(import_csv, lines, file, office.author, transact, done)
        lines.detach()
    problems = [BadLine(line=line, message=message) for line, message in done.problems]
    return Imported(taken=done.taken, refused=done.refused, problems=problems)


async def _receive(request: Request, kept: IO[bytes], office: Office) -> None:
    """The body into a file. A pause in which nothing arrives ends it."""
    most, size = office.parts.max_import_bytes, 0
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(office.parts.body_timeout_s):
                chunk = await anext(chunks, None)
        except TimeoutError:
            detail = "the file did not arrive in time"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, {"connection": "close"}) from None
        if chunk is None:
            break
        size += len(chunk)
        if size > most:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a file has at most {most} bytes: cut it up"
            )
        kept.write(chunk)
    kept.seek(0)
