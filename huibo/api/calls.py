"""Routes of calls: to look for them, to look at one, to try one out, to place one, to end one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.types import Receive, Scope, Send

from huibo.api.parts import Key, Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.model import CallRequest, CancelUnless, IdempotencyKey
from huibo.office import calls
from huibo.office.author import Author
from huibo.office.calls import Call, Search, WholeCall
from huibo.office.page import Page
from huibo.office.placing import Check, NewCall, PlacedCall, check_of, request_of
from huibo.storage.catalog import Conflict
from huibo.storage.tokens import Role
from huibo.wire.tencent import mask_of

log = structlog.get_logger()
router = APIRouter(tags=["calls"])

_KEY_PREFIX = "v1:"  # the customers' own keys are others
IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,200}$",
        description="the same key gives the same call, for a day",
    ),
]


class CallsQuery(Search, Paging):
    """Which calls are listed."""


class Cancel(BaseModel, extra="forbid"):
    """From which moment on the call is to be left alone."""

    unless: CancelUnless = CancelUnless.NEVER


class Cancelled(BaseModel):
    """Whether the call is being ended; false: it has come too far."""

    call_id: str
    ending: bool


class _Dispatching(JSONResponse):
    """An answer after which a call is dialled, also when nobody is left to read it."""

    then: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.then()


@router.get("/calls")
async def list_calls(office: Viewer, query: Annotated[CallsQuery, Query()]) -> Page[Call]:
    """Calls, the newest first."""
    sought = Search.model_construct(**query.model_dump(exclude={"cursor", "limit"}))
    return await office.read(calls.page, sought, query.cursor, query.limit)


@router.post(
    "/calls",
    status_code=201,
    response_model=PlacedCall,
    responses=documented(409, 503),
)
async def place_call(
    office: Operator, new: NewCall, idempotency_key: IdempotencyHeader = None
) -> JSONResponse:
    """Place a call. It is dialled when this answer has left."""
    request = _request(new, office.parts.max_talk_s)
    key = None
    if idempotency_key is not None:
        digest = hashlib.sha256(new.model_dump_json().encode()).hexdigest()
        key = IdempotencyKey(_KEY_PREFIX + idempotency_key, digest)
    accepted = await office.parts.desk.accept(request, key)
    placed = PlacedCall(
        call_id=accepted.call_id,
        app_id=new.app_id,
        caller_display=accepted.caller_display,
        callee_display=accepted.callee_display,
    )
    if accepted.replayed:
        return JSONResponse(placed.model_dump(), 201, {"idempotent-replayed": "true"})
    answer = _Dispatching(placed.model_dump(), 201)
    answer.then = accepted.dispatch
    try:
        await office.write(_note, "place", accepted.call_id, placed)
    except Exception as error:  # it is accepted, and will be dialled
        log.error("call not noted in the audit log", call=accepted.call_id, reason=str(error))
    return answer


@router.post("/calls:check")
async def check_call(office: Viewer, new: NewCall) -> Check:
    """What would become of a call at this moment. Writes nothing and rings nobody."""
    return check_of(await office.parts.admission.examine(_request(new, office.parts.max_talk_s)))


@router.post("/calls/{call_id}:cancel", status_code=202, responses=documented(404, 409))
async def cancel_call(office: Operator, call_id: Key, cancel: Cancel) -> Cancelled:
    """End a call, unless it has come too far."""
    found = await office.read(calls.find, call_id, None)
    ending = await office.parts.desk.cancel(found.app_id, call_id, cancel.unless)
    if ending is None:
        raise Conflict(f"call {call_id} is over")
    done = Cancelled(call_id=call_id, ending=ending)
    await office.write(_note, "cancel", call_id, done)
    return done


@router.get("/calls/{call_id}", responses=documented(404))
async def show_call(office: Viewer, call_id: Key) -> WholeCall:
    """One call and all that happened in it. The link to its recording is for operators."""
    base_url = office.parts.base_url if office.role.covers(Role.OPERATOR) else None
    return await office.read(calls.find, call_id, base_url)


def _request(new: NewCall, max_talk_s: int) -> CallRequest:
    return request_of(new, mask_of(one.pair for one in new.status), max_talk_s)


def _note(connection: Connection, by: Author, action: str, call_id: str, after: BaseModel) -> None:
    by.note(connection, action, "call", call_id, after=after)
