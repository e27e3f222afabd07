"""What the database holds after a run, read once, as of one moment. Never writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select

from huibo.flow.state import CallState
from huibo.model import App, Call, Cdr, Leg
from huibo.rating import Rate
from huibo.storage.calls import call_of, find_cdr, state_of
from huibo.storage.catalog import list_apps
from huibo.storage.database import open_engine, reader_of
from huibo.storage.rates import find_rates
from huibo.storage.tables import accounts, calls, cdrs, idempotency, ledger, pushes, recordings


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A row of calls with its CDR."""

    call: Call
    state: CallState
    cdr: Cdr | None
    ended_at: int | None

    @property
    def parts(self) -> tuple[Call, CallState, Cdr | None, int | None]:
        return self.call, self.state, self.cdr, self.ended_at


@dataclass(frozen=True, slots=True)
class StoredPush:
    call_id: str
    kind: str
    seq: int
    url: str
    state: str
    attempts: int
    body: dict[str, str]

    @property
    def webhook_id(self) -> str:
        return f"{self.call_id}-{self.seq}"


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything. Rows that need no more are mappings of their columns."""

    apps: dict[str, App]
    calls: list[StoredCall]
    cdr_ids: set[str]
    pushes: list[StoredPush]
    recordings: dict[str, RowMapping]
    accounts: dict[str, RowMapping]
    ledger: list[RowMapping]
    keys: dict[tuple[str, str], str]  # app and Idempotency-Key: the call
    rates: dict[tuple[str, Leg], Rate | None]  # of a call's legs, by its app's plan


def read(url: str) -> Stored:
    engine = open_engine(url)
    try:
        with reader_of(engine).connect() as connection:
            return _read(connection)
    finally:
        engine.dispose()


def _read(connection: Connection) -> Stored:
    apps = {app.app_id: app for app in list_apps(connection)}
    found = [
        StoredCall(call_of(row), state_of(row), find_cdr(connection, row["call_id"]), row["ended_at"])
        for row in _rows(connection, calls, "accepted_at", "call_id")
    ]
    return Stored(
        apps=apps,
        calls=found,
        cdr_ids={row["call_id"] for row in _rows(connection, cdrs)},
        pushes=[_push(row) for row in _rows(connection, pushes, "call_id", "seq", "id")],
        recordings={row["call_id"]: row for row in _rows(connection, recordings)},
        accounts={row["app_id"]: row for row in _rows(connection, accounts)},
        ledger=list(_rows(connection, ledger, "id")),
        keys={(row["app_id"], row["key"]): row["call_id"] for row in _rows(connection, idempotency)},
        rates=_rates(connection, apps, found),
    )


def _rows(connection: Connection, table: Table, *order: str) -> list[RowMapping]:
    query = select(table).order_by(*(table.c[name] for name in order))
    return list(connection.execute(query).mappings())


def _push(row: RowMapping) -> StoredPush:
    values: dict[str, Any] = {name: row[name] for name in StoredPush.__dataclass_fields__}
    return StoredPush(**values | {"body": json.loads(row["body"])})


def _rates(
    connection: Connection, apps: dict[str, App], found: list[StoredCall]
) -> dict[tuple[str, Leg], Rate | None]:
    rates: dict[tuple[str, Leg], Rate | None] = {}
    for one in found:
        app = apps.get(one.call.app_id)
        plan = app.settings.rate_plan if app else None
        for leg, number in ((Leg.CALLER, one.call.caller), (Leg.CALLEE, one.call.callee)):
            rates[one.call.call_id, leg] = find_rates(connection, plan, number)[0] if plan else None
    return rates
