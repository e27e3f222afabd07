"""Routes of rates."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from huibo.api.parts import Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import rates
from huibo.office.page import Page
from huibo.office.patterns import Prefix
from huibo.office.rates import Plan, Rate

router = APIRouter(prefix="/rates", tags=["rates"])


class RatesQuery(Paging):
    """Which rates are listed."""

    plan: Plan | None = None


class RateKey(BaseModel, extra="forbid"):
    """Which rate is meant; the prefix "" is that of all numbers."""

    plan: Plan = "default"
    prefix: Prefix


@router.get("")
async def list_rates(office: Viewer, query: Annotated[RatesQuery, Query()]) -> Page[Rate]:
    return await office.read(rates.page, query.plan, query.cursor, query.limit)


@router.put("")
async def put_rate(office: Operator, rate: Rate) -> Rate:
    """Add a rate to its plan, or replace the one of its prefix. Calls under way keep theirs."""
    return await office.write(rates.put, rate)


@router.delete("", status_code=204, responses=documented(404))
async def remove_rate(office: Operator, key: Annotated[RateKey, Query()]) -> None:
    await office.write(rates.remove, key.plan, key.prefix)
