"""Routes of accounts: balances, the ledger, statements. Money moves for admins only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.responses import Response

from huibo.api.parts import Admin, Key, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import accounts
from huibo.office.accounts import Account, Adjustment, Credit, Entry
from huibo.office.page import Page
from huibo.office.statement import statement

router = APIRouter(prefix="/accounts/{app_id}", tags=["accounts"], responses=documented(404))

_CSV = "text/csv; charset=utf-8"


@router.get("")
async def show_account(office: Viewer, app_id: Key) -> Account:
    """What the app has paid and not used, and what of it its live calls may use. In 1/1000 fen."""
    return await office.read(accounts.show, app_id)


@router.post("/credits", status_code=201)
async def credit(office: Admin, app_id: Key, paid: Credit) -> Account:
    """Pay an amount in."""
    return await office.write(accounts.credit, app_id, paid)


@router.post("/adjustments", status_code=201)
async def adjust(office: Admin, app_id: Key, change: Adjustment) -> Account:
    """Change the balance either way, with a reason."""
    return await office.write(accounts.adjust, app_id, change)


@router.get("/ledger")
async def ledger(office: Viewer, app_id: Key, query: Annotated[Paging, Query()]) -> Page[Entry]:
    """All that ever moved the balance or was held, the newest first."""
    return await office.read(accounts.ledger, app_id, query.cursor, query.limit)


@router.get(
    "/statement",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "CSV"}},
)
async def show_statement(
    office: Viewer, app_id: Key, month: Annotated[str, Query(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$")]
) -> Response:
    """A month of the account as CSV, amounts in yuan. A month is written like 2026-11."""

    def whole(connection: Connection) -> str:
        return "".join(statement(connection, app_id, month))

    headers = {"content-disposition": f'attachment; filename="statement-{month}.csv"'}
    return Response(await office.read(whole), headers=headers, media_type=_CSV)
