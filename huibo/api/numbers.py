"""Routes of display numbers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from huibo.api.parts import Key, Operator, Paging, Viewer
from huibo.api.problems import documented
from huibo.office import numbers
from huibo.office.numbers import Number, NumberChange
from huibo.office.page import Page

router = APIRouter(prefix="/numbers", tags=["numbers"])


class NumbersQuery(Paging):
    """Which numbers are listed."""

    app_id: Annotated[str, Field(max_length=64)] | None = None


@router.get("")
async def list_numbers(office: Viewer, query: Annotated[NumbersQuery, Query()]) -> Page[Number]:
    return await office.read(numbers.page, query.app_id, query.cursor, query.limit)


@router.post("", status_code=201, responses=documented(409))
async def add_number(office: Operator, number: Number) -> Number:
    return await office.write(numbers.add, number)


@router.get("/{number}", responses=documented(404))
async def show_number(office: Viewer, number: Key) -> Number:
    return await office.read(numbers.find, number)


@router.patch("/{number}", responses=documented(404, 409))
async def change_number(office: Operator, number: Key, changes: NumberChange) -> Number:
    """Change what is given. Calls under way go on as they began."""
    return await office.write(numbers.change, number, changes)


@router.delete("/{number}", status_code=204, responses=documented(404, 409))
async def remove_number(office: Operator, number: Key) -> None:
    """Refused while an app shows it as its fixed number."""
    await office.write(numbers.remove, number)
