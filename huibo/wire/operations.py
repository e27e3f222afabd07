"""The operations of the callback API: each takes a request and gives an answer to who may ask.

Adding one is adding a function and a row. What they do is the desk's; what they mean is that of the pure
modules beside this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from huibo.errors import Refusal, Refused
from huibo.flow.state import CallState
from huibo.model import Call, CallRecord, CallRequest, CancelUnless, IdempotencyKey
from huibo.wire import queries, tencent
from huibo.wire.body import Fields

MAX_KEY_CHARS = 255


class Accepted(Protocol):
    """A call that is written down and will be dialled."""

    @property
    def call_id(self) -> str: ...
    @property
    def caller_display(self) -> str: ...
    @property
    def callee_display(self) -> str: ...
    @property
    def replayed(self) -> bool:
        """Whether it was accepted before, under the same idempotency key."""

    def dispatch(self) -> None:
        """Have it dialled. Called once, on the event loop, after the answer has left; must not block."""


class Desk(Protocol):
    """What a customer may ask. One app never sees the calls of another: they do not exist (None)."""

    async def authenticate(self, app_id: str, url_id: str, remote_ip: str, blocked_too: bool) -> None:
        """Raises `Refused` unless this app may ask from there; `blocked_too`: also one that may not call."""

    async def accept(self, request: CallRequest, key: IdempotencyKey | None) -> Accepted:
        """Write a call down, or raise `Refused`, in the first place as `authenticate` does.

        Nothing may be dialled before `Accepted.dispatch`.
        """

    async def cancel(self, app_id: str, call_id: str, unless: CancelUnless) -> bool | None:
        """Whether the call is being ended; None for a call that is over or unknown."""

    async def status(self, app_id: str, call_id: str) -> tuple[Call, CallState] | None:
        """A call and how far it is."""

    async def record(self, app_id: str, call_id: str) -> CallRecord | None:
        """The record of a call that is over."""

    async def records(
        self, app_id: str, start: int, end: int, caller: str | None, limit: int
    ) -> tuple[list[CallRecord], int]:
        """Calls begun in a period (UNIX s), oldest first, and from where to go on (0: complete)."""

    async def display_numbers(self, app_id: str) -> list[str]:
        """The numbers that the app may show; none when it shows the parties' own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to an operation. `raw`: its body; `key`: its Idempotency-Key header."""

    app_id: str
    fields: Fields
    request_id: str
    url_id: str
    remote_ip: str
    raw: bytes = b""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, and what is to be done once it has left."""

    body: bytes
    then: Callable[[], None] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table: how an operation answers, how it refuses, and with which methods it is asked."""

    answer: Callable[[Asked], Awaitable[Answer]]
    refuse: Callable[[Refused, str], bytes] = queries.refused
    methods: tuple[str, ...] = ("POST",)
    blocked_too: bool = False  # answers an app that may not call
    authenticates: bool = False  # by itself: who asks need not be looked at before


def operations(desk: Desk, max_talk_min: int) -> dict[str, Operation]:
    """The table of operations by name."""
    own = _Operations(desk, max_talk_min)
    return {
        "callBack": Operation(own.call_back, tencent.refused, authenticates=True),
        "callCancel": Operation(own.call_cancel, methods=("POST", "GET")),
        "getStatus": Operation(own.get_status, blocked_too=True),
        "getCdr": Operation(own.get_cdr, queries.refused_records),
        "getCallerDisplayList": Operation(own.get_caller_display_list),
    }


@dataclass(frozen=True, slots=True)
class _Operations:
    desk: Desk
    max_talk_min: int

    async def call_back(self, asked: Asked) -> Answer:
        try:
            request = tencent.parse_callback(
                asked.fields, url_id=asked.url_id, remote_ip=asked.remote_ip, max_talk_min=self.max_talk_min
            )
            key = _idempotency_key(asked)
        except Refused:  # told only to those who may ask
            await self.desk.authenticate(asked.app_id, asked.url_id, asked.remote_ip, blocked_too=False)
            raise
        call = await self.desk.accept(request, key)
        body = tencent.accepted(call.call_id, asked.request_id, call.caller_display, call.callee_display)
        if call.replayed:
            return Answer(body, headers={"idempotent-replayed": "true"})
        return Answer(body, then=call.dispatch)

    async def call_cancel(self, asked: Asked) -> Answer:
        call_id, unless = queries.parse_call_id(asked.fields), queries.parse_cancel(asked.fields)
        released = await self.desk.cancel(asked.app_id, call_id, unless)
        if released is None:
            raise Refused(Refusal.NO_CALL)
        return Answer(queries.cancelled(call_id, unless, released))

    async def get_status(self, asked: Asked) -> Answer:
        found = await self.desk.status(asked.app_id, queries.parse_call_id(asked.fields))
        if found is None:
            raise Refused(Refusal.NO_CALL)
        call, state = found
        return Answer(queries.status(asked.app_id, call.call_id, call.caller, call.callee, state))

    async def get_cdr(self, asked: Asked) -> Answer:
        period = queries.parse_period(asked.fields)
        if period.call_id is not None:
            record = await self.desk.record(asked.app_id, period.call_id)
            if record is None:
                raise Refused(Refusal.NO_CALL)
            body = queries.records([record], 0)
        else:
            rows, offset = await self.desk.records(
                asked.app_id, period.start, period.end, period.caller, queries.PAGE
            )
            body = queries.records(rows, offset)
        if period.compressed:
            return Answer(queries.compressed(body), headers={"content-type": "application/octet-stream"})
        return Answer(body)

    async def get_caller_display_list(self, asked: Asked) -> Answer:
        return Answer(queries.display_numbers(asked.app_id, await self.desk.display_numbers(asked.app_id)))


def refuse(name: str, refused: Refused) -> bytes:
    """The answer of an operation to a request that nobody has looked at."""
    if name == "getCdr":
        return queries.refused_records(refused, "")
    return (tencent.refused if name == "callBack" else queries.refused)(refused, "")


def _idempotency_key(asked: Asked) -> IdempotencyKey | None:
    if not asked.key:
        return None
    if len(asked.key) > MAX_KEY_CHARS or not (asked.key.isascii() and asked.key.isprintable()):
        raise Refused(Refusal.PARAMETER, f"Idempotency-Key: not up to {MAX_KEY_CHARS} printable characters")
    return IdempotencyKey(asked.key, hashlib.sha256(asked.raw).hexdigest())
