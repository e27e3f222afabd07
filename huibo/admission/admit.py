"""Admission: from a well-formed request to an accepted call, or a refusal that has written nothing.

`CHECKS` lists all checks in their order; adding a rule is adding a function and a line. The facts are read
and the call is written in one transaction; dialling is not its business.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import Connection

from huibo.admission.access import check_address, check_url_id
from huibo.admission.display import check_display_numbers, choose_display_numbers
from huibo.admission.facts import Facts
from huibo.admission.routing import check_line, choose_trunk
from huibo.clock import Clock
from huibo.config import Calls
from huibo.errors import Refusal, Refused
from huibo.flow.state import CallState, Plan
from huibo.model import App, Call, CallRequest, IdempotencyKey
from huibo.ports import Engine
from huibo.storage.calls import add_call, find_call
from huibo.storage.catalog import find_app, list_trunks, numbers_of
from huibo.storage.database import Database
from huibo.storage.idempotency import remember, remembered


def check_app(facts: Facts) -> None:
    known_app(facts.app, facts.request.url_id, facts.request.remote_ip)


def check_engine(facts: Facts) -> None:
    if not facts.engine_ready:
        raise Refused(Refusal.UNAVAILABLE)


CHECKS: tuple[Callable[[Facts], None], ...] = (
    check_app,
    check_display_numbers,
    check_engine,
    check_line,
)


def known_app(app: App | None, url_id: str, remote_ip: str) -> App:
    """Who asks, and from where: -401, -402, -403 in this order."""
    if app is None:
        raise Refused(Refusal.APP)
    check_url_id(app, url_id)
    check_address(app, remote_ip)
    return app


@dataclass(frozen=True, slots=True)
class Admitted:
    """An accepted call; `replayed`: it was accepted before, under the same idempotency key."""

    call: Call
    state: CallState
    replayed: bool = False


class Admission:
    """Admits requests for one process."""

    def __init__(self, database: Database, engine: Engine, clock: Clock, settings: Calls) -> None:
        self._database = database
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._choose = random.SystemRandom().choice

    async def authenticate(self, app_id: str, url_id: str, remote_ip: str) -> None:
        """Raise `Refused` unless this app may ask from there; before its parameters are looked at."""
        app = await self._database.read(lambda connection: find_app(connection, app_id))
        known_app(app, url_id, remote_ip)

    async def accept(self, request: CallRequest, key: IdempotencyKey | None = None) -> Admitted:
        """Admit a request: its call is written, nothing is dialled. Raises `Refused`, nothing is written.

        With a key that has been seen before it is the same call once more, or a refusal for another body.
        """
        return await self._database.write(lambda connection: self._admit(connection, request, key))

    def _admit(self, connection: Connection, request: CallRequest, key: IdempotencyKey | None) -> Admitted:
        now = self._clock.now_ms()
        if key is not None and (before := _seen(connection, request.app_id, key, now)):
            return before
        last = request.last_call_id and find_call(connection, request.app_id, request.last_call_id)
        facts = Facts(
            request=request,
            app=find_app(connection, request.app_id),
            pool=tuple(numbers_of(connection, request.app_id)),
            trunks=tuple(list_trunks(connection)),
            engine_ready=self._engine.ready,
            last_trunk=last[0].trunk.name if last else None,
        )
        for check in CHECKS:
            check(facts)
        call = self._call(facts, now)
        state = CallState(call.accepted_at, self._plan(facts, call))
        add_call(connection, call, state)
        if key is not None:
            remember(connection, request.app_id, key, call.call_id, now)
        return Admitted(call, state)

    def _call(self, facts: Facts, now: int) -> Call:
        request, app = facts.request, facts.app
        assert app is not None
        caller_display, callee_display = choose_display_numbers(facts, self._choose)
        return Call(
            call_id=new_call_id(now),
            app_id=request.app_id,
            request_id=request.request_id,
            caller=request.caller,
            callee=request.callee,
            caller_display=caller_display,
            callee_display=callee_display,
            trunk=choose_trunk(facts),
            max_talk_s=request.max_talk_s or self._settings.default_talk_min * 60,
            accepted_at=now,
            status_mask=request.status_mask,
            status_url=request.status_url or app.status_url,
            cdr_url=request.cdr_url or app.cdr_url,
            record_url=request.record_url or app.record_url,
            key_url=request.menu.key_url if request.menu else None,
            biz_id=request.biz_id,
            order_id=request.order_id,
            record=request.record,
            recognise_ringing=request.recognise_ringing,
        )

    def _plan(self, facts: Facts, call: Call) -> Plan:
        """The call's limits: the app's own settings where it has any."""
        settings, app = self._settings, facts.app
        assert app is not None
        own = app.settings
        return Plan(
            dispatch_deadline_s=settings.dispatch_deadline_s,
            caller_ring_s=own.caller_ring_s or settings.caller_ring_s,
            callee_ring_s=own.callee_ring_s or settings.callee_ring_s,
            max_talk_s=call.max_talk_s,
            ring_sound=own.ring_sound or settings.ring_sound,
            warn_s=settings.warn_s,
            warn=settings.warn if own.warn is None else own.warn,
            menu=facts.request.menu,
            key_wait_s=settings.key_wait_s,
            record=call.record,
        )


def _seen(connection: Connection, app_id: str, key: IdempotencyKey, now: int) -> Admitted | None:
    """The call that was accepted under this key before."""
    before = remembered(connection, app_id, key.key, now)
    if before is None:
        return None
    digest, call_id = before
    found = find_call(connection, app_id, call_id)
    if digest != key.digest or found is None:
        raise Refused(Refusal.PARAMETER, "Idempotency-Key: used before for another request")
    return Admitted(*found, replayed=True)


def new_call_id(now: int) -> str:
    """A call id in the form known from the wire: `12-YYMMDD-` and 32 hex digits; opaque to clients."""
    return f"12-{datetime.fromtimestamp(now / 1000, UTC):%y%m%d}-{uuid4().hex}"
