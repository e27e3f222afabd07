"""The HTTP side of the 201511v3 callback API: requests in, answers out.

Owns the order of the checks and the rule that every request of this API gets HTTP 200 and one JSON object.
Decides nothing itself: who may ask and what is accepted comes from the functions it is given.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from huibo import __version__
from huibo.errors import Refusal, Refused
from huibo.wire import tencent
from huibo.wire.body import Fields, decode
from huibo.wire.openapi import document
from huibo.wire.operations import Answer, Asked, Desk, Operation, operations, refuse

log = structlog.get_logger(__name__)

_MEDIA_TYPE = "application/json;charset=utf-8"
_PATH = re.compile(r"/([0-9]{6}v[0-9]+)(?:/(.*))?$")  # version and operation


def make_app(
    desk: Desk,
    otherwise: ASGIApp,
    *,
    max_body_bytes: int,
    max_talk_min: int,
    body_timeout_s: float,
) -> ASGIApp:
    """This API, in front of an application that gets what is not for it.

    It takes `/<6 digits>v<number>/…` with every method. A body must arrive whole within `body_timeout_s`.
    """
    return _CallbackApi(otherwise, desk, operations(desk, max_talk_min), max_body_bytes, body_timeout_s)


def describing(max_talk_min: int) -> Route:
    """The route of what describes this API."""
    described = JSONResponse(document(__version__, max_talk_min))

    async def describe(_request: Request) -> Response:
        return described

    return Route("/openapi/callback.json", describe, include_in_schema=False)


def one_too_many(path: str) -> Response | None:
    """The answer to a request of this API in a flood, which is not looked at; None for other paths."""
    found = _PATH.match(path)
    if found is None:
        return None
    body = refuse((found[2] or "").strip("/"), Refused(Refusal.BLOCKED, "too many requests"))
    return Response(body, headers={"content-type": _MEDIA_TYPE})


class _TooSlow(Refused):
    def __init__(self) -> None:
        super().__init__(Refusal.PARAMETER, "body: not received in time")


class _Gone(Exception):
    """The client left before its request was complete."""


@dataclass(frozen=True, slots=True)
class _CallbackApi:
    """The ASGI application. No framework reads its requests, checks them or chooses a status: each would cost
    more than the checks themselves."""

    otherwise: ASGIApp
    desk: Desk
    operations: Mapping[str, Operation]
    max_body_bytes: int
    body_timeout_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.match(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self.otherwise(scope, receive, send)
            return
        try:
            answer = await self._answer(scope, receive, found[1], (found[2] or "").strip("/"))
        except _Gone:
            return  # half a request: nobody is left to be answered
        try:
            await _send(send, answer)
        finally:
            # Also when the client has gone or this task is being cancelled: the call is accepted.
            if answer.then is not None:
                _run(answer.then)

    async def _answer(self, scope: Scope, receive: Receive, version: str, name: str) -> Answer:
        app_id = request_id = ""
        remote_ip = scope["client"][0] if scope.get("client") else ""
        headers: dict[str, str] = {}
        refuse: Callable[[Refused, str], bytes] = tencent.refused
        try:
            raw = await self._read(scope, receive)
            query = _query(scope)
            fields = _fields(scope["method"], query, raw)
            # What the body says is judged after the URL, but read before: a refusal echoes its requestId.
            if not isinstance(fields, Refused):
                request_id = tencent.request_id_of(fields)
            elif isinstance(fields, _TooSlow):
                headers = {"connection": "close"}  # the rest of the request is not awaited
            operation = self._operation(scope, version, name)
            refuse = operation.refuse
            if isinstance(fields, Refused):
                raise fields
            app_id = tencent.app_id_of(fields)
            url_id = query.get("id", "")
            if not operation.authenticates:
                await self.desk.authenticate(app_id, url_id, remote_ip, operation.blocked_too)
            key = _header(scope, b"idempotency-key").strip()
            body = raw if isinstance(raw, bytes) else b""
            asked = Asked(app_id, fields, request_id, url_id, remote_ip, body, key)
            return await operation.answer(asked)
        except Refused as refused:
            code, reason = refused.refusal.code, refused.message
            log.info("request refused", code=code, reason=reason, app_id=app_id, remote_ip=remote_ip)
            return Answer(refuse(refused, request_id), headers=headers)
        except _Gone:
            raise
        except Exception:
            log.exception("request failed", app_id=app_id, remote_ip=remote_ip)
            return Answer(refuse(Refused(Refusal.UNAVAILABLE), request_id))

    def _operation(self, scope: Scope, version: str, name: str) -> Operation:
        if not _header(scope, b"host").strip():
            raise Refused(Refusal.NO_HOST)
        if version != tencent.VERSION:
            raise Refused(Refusal.VERSION)
        operation = self.operations.get(name)
        if operation is None:
            shown = f": {name}" if name.isascii() and name.isalnum() and len(name) <= 40 else ""
            raise Refused(Refusal.PARAMETER, f"operation not supported{shown}")
        if scope["method"] not in operation.methods:
            raise Refused(Refusal.PARAMETER, "use POST")
        return operation

    async def _read(self, scope: Scope, receive: Receive) -> bytes | Refused:
        """The body, or why there is none. Raises _Gone only."""
        declared = _header(scope, b"content-length")
        if declared.isdecimal() and int(declared) > self.max_body_bytes:
            return self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > self.max_body_bytes:
                        return self._too_large()
                    body += chunk
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            return _TooSlow()

    def _too_large(self) -> Refused:
        return Refused(Refusal.PARAMETER, f"body: larger than {self.max_body_bytes} bytes")


def _header(scope: Scope, name: bytes) -> str:
    """The first header of this name (in lower case), "" when there is none."""
    for given, value in scope["headers"]:
        if given == name:
            text: str = value.decode("latin-1")
            return text
    return ""


def _query(scope: Scope) -> dict[str, str]:
    """What the URL says behind its "?"; of what is said twice, the last."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def _fields(method: str, query: Mapping[str, str], raw: bytes | Refused) -> Fields | Refused:
    """What was asked: the body, with GET also the query. Or why there is nothing."""
    if isinstance(raw, Refused):
        return raw
    try:
        if method != "GET":
            return decode(raw)
        asked = {name: value for name, value in query.items() if name != "id"}
        return asked | dict(decode(raw)) if raw.strip() else asked
    except Refused as refused:
        return refused


async def _send(send: Send, answer: Answer) -> None:
    headers = {"content-type": _MEDIA_TYPE} | answer.headers | {"content-length": str(len(answer.body))}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})


def _run(then: Callable[[], None]) -> None:
    try:
        then()
    except Exception:
        log.exception("dispatch failed")
