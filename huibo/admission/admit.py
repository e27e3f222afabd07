"""Admission: from a well-formed request to an accepted call, or a refusal that has written nothing.

`CHECKS` lists all checks in their order; adding a rule is adding a function and a line. The facts are read
and the call is written in one transaction; dialling is not its business.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from huibo.admission import access, display, hours, limits, money, routing
from huibo.admission.facts import Facts
from huibo.clock import Clock
from huibo.config import Calls
from huibo.errors import Refusal, Refused
from huibo.flow.state import CallState, Plan
from huibo.model import AppSettings, Call, CallRequest, IdempotencyKey, Leg, Trunk
from huibo.ports import Engine
from huibo.storage.accounts import Account, find_account, hold
from huibo.storage.blacklist import listed_party
from huibo.storage.calls import add_call, find_call
from huibo.storage.catalog import lock_trunks
from huibo.storage.catalog_cache import Catalog, CatalogCache, Customer
from huibo.storage.database import PATIENCE_S, TROUBLE, Database
from huibo.storage.idempotency import forget, remember, remembered
from huibo.storage.locks import Bars, bars_to
from huibo.storage.usage import legs_on, used
from huibo.storage.writer import InDoubt

_ASK_AGAIN_S = 0.2


def engine(facts: Facts) -> None:
    """There is an engine to dial with, and it is to be used (-501)."""
    if facts.draining:
        raise Refused(Refusal.UNAVAILABLE, "server disabled: it is draining")
    if not facts.engine_ready:
        raise Refused(Refusal.UNAVAILABLE)


CHECKS: tuple[Callable[[Facts], None], ...] = (
    access.app,
    access.state,
    hours.hours,
    limits.blacklist,
    limits.callee_calls,
    limits.calls_per_second,
    limits.calls_at_once,
    display.display_numbers,
    engine,
    routing.line,
    money.rates,
    money.balance,
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An accepted call; `replayed`: it was accepted before, under the same idempotency key."""

    call: Call
    state: CallState
    replayed: bool = False


class Unsure(Exception):
    """It is not known whether a call has been written. If it turns out that it was, it is not dialled."""

    def __init__(self, admitted: Admitted) -> None:
        super().__init__(admitted.call.call_id)
        self.admitted = admitted


@dataclass(frozen=True, slots=True)
class Examined:
    """What would become of a request: a call and its plan, or a refusal."""

    facts: Facts
    call: Call | None = None
    plan: Plan | None = None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What a transaction knows of who asks. `at`: UNIX ms."""

    at: int
    catalog: Catalog
    customer: Customer
    bars: Bars


class Admission:
    """Admits requests for one process."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        clock: Clock,
        settings: Calls,
        cell: str = "main",
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """`draining`: whether this process is to take no more calls."""
        self._database = database
        self._cell = cell
        self._draining = draining
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._catalogs = CatalogCache()
        self._choose = random.SystemRandom().choice

    async def authenticate(self, app_id: str, url_id: str, remote_ip: str, blocked_too: bool = False) -> None:
        """Raise `Refused` unless this app may ask from there; before its parameters are looked at.

        `blocked_too`: an app that may not call may ask this.
        """
        known = await self._database.read(lambda c: self._know(c, app_id, remote_ip), PATIENCE_S)
        access.authenticate(known.customer.app, known.bars.address, url_id, remote_ip, blocked_too)

    async def accept(self, request: CallRequest, key: IdempotencyKey | None = None) -> Admitted:
        """Admit a request: its call is written, nothing is dialled. Raises `Refused`, nothing is written.

        Who asks is looked at first, as by `authenticate`, unless it is the operator.
        With a key that has been seen before it is the same call once more, or a refusal for another body.
        When the database does not answer in time: one of `TROUBLE`, nothing is written; or `Unsure`.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        last: list[Admitted | Refused] = []

        def work(connection: Connection) -> Admitted | Refused:
            try:
                last[:] = [self._admit(connection, request, key)]
            except Refused as refused:  # it has written nothing: no reason to undo what others have
                last[:] = [refused]
            return last[0]

        try:
            admitted = await self._database.write(work, PATIENCE_S, of=request.app_id)
        except InDoubt:
            admitted = last[0]
            if isinstance(admitted, Refused) or admitted.replayed:
                raise  # it wrote nothing
        else:
            if isinstance(admitted, Refused):
                raise admitted
            return admitted
        while (left_s := until - loop.time()) > 0:
            if await self._is_kept(admitted, left_s):
                return admitted
            await asyncio.sleep(_ASK_AGAIN_S)
        raise Unsure(admitted)

    async def release(self, admitted: Admitted, key: IdempotencyKey | None) -> None:
        """Have the key of a request free for the next try, should its call have been written after all."""
        call = admitted.call
        if key is not None:
            await self._database.write(lambda c: forget(c, call.app_id, key, call.call_id))

    async def _is_kept(self, admitted: Admitted, patience_s: float) -> bool:
        """Whether a call is there. That it is not says nothing: a commit may outlive its connection."""
        call = admitted.call
        try:
            found = await self._database.read(lambda c: find_call(c, call.app_id, call.call_id), patience_s)
        except TROUBLE:
            return False
        return found is not None

    async def examine(self, request: CallRequest) -> Examined:
        """What `accept` would do, without doing it."""

        def work(connection: Connection) -> Facts:
            known = self._know(connection, request.app_id, request.remote_ip)
            return self._gather(connection, request, known, lock=False)[0]

        return self._examine(await self._database.read(work))

    def _admit(self, connection: Connection, request: CallRequest, key: IdempotencyKey | None) -> Admitted:
        known = self._know(connection, request.app_id, request.remote_ip)
        app = known.customer.app
        if not request.by_operator:
            access.authenticate(app, known.bars.address, request.url_id, request.remote_ip)
        if key is not None and (before := _seen(connection, request.app_id, key, known.at)):
            return before
        facts, account = self._gather(connection, request, known, lock=True)
        examined = self._examine(facts)
        if examined.refused is not None:
            raise examined.refused
        call, plan = examined.call, examined.plan
        assert call is not None
        assert plan is not None
        state = CallState(call.accepted_at, plan)
        add_call(connection, call, state)
        if plan.budget is not None and plan.budget.hold:
            hold(connection, call.app_id, call.call_id, plan.budget.hold, facts.now, account)
        if key is not None:
            remember(connection, request.app_id, key, call.call_id, facts.now)
        return Admitted(call, state)

    def _examine(self, facts: Facts) -> Examined:
        rule = ""
        try:
            for check in CHECKS:
                rule = check.__name__
                check(facts)
            rule = routing.line.__name__
            call, plan = self._decide(facts)
        except Refused as refused:
            refused.rule = rule
            return Examined(facts, refused=refused)
        return Examined(facts, call, plan)

    def _know(self, connection: Connection, app_id: str, remote_ip: str) -> _Known:
        now = self._clock.now_ms()
        catalog = self._catalogs.at(connection)
        return _Known(now, catalog, catalog.customer(app_id), bars_to(connection, app_id, remote_ip, now))

    def _gather(
        self, connection: Connection, request: CallRequest, known: _Known, lock: bool
    ) -> tuple[Facts, Account | None]:
        """What must be known of the world, and the account of an app that pays.

        `lock`: nobody else takes of the account, or the last channel of a trunk, until this call is written.
        The app itself is held by the transaction from its beginning.
        """
        now, settings = known.at, self._settings
        app, pool = known.customer.app, known.customer.pool
        own = app.settings if app else AppSettings()
        trunks = known.catalog.trunks()
        bounded = {one.name: one.channels for one in trunks if one.channels}
        if bounded and lock:
            lock_trunks(connection, bounded)
        room = {name: channels - legs_on(connection, name) for name, channels in bounded.items()}
        last = request.last_call_id and find_call(connection, request.app_id, request.last_call_id)
        parties = {Leg.CALLER: request.caller, Leg.CALLEE: request.callee}
        caller_rate = callee_rate = None
        if own.rate_plan:
            caller_rate, callee_rate = known.catalog.rates(own.rate_plan, *parties.values())
        account = find_account(connection, request.app_id, lock) if own.rate_plan else None
        facts = Facts(
            request=request,
            call_id=new_call_id(now),
            app=app,
            now=now,
            local=datetime.fromtimestamp(now / 1000, ZoneInfo(own.timezone)),
            pool=pool,
            trunks=trunks,
            engine_ready=self._engine.ready,
            max_talk_s=request.max_talk_s or settings.default_talk_min * 60,
            callee_ring_s=own.callee_ring_s or settings.callee_ring_s,
            closed=self._closed(trunks, room, known.bars.trunks),
            room=room,
            app_locked=known.bars.app,
            listed=listed_party(connection, request.app_id, parties, now),
            usage=used(connection, request.app_id, request.callee, own, now),
            avoid=frozenset({last[0].caller_trunk, last[0].callee_trunk}) if last else frozenset(),
            caller_rate=caller_rate,
            callee_rate=callee_rate,
            available=account.available if account else 0,
            draining=self._draining(),
        )
        return facts, account

    def _closed(
        self, trunks: Sequence[Trunk], room: dict[str, int], locked: frozenset[str]
    ) -> dict[str, str]:
        """The trunks that take no call at this moment, and why."""
        locks = dict.fromkeys(locked, "locked")
        full = {name: "full" for name, free in room.items() if free <= 0}
        down = {one.name: "unreachable" for one in trunks if not self._engine.line(one.name).usable}
        return down | full | locks

    def _decide(self, facts: Facts) -> tuple[Call, Plan]:
        request, app = facts.request, facts.app
        assert app is not None
        shown = display.choose_display_numbers(facts, self._choose)
        caller_route = routing.route(facts, Leg.CALLER, shown[0])
        callee_route = routing.route(facts, Leg.CALLEE, shown[1], taken=caller_route[0])
        call = Call(
            call_id=facts.call_id,
            app_id=request.app_id,
            request_id=request.request_id,
            caller=request.caller,
            callee=request.callee,
            caller_display=shown[0],
            callee_display=shown[1],
            caller_trunk=caller_route[0],
            callee_trunk=callee_route[0],
            max_talk_s=facts.max_talk_s,
            accepted_at=facts.now,
            status_mask=request.status_mask,
            status_url=request.status_url or app.status_url,
            cdr_url=request.cdr_url or app.cdr_url,
            record_url=request.record_url or app.record_url,
            key_url=request.menu.key_url if request.menu else None,
            biz_id=request.biz_id,
            order_id=request.order_id,
            record=request.record,
            recognise_ringing=request.recognise_ringing,
            cell=self._cell,
        )
        return call, self._plan(facts, app.settings, caller_route, callee_route)

    def _plan(
        self, facts: Facts, own: AppSettings, caller_route: tuple[str, ...], callee_route: tuple[str, ...]
    ) -> Plan:
        """The call's limits: the app's own settings where it has any."""
        settings = self._settings
        return Plan(
            dispatch_deadline_s=settings.dispatch_deadline_s,
            caller_ring_s=own.caller_ring_s or settings.caller_ring_s,
            callee_ring_s=facts.callee_ring_s,
            max_talk_s=facts.max_talk_s,
            ring_sound=own.ring_sound or settings.ring_sound,
            warn_s=settings.warn_s,
            warn=settings.warn if own.warn is None else own.warn,
            menu=facts.request.menu,
            key_wait_s=settings.key_wait_s,
            record=facts.request.record,
            caller_route=caller_route,
            callee_route=callee_route,
            paced=tuple(one.name for one in facts.trunks if one.calls_per_second is not None),
            budget=money.budget(facts),
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
