"""Admission: from a well-formed request to an accepted call, or a refusal that has written nothing.

`CHECKS` lists all checks in their order; adding a rule is adding a function and a line. The facts are read
and the call is written in one transaction; dialling is not its business.
"""

from __future__ import annotations

import random
from collections.abc import Callable
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
from huibo.model import App, Call, CallRequest
from huibo.ports import Engine
from huibo.storage.calls import add_call
from huibo.storage.catalog import find_app, list_trunks, numbers_of
from huibo.storage.database import Database


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

    async def accept(self, request: CallRequest) -> tuple[Call, CallState]:
        """Admit a request: its call is written, nothing is dialled. Raises `Refused`, nothing is written."""
        return await self._database.write(lambda connection: self._admit(connection, request))

    def _admit(self, connection: Connection, request: CallRequest) -> tuple[Call, CallState]:
        facts = Facts(
            request=request,
            app=find_app(connection, request.app_id),
            pool=tuple(numbers_of(connection, request.app_id)),
            trunks=tuple(list_trunks(connection)),
            engine_ready=self._engine.ready,
        )
        for check in CHECKS:
            check(facts)
        call = self._call(facts, self._clock.now_ms())
        state = CallState(call.accepted_at, self._plan(call))
        add_call(connection, call, state)
        return call, state

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
            biz_id=request.biz_id,
            order_id=request.order_id,
        )

    def _plan(self, call: Call) -> Plan:
        settings = self._settings
        return Plan(
            dispatch_deadline_s=settings.dispatch_deadline_s,
            caller_ring_s=settings.caller_ring_s,
            callee_ring_s=settings.callee_ring_s,
            max_talk_s=call.max_talk_s,
        )


def new_call_id(now: int) -> str:
    """A call id in the form known from the wire: `12-YYMMDD-` and 32 hex digits; opaque to clients."""
    return f"12-{datetime.fromtimestamp(now / 1000, UTC):%y%m%d}-{uuid4().hex}"
