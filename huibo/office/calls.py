"""Calls, as an operator looks for them and at one of them. Numbers are E.164, times UNIX ms."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.flow.state import CallState
from huibo.model import CallResult, EndReason, Leg
from huibo.office import pushes
from huibo.office.errors import NotFound
from huibo.office.fields import Phone, Time
from huibo.office.page import DEFAULT_LIMIT, MAX_LIMIT, Page, cursor, key_of
from huibo.recording.urls import urls_of
from huibo.storage import search
from huibo.storage.recordings import find_recording

Text64 = Annotated[str, Field(max_length=64)]
Party = Literal["caller", "callee"]
_PARTY: dict[Leg, Party] = {Leg.CALLER: "caller", Leg.CALLEE: "callee"}


class Progress(StrEnum):
    """How far a call is."""

    ACCEPTED = "accepted"  # nobody has been dialled
    CALLER = "caller"  # the caller is being reached
    MENU = "menu"  # the caller hears the menu, or waits for a trunk to the callee
    CALLEE = "callee"  # the callee is being reached
    TALKING = "talking"
    ENDING = "ending"
    OVER = "over"


class Search(BaseModel, extra="forbid"):
    """Which calls are meant; null: whatever it is. `since` and `until`: when they were accepted, UNIX ms."""

    app_id: Text64 | None = None
    caller: Phone | None = None
    callee: Phone | None = None
    call_id: Text64 | None = None
    biz_id: Text64 | None = None
    order_id: Text64 | None = None
    result: CallResult | None = None
    live: bool | None = Field(None, description="true: have no end yet; false: are over")
    since: Time | None = None
    until: Time | None = None


class Call(BaseModel):
    """A call. `talk_s`, `billed_s` and `charge` (1/1000 fen) once it is over."""

    call_id: str
    app_id: str
    request_id: str
    biz_id: str
    order_id: str
    caller: str
    callee: str
    caller_display: str
    callee_display: str
    caller_trunk: str
    callee_trunk: str
    progress: Progress
    accepted_at: int
    ended_at: int | None
    result: CallResult | None
    talk_s: int | None
    billed_s: int | None
    charge: int | None


class Moment(BaseModel):
    """Something that happened. `failed`: a try over a trunk in vain, no phone rang; `over`: of the call."""

    at: int
    leg: Party | None
    event: Literal["accepted", "failed", "dialled", "invited", "ringing", "answered", "ended", "over"]
    trunk: str | None = None
    reason: EndReason | None = None
    sip_code: int | None = None


class Recording(BaseModel):
    """The recording of a call. `url`: a link that lets everybody listen, until `expires_at`."""

    state: str
    reason: str | None
    duration_ms: int | None
    bytes: int | None
    expires_at: int | None
    url: str | None


class WholeCall(Call):
    """A call with all that is known of it. `hold`: what is or was set aside for it, 1/1000 fen."""

    max_talk_s: int
    record: bool
    status_url: str | None
    cdr_url: str | None
    record_url: str | None
    caller_route: list[str]
    callee_route: list[str]
    hold: int | None
    timeline: list[Moment]
    pushes: list[pushes.Push]
    recording: Recording | None


def page(
    connection: Connection, sought: Search, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Call]:
    """Calls, the newest first. Raises `Invalid` for a bad cursor."""
    key = key_of(after, int, str)
    given = sought.model_dump(exclude={"since", "until"})
    wanted = search.Sought(**given, start=sought.since, end=sought.until)
    found = search.search(connection, wanted, (int(key[0]), str(key[1])) if key else None, limit + 1)
    shown = [_call(one) for one in found[:limit]]
    following = cursor(shown[-1].accepted_at, shown[-1].call_id) if len(found) > limit else None
    return Page(items=shown, next=following)


def find(connection: Connection, call_id: str, base_url: str | None) -> WholeCall:
    """One call. `base_url`: what links to recordings begin with, None: without link. Raises `NotFound`."""
    found = search.find(connection, call_id)
    if found is None:
        raise NotFound("call", call_id)
    call, plan = found.call, found.state.plan
    owed = pushes.page(connection, pushes.Range(call_id=call_id), limit=MAX_LIMIT).items
    return WholeCall(
        **_call(found).model_dump(),
        max_talk_s=call.max_talk_s,
        record=call.record,
        status_url=call.status_url and pushes.public_url(call.status_url),
        cdr_url=call.cdr_url and pushes.public_url(call.cdr_url),
        record_url=call.record_url and pushes.public_url(call.record_url),
        caller_route=list(plan.caller_route),
        callee_route=list(plan.callee_route),
        hold=plan.budget.hold if plan.budget else None,
        timeline=timeline_of(found.state),
        pushes=sorted(owed, key=lambda push: push.seq),
        recording=_recording(connection, call_id, base_url),
    )


def progress_of(state: CallState) -> Progress:
    caller, callee = state.caller, state.callee
    if state.over:
        return Progress.OVER
    if state.ending:
        return Progress.ENDING
    if state.talking:
        return Progress.TALKING
    if callee.dialled_at is not None or callee.tried:
        return Progress.CALLEE
    if caller.answered:
        return Progress.MENU
    return Progress.ACCEPTED if caller.dialled_at is None and not caller.tried else Progress.CALLER


def timeline_of(state: CallState) -> list[Moment]:
    """What has happened in a call so far, in its order."""
    found = [Moment(at=state.accepted_at, leg=None, event="accepted")]
    for leg in Leg:
        found += _moments(state, leg)
    if state.ended_at is not None:
        found.append(Moment(at=state.ended_at, leg=None, event="over"))
    return sorted(found, key=lambda moment: moment.at)


def _moments(state: CallState, leg: Leg) -> list[Moment]:
    party, own = _PARTY[leg], state.leg(leg)
    found = [
        Moment(
            at=one.at, leg=party, event="failed", trunk=one.trunk, reason=one.reason, sip_code=one.sip_code
        )
        for one in own.tried
    ]
    if own.dialled_at is not None:
        found.append(Moment(at=own.dialled_at, leg=party, event="dialled", trunk=state.trunk(leg)))
    record = own.record
    if record.invited_at is not None:
        found.append(Moment(at=record.invited_at, leg=party, event="invited"))
    if record.ringing_at is not None:
        found.append(Moment(at=record.ringing_at, leg=party, event="ringing"))
    if record.answered_at is not None:
        found.append(Moment(at=record.answered_at, leg=party, event="answered"))
    if record.ended_at is not None:
        end, code = record.ended_at, record.sip_code
        found.append(Moment(at=end, leg=party, event="ended", reason=record.reason, sip_code=code))
    return found


def _call(found: search.Found) -> Call:
    call = found.call
    return Call(
        call_id=call.call_id,
        app_id=call.app_id,
        request_id=call.request_id,
        biz_id=call.biz_id,
        order_id=call.order_id,
        caller=call.caller,
        callee=call.callee,
        caller_display=call.caller_display,
        callee_display=call.callee_display,
        caller_trunk=call.caller_trunk,
        callee_trunk=call.callee_trunk,
        progress=progress_of(found.state),
        accepted_at=call.accepted_at,
        ended_at=found.state.ended_at,
        result=found.result,
        talk_s=found.talk_s,
        billed_s=found.billed_s,
        charge=found.charge,
    )


def _recording(connection: Connection, call_id: str, base_url: str | None) -> Recording | None:
    found = find_recording(connection, call_id)
    if found is None:
        return None
    links = urls_of(connection, base_url, [call_id]) if base_url is not None else {}
    return Recording(
        state=found.state,
        reason=found.reason,
        duration_ms=found.duration_ms,
        bytes=found.bytes,
        expires_at=found.expires_at,
        url=links.get(call_id),
    )
