"""The front desk: what a customer may ask of a running huibo, in our own words.

Puts admission, the live calls and the stored ones together; one app never sees the calls of another. Knows
neither HTTP nor the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from huibo.admission.abuse import Abuse
from huibo.admission.admit import Admission, Admitted, Unsure
from huibo.cells import Cells
from huibo.errors import Refusal, Refused
from huibo.flow.live import LiveCalls
from huibo.flow.state import CallState
from huibo.model import Call, CallRecord, CallRequest, CancelUnless, Cdr, DisplayMode, IdempotencyKey
from huibo.recording.urls import urls_of
from huibo.storage.calls import find_call, find_record, list_records
from huibo.storage.catalog import find_app, numbers_of
from huibo.storage.database import PATIENCE_S, TROUBLE, Database, Work

log = structlog.get_logger()

_RELEASE_RETRY_S = 0.5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AcceptedCall:
    """An accepted call on its way from admission to the flow."""

    call: Call
    live: LiveCalls
    replayed: bool = False

    @property
    def call_id(self) -> str:
        return self.call.call_id

    @property
    def caller_display(self) -> str:
        return self.call.caller_display

    @property
    def callee_display(self) -> str:
        return self.call.callee_display

    def dispatch(self) -> None:
        self.live.dispatch(self.call_id)


class Desk:
    """Serves the customers of one process."""

    def __init__(
        self,
        admission: Admission,
        abuse: Abuse,
        live: LiveCalls,
        cells: Cells,
        database: Database,
        base_url: str,
    ) -> None:
        """`base_url`: what links to recordings begin with."""
        self._admission = admission
        self._abuse = abuse
        self._live = live
        self._cells = cells
        self._database = database
        self._base_url = base_url
        self._disowning: set[asyncio.Task[None]] = set()

    async def authenticate(self, app_id: str, url_id: str, remote_ip: str, blocked_too: bool = False) -> None:
        try:
            with _in_trouble():
                await self._admission.authenticate(app_id, url_id, remote_ip, blocked_too)
        except Refused as refused:
            await self._abuse.refused(remote_ip, refused)
            raise

    async def accept(self, request: CallRequest, key: IdempotencyKey | None) -> AcceptedCall:
        """Admit a request and own its call; nothing is dialled before its `dispatch`.

        Raises `Refused` in the first place as `authenticate` does: nobody need ask for that before.
        """
        try:
            with _in_trouble():
                admitted = await self._admission.accept(request, key)
        except Refused as refused:
            if not request.by_operator:
                await self._abuse.refused(request.remote_ip, refused)
            raise
        except Unsure as unsure:
            task = asyncio.create_task(self._disown(unsure.admitted, key))
            self._disowning.add(task)
            task.add_done_callback(self._disowning.discard)
            raise _unavailable(unsure) from None
        if not admitted.replayed:
            call = admitted.call
            log.info("call accepted", call=call.call_id, app_id=call.app_id, trunk=call.caller_trunk)
            self._live.adopt(call, admitted.state)
        return AcceptedCall(admitted.call, self._live, admitted.replayed)

    async def cancel(self, app_id: str, call_id: str, unless: CancelUnless) -> bool | None:
        found = await self.status(app_id, call_id)
        if found is None or found[1].over:
            return None
        with _in_trouble():
            async with asyncio.timeout(PATIENCE_S):  # it stays asked for, and is done when the call's step is
                ending = await self._live.cancel(call_id, unless)
            return await self._cells.cancel(call_id, unless) if ending is None else ending

    async def status(self, app_id: str, call_id: str) -> tuple[Call, CallState] | None:
        return await self._read(lambda connection: find_call(connection, app_id, call_id))

    async def record(self, app_id: str, call_id: str) -> CallRecord | None:
        def work(connection: Connection) -> list[CallRecord]:
            found = find_record(connection, app_id, call_id)
            return self._with_links(connection, [found] if found else [])

        return next(iter(await self._read(work)), None)

    async def records(
        self, app_id: str, start: int, end: int, caller: str | None, limit: int
    ) -> tuple[list[CallRecord], int]:
        def work(connection: Connection) -> tuple[list[CallRecord], int]:
            found, offset = list_records(connection, app_id, start, end, caller, limit)
            return self._with_links(connection, found), offset

        return await self._read(work)

    async def display_numbers(self, app_id: str) -> list[str]:
        def work(connection: Connection) -> list[str]:
            app = find_app(connection, app_id)
            if app is None or app.settings.display is DisplayMode.MUTUAL:
                return []
            return [number.number for number in numbers_of(connection, app_id)]

        return await self._read(work)

    async def _read(self, work: Work[T]) -> T:
        with _in_trouble():
            return await self._database.read(work, PATIENCE_S)

    async def _disown(self, admitted: Admitted, key: IdempotencyKey | None) -> None:
        """What was not accepted does not ring, whatever became of it, and may be asked for again."""
        log.warning("call in doubt", call=admitted.call.call_id)
        while True:
            try:
                await self._admission.release(admitted, key)
                break
            except TROUBLE:
                await asyncio.sleep(_RELEASE_RETRY_S)
        self._live.disown(admitted.call, admitted.state)

    def _with_links(self, connection: Connection, found: list[tuple[Call, Cdr]]) -> list[CallRecord]:
        links = urls_of(connection, self._base_url, [call.call_id for call, _ in found if call.record])
        return [CallRecord(call, cdr, links.get(call.call_id, "")) for call, cdr in found]


@contextmanager
def _in_trouble() -> Iterator[None]:
    """While the database cannot be used there is no service: who asks is told so, and not kept waiting."""
    try:
        yield
    except (*TROUBLE, TimeoutError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Refused:
    log.error("database out of reach", reason=(str(error) or type(error).__name__).partition("\n")[0])
    return Refused(Refusal.UNAVAILABLE, "database out of reach, try again")
