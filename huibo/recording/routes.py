"""Downloads: `GET /recordings/<token>.<ending>` for whoever has a link. No listing, and no other way in.

Owns the answers' form (RFC 9110); what a token is good for is `links`' to say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from huibo.clock import Clock
from huibo.recording.links import LINK_SECRET, check
from huibo.recording.ranges import Unsatisfiable, is_current, is_known, part_of
from huibo.recording.store import Store, Stored
from huibo.storage.database import Database
from huibo.storage.recordings import READY, Recording, find_recording
from huibo.storage.secrets import find_secret

log = structlog.get_logger()

_MEDIA_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg; codecs=opus", "wav": "audio/wav"}
_FORBIDDEN = "链接无效或已过期\nthis link is not valid, or no longer\n"
_GONE = "录音不存在或已删除\nno such recording, or no longer\n"


def make_routes(database: Database, store: Store, clock: Clock) -> list[BaseRoute]:
    """The route of downloads, to be appended to an application's own."""
    return [Route("/recordings/{name}", _Download(database, store, clock), methods=["GET"])]


@dataclass(frozen=True, slots=True)
class _Download:
    """An ASGI application, so that the file is closed when the answer is over, however that ends."""

    database: Database
    store: Store
    clock: Clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        token, now = request.path_params["name"].partition(".")[0], self.clock.now_ms()
        allowed, recording = await self.database.read(lambda connection: _look_up(connection, token, now))
        if not allowed:
            response = _refusal(403, _FORBIDDEN)
        elif recording is None:
            response = _refusal(404, _GONE)
        else:
            async with self._opened(recording) as stored:
                response = _refusal(404, _GONE) if stored is None else _answer(request, recording, stored)
                return await response(scope, receive, send)
        return await response(scope, receive, send)

    @asynccontextmanager
    async def _opened(self, recording: Recording) -> AsyncIterator[Stored | None]:
        assert recording.key is not None
        try:
            stored = await self.store.open(recording.key)
        except FileNotFoundError:
            log.error("recording is not in the store", call=recording.call_id)
            yield None
            return
        try:
            yield stored
        finally:
            await stored.close()


def _look_up(connection: Connection, token: str, now: int) -> tuple[bool, Recording | None]:
    """Whether the token is good, and the recording that it is good for, if it can be fetched."""
    signed = find_secret(connection, LINK_SECRET)
    call_id = check(signed, token, now) if signed is not None else None
    if call_id is None:
        return False, None
    recording = find_recording(connection, call_id)
    return True, recording if recording is not None and recording.state == READY else None


def _answer(request: Request, recording: Recording, stored: Stored) -> Response:
    etag = f'"{recording.sha256}"'
    headers = {
        "accept-ranges": "bytes",
        "cache-control": "private",
        "content-disposition": f'inline; filename="{recording.call_id}.{recording.format}"',
        "content-type": _MEDIA_TYPES.get(recording.format or "", "application/octet-stream"),
        "etag": etag,
        "x-content-type-options": "nosniff",
    }
    asked = request.headers
    if is_known(asked.get("if-none-match"), etag):
        kept = ("cache-control", "etag")
        return Response(status_code=304, headers={name: headers[name] for name in kept})
    part = None
    if request.method == "GET" and is_current(asked.get("if-range"), etag):
        try:
            part = part_of(asked.get("range"), stored.size)
        except Unsatisfiable:
            return _refusal(416, "", {"content-range": f"bytes */{stored.size}"})
    start, end = (part.start, part.end) if part else (0, stored.size)
    headers["content-length"] = str(end - start)
    if part:
        headers["content-range"] = f"bytes {start}-{end - 1}/{stored.size}"
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(stored.chunks(start, end), 206 if part else 200, headers)


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(text, status, {"cache-control": "no-store"} | (headers or {}))
