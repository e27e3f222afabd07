"""What every request of the operators' API passes before anything looks at it: a valid token, a body of
bearable size, and afterwards an answer even when something failed.

Knows no route but those that need no token or take a file; what a role may do is for the routes to say.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection
from http import HTTPStatus

import structlog
from sqlalchemy.exc import OperationalError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from huibo.api import problems
from huibo.clock import Clock
from huibo.office.author import Author
from huibo.office.tokens import Token, recognise
from huibo.storage.database import Database

log = structlog.get_logger()

_CHALLENGE = {"www-authenticate": 'Bearer realm="huibo"'}
_NUL = b"\\u0000"  # what no database keeps in a text
_CONTROL = re.compile("[\0-\x1f\x7f]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Guard:
    """ASGI middleware. Leaves the token and the author of changes in the request's state."""

    def __init__(
        self,
        app: ASGIApp,
        database: Database,
        clock: Clock,
        max_body_bytes: int,
        body_timeout_s: float,
        open_to_all: Collection[str],
        files: Collection[str],
    ) -> None:
        """`open_to_all`: paths that need no token. `files`: paths that read their body themselves."""
        self._app = app
        self._database = database
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._open = frozenset(open_to_all)
        self._files = frozenset(files)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            refusal = await self._pass(request)
            if refusal is None:
                await self._app(scope, request.receive, sending)
                return
        except ClientDisconnect:
            return  # half a request: nobody is left to be answered
        except OperationalError as error:
            log.error("database failed", path=scope["path"], reason=str(error.orig))
            refusal = problems.answer(HTTPStatus.SERVICE_UNAVAILABLE, "the database cannot be used now")
        except Exception:
            log.exception("request failed", path=scope["path"])
            refusal = problems.answer(HTTPStatus.INTERNAL_SERVER_ERROR, "this is our fault; see the log")
        if not begun:
            await refusal(scope, receive, send)

    async def _pass(self, request: Request) -> Response | None:
        """Let a request through, or say why not."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if _CONTROL.search(path) or b"%00" in request.scope["query_string"]:
            return problems.answer(HTTPStatus.BAD_REQUEST, "a control character in the address")
        if path not in self._open:
            token = await self._token(request)
            if token is None:
                detail = "send Authorization: Bearer, and a valid token (`huibo token add` makes one)"
                return problems.answer(HTTPStatus.UNAUTHORIZED, detail, _CHALLENGE)
            origin = request.client.host if request.client else ""
            author = Author(f"{token.name} ({token.id})", origin, self._clock.now_ms())
            request.scope.setdefault("state", {}).update(token=token, author=author)
        return None if path in self._files else await self._read(request)

    async def _token(self, request: Request) -> Token | None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        now, whole = self._clock.now_ms(), given.strip()
        token = await self._database.read(lambda connection: recognise(connection, whole, now))
        if token is None:
            log.warning("token refused", remote_ip=request.client.host if request.client else "")
        return token

    async def _read(self, request: Request) -> Response | None:
        """Read the body, for whoever reads it next."""
        too_large = problems.answer(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {self._max_body_bytes} bytes"
        )
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            return too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_timeout_s):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > self._max_body_bytes:
                        return too_large
                    body += chunk
        except TimeoutError:
            detail = "the body did not arrive in time"
            return problems.answer(HTTPStatus.REQUEST_TIMEOUT, detail, {"connection": "close"})
        if objection := _objection(bytes(body)):
            return problems.answer(HTTPStatus.BAD_REQUEST, f"the body holds {objection}")
        _give_again(request, bytes(body))
        return None


def _objection(body: bytes) -> str | None:
    """What in a body nothing behind could keep or give back."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return "what is not UTF-8"
    if _NUL in body:
        return "a NUL character"
    if _SURROGATE.search(body):
        try:
            json.dumps(json.loads(body), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "half a surrogate pair"
        except (ValueError, RecursionError):
            pass  # no JSON: that is said elsewhere
    return None


def _give_again(request: Request, body: bytes) -> None:
    """Have the body, which has been read, come once more; then whatever comes."""
    receive, given = request.receive, False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    request._receive = again
