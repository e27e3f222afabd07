"""The HTTP side of the 201511v3 callback API: requests in, answers out.

Owns the order of the checks and the rule that every request of this API gets HTTP 200 and one JSON object.
Decides nothing itself: who may ask and what is accepted comes from the functions it is given.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from huibo import __version__
from huibo.errors import Refusal, Refused
from huibo.wire import tencent
from huibo.wire.body import Fields, decode
from huibo.wire.openapi import document
from huibo.wire.operations import Answer, Asked, Desk, Operation, operations, refuse

log = structlog.get_logger(__name__)

_MEDIA_TYPE = "application/json;charset=utf-8"
_PATH = re.compile(r"/[0-9]{6}v[0-9]+(/.*)?", re.DOTALL)


def make_routes(
    desk: Desk,
    *,
    max_body_bytes: int,
    max_talk_min: int,
    body_timeout_s: float,
) -> list[BaseRoute]:
    """The routes of this API, to be appended to an application's own.

    They take `/<6 digits>v<number>/…` with every method, and what describes it. A body must arrive whole
    within `body_timeout_s`.
    """
    endpoint = _Endpoint(desk, operations(desk, max_talk_min), max_body_bytes, body_timeout_s)
    described = JSONResponse(document(__version__, max_talk_min))

    async def describe(_request: Request) -> Response:
        return described

    return [
        Route("/{version:api_version}", endpoint, include_in_schema=False),
        Route("/{version:api_version}/{operation:path}", endpoint, include_in_schema=False),
        Route("/openapi/callback.json", describe, include_in_schema=False),
    ]


def one_too_many(path: str) -> Response | None:
    """The answer to a request of this API in a flood, which is not looked at; None for other paths."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    body = refuse((found[1] or "").strip("/"), Refused(Refusal.BLOCKED, "too many requests"))
    return Response(body, headers={"content-type": _MEDIA_TYPE})


class _VersionConvertor(Convertor[str]):
    regex = "[0-9]{6}v[0-9]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("api_version", _VersionConvertor())


class _TooSlow(Refused):
    def __init__(self) -> None:
        super().__init__(Refusal.PARAMETER, "body: not received in time")


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An ASGI application, so that no framework reads the request, checks it or chooses a status."""

    desk: Desk
    operations: Mapping[str, Operation]
    max_body_bytes: int
    body_timeout_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return  # half a request: nobody is left to be answered
        headers = {"content-type": _MEDIA_TYPE} | answer.headers
        try:
            await Response(answer.body, headers=headers)(scope, receive, send)
        finally:
            # Also when the client has gone or this task is being cancelled: the call is accepted.
            if answer.then is not None:
                _run(answer.then)

    async def _answer(self, request: Request) -> Answer:
        app_id = request_id = ""
        remote_ip = request.client.host if request.client else ""
        headers: dict[str, str] = {}
        refuse: Callable[[Refused, str], bytes] = tencent.refused
        try:
            raw = await self._read(request)
            fields = self._fields(request, raw)
            # What the body says is judged after the URL, but read before: a refusal echoes its requestId.
            if not isinstance(fields, Refused):
                request_id = tencent.request_id_of(fields)
            elif isinstance(fields, _TooSlow):
                headers = {"connection": "close"}  # the rest of the request is not awaited
            operation = self._operation(request)
            refuse = operation.refuse
            if isinstance(fields, Refused):
                raise fields
            app_id = tencent.app_id_of(fields)
            url_id = request.query_params.get("id", "")
            await self.desk.authenticate(app_id, url_id, remote_ip, operation.blocked_too)
            key = request.headers.get("idempotency-key", "").strip()
            body = raw if isinstance(raw, bytes) else b""
            asked = Asked(app_id, fields, request_id, url_id, remote_ip, body, key)
            return await operation.answer(asked)
        except Refused as refused:
            code, reason = refused.refusal.code, refused.message
            log.info("request refused", code=code, reason=reason, app_id=app_id, remote_ip=remote_ip)
            return Answer(refuse(refused, request_id), headers=headers)
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("request failed", app_id=app_id, remote_ip=remote_ip)
            return Answer(refuse(Refused(Refusal.UNAVAILABLE), request_id))

    def _operation(self, request: Request) -> Operation:
        if not request.headers.get("host", "").strip():
            raise Refused(Refusal.NO_HOST)
        if request.path_params["version"] != tencent.VERSION:
            raise Refused(Refusal.VERSION)
        name = request.path_params.get("operation", "").strip("/")
        operation = self.operations.get(name)
        if operation is None:
            shown = f": {name}" if name.isascii() and name.isalnum() and len(name) <= 40 else ""
            raise Refused(Refusal.PARAMETER, f"operation not supported{shown}")
        if request.method not in operation.methods:
            raise Refused(Refusal.PARAMETER, "use POST")
        return operation

    def _fields(self, request: Request, raw: bytes | Refused) -> Fields | Refused:
        """What was asked: the body, with GET also the query. Or why there is nothing."""
        if isinstance(raw, Refused):
            return raw
        asked = {name: value for name, value in request.query_params.items() if name != "id"}
        try:
            if request.method != "GET":
                return decode(raw)
            return asked | dict(decode(raw)) if raw.strip() else asked
        except Refused as refused:
            return refused

    async def _read(self, request: Request) -> bytes | Refused:
        """The body, or why there is none. Raises ClientDisconnect only."""
        too_large = Refused(Refusal.PARAMETER, f"body: larger than {self.max_body_bytes} bytes")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_body_bytes:
            return too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_timeout_s):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > self.max_body_bytes:
                        return too_large
                    body += chunk
        except TimeoutError:
            return _TooSlow()
        return bytes(body)


def _run(then: Callable[[], None]) -> None:
    try:
        then()
    except Exception:
        log.exception("dispatch failed")
