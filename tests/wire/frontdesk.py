"""A front desk that records what comes through, behind the real routes in a real application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.types import ASGIApp

from huibo.errors import Refusal, Refused
from huibo.model import CallRequest, IdempotencyKey
from huibo.wire.routes import make_app

MAX_BODY_BYTES = 4096
BODY_TIMEOUT_S = 0.5
ASKED = b'{"appId":"1400000001","requestId":"r-1","src":"008613800138000","dst":"0086075586013388"}'
TAKEN = (
    b'{"errorCode":"0","callId":"call-1","requestId":"r-1",'
    b'"srcDisplayNum":"02131264133","dstDisplayNum":"4001360123"}'
)


@dataclass
class Taken:
    """A call that the desk took."""

    call_id: str
    caller_display: str
    callee_display: str
    dispatch: Callable[[], None]
    replayed: bool = False


@dataclass
class Desk:
    """Knows one app, takes every call, and writes down what it sees, in order."""

    seen: list[str] = field(default_factory=list)
    identities: list[tuple[str, str, str]] = field(default_factory=list)
    requests: list[CallRequest] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    accepting: asyncio.Event = field(default_factory=asyncio.Event)
    dispatched: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def authenticate(self, app_id: str, url_id: str, remote_ip: str, blocked_too: bool) -> None:
        del blocked_too
        self.identities.append((app_id, url_id, remote_ip))
        if app_id != "1400000001":
            raise Refused(Refusal.APP)
        if url_id != "test":
            raise Refused(Refusal.URL_ID)
        if remote_ip != "127.0.0.1":
            raise Refused(Refusal.ADDRESS)

    async def accept(self, request: CallRequest, key: IdempotencyKey | None) -> Taken:
        del key
        await self.authenticate(request.app_id, request.url_id, request.remote_ip, blocked_too=False)
        self.seen.append("accept")
        self.requests.append(request)
        self.accepting.set()
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return Taken("call-1", "02131264133", "4001360123", self.dispatch)

    def dispatch(self) -> None:
        self.seen.append("dispatch")
        self.dispatched.set()

    def app(self) -> ASGIApp:
        others = FastAPI()

        @others.get("/healthz")
        async def healthz() -> dict[str, str]:
            return {"status": "ok"}

        return make_app(
            self,
            others,
            max_body_bytes=MAX_BODY_BYTES,
            max_talk_min=1440,
            body_timeout_s=BODY_TIMEOUT_S,
        )
