"""The HTTP side of the 201511v3 callback API: requests in, answers out.

Owns the order of the checks and the rule that every request of this API gets HTTP 200 and one JSON object.
Decides nothing itself: who may ask and what is accepted comes from the functions it is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from huibo.errors import Refusal, Refused
from huibo.model import CallRequest
from huibo.wire import tencent
from huibo.wire.body import Fields, decode

log = structlog.get_logger(__name__)

_MEDIA_TYPE = "application/json;charset=utf-8"


class Accepted(Protocol):
    """A call that is written down and will be dialled."""

    @property
    def call_id(self) -> str: ...
    @property
    def caller_display(self) -> str: ...
    @property
    def callee_display(self) -> str: ...

    def dispatch(self) -> None:
        """Have it dialled. Called once, on the event loop, after the answer has left; must not block."""


# (app_id, url_id, remote_ip); raises Refused unless this app may ask from there.
Authenticate = Callable[[str, str, str], Awaitable[None]]
# Writes the call down, or raises Refused. Nothing may be dialled before `Accepted.dispatch`.
Accept = Callable[[CallRequest], Awaitable[Accepted]]


@dataclass(frozen=True, slots=True)
class Asked:
    """An authenticated request to an operation."""

    fields: Fields
    request_id: str
    url_id: str
    remote_ip: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, and what is to be done once it has left."""

    body: bytes
    then: Callable[[], None] | None = None
    close: bool = False  # the rest of the request is not awaited


Operation = Callable[[Asked], Awaitable[Answer]]


def make_routes(
    authenticate: Authenticate,
    accept: Accept,
    *,
    max_body_bytes: int,
    max_talk_min: int,
    body_timeout_s: float,
) -> list[BaseRoute]:
    """The routes of this API, to be appended to an application's own.

    They take `/<6 digits>v<number>/…` with every method, and nothing else. A body must arrive whole within
    `body_timeout_s`.
    """
    operations: dict[str, Operation] = {
        "callBack": partial(_call_back, accept, max_talk_min),
    }
    endpoint = _Endpoint(authenticate, operations, max_body_bytes, body_timeout_s)
    return [
        Route("/{version:api_version}", endpoint, include_in_schema=False),
        Route("/{version:api_version}/{operation:path}", endpoint, include_in_schema=False),
    ]


async def _call_back(accept: Accept, max_talk_min: int, asked: Asked) -> Answer:
    request = tencent.parse_callback(
        asked.fields, url_id=asked.url_id, remote_ip=asked.remote_ip, max_talk_min=max_talk_min
    )
    call = await accept(request)
    body = tencent.accepted(call.call_id, asked.request_id, call.caller_display, call.callee_display)
    return Answer(body, then=call.dispatch)


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

    authenticate: Authenticate
    operations: Mapping[str, Operation]
    max_body_bytes: int
    body_timeout_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return  # half a request: nobody is left to be answered
        headers = {"content-type": _MEDIA_TYPE} | ({"connection": "close"} if answer.close else {})
        try:
            await Response(answer.body, headers=headers)(scope, receive, send)
        finally:
            # Also when the client has gone or this task is being cancelled: the call is accepted.
            if answer.then is not None:
                _run(answer.then)

    async def _answer(self, request: Request) -> Answer:
        app_id = request_id = ""
        remote_ip = request.client.host if request.client else ""
        fields: Fields | Refused | None = None
        try:
            fields = await self._fields(request)
            # What the body says is judged after the URL, but read before: a refusal echoes its requestId.
            if not isinstance(fields, Refused):
                request_id = tencent.request_id_of(fields)
            operation = self._operation(request)
            if isinstance(fields, Refused):
                raise fields
            app_id = tencent.app_id_of(fields)
            url_id = request.query_params.get("id", "")
            await self.authenticate(app_id, url_id, remote_ip)
            return await operation(Asked(fields, request_id, url_id, remote_ip))
        except Refused as refused:
            code, reason = refused.refusal.code, refused.message
            log.info("request refused", code=code, reason=reason, app_id=app_id, remote_ip=remote_ip)
            return Answer(tencent.refused(refused, request_id), close=isinstance(fields, _TooSlow))
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("request failed", app_id=app_id, remote_ip=remote_ip)
            return Answer(tencent.refused(Refused(Refusal.UNAVAILABLE), request_id))

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
        if request.method != "POST":
            raise Refused(Refusal.PARAMETER, "use POST")
        return operation

    async def _fields(self, request: Request) -> Fields | Refused:
        """The body, or why there is none. Raises ClientDisconnect only."""
        try:
            async with asyncio.timeout(self.body_timeout_s):
                return decode(await self._read(request))
        except TimeoutError:
            return _TooSlow()
        except Refused as refused:
            return refused

    async def _read(self, request: Request) -> bytes:
        too_large = Refused(Refusal.PARAMETER, f"body: larger than {self.max_body_bytes} bytes")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_body_bytes:
            raise too_large
        body = bytearray()
        async for chunk in request.stream():
            if len(body) + len(chunk) > self.max_body_bytes:
                raise too_large
            body += chunk
        return bytes(body)


def _run(then: Callable[[], None]) -> None:
    try:
        then()
    except Exception:
        log.exception("dispatch failed")
