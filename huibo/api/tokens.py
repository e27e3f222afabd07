"""Routes of tokens: for admins only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from huibo.api.parts import Admin, Key, Paging
from huibo.api.problems import documented
from huibo.office import tokens
from huibo.office.page import Page
from huibo.office.tokens import MadeToken, NewToken, Token

router = APIRouter(prefix="/tokens", tags=["tokens"])


@router.get("")
async def list_tokens(office: Admin, query: Annotated[Paging, Query()]) -> Page[Token]:
    """All tokens, the newest first, also those that are valid no longer."""
    return await office.read(tokens.page, query.cursor, query.limit)


@router.post("", status_code=201)
async def make_token(office: Admin, new: NewToken) -> MadeToken:
    """Make a token, which is shown this once."""
    return await office.write(tokens.make, new)


@router.delete("/{token_id}", status_code=204, responses=documented(404))
async def revoke_token(office: Admin, token_id: Key) -> None:
    """Make a token invalid at once; it stays on record."""
    await office.write(tokens.revoke, token_id)
