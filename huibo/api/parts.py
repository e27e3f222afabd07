"""What the routes work with: the parts of this process, and the office in the name of who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Concatenate, ParamSpec, TypeVar

from fastapi import Depends, HTTPException, Path, Request, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from huibo.admission.admit import Admission
from huibo.clock import Clock
from huibo.desk import Desk
from huibo.lines.book import TrunkBook
from huibo.office.author import Author
from huibo.office.page import DEFAULT_LIMIT, Limit
from huibo.office.tokens import Token
from huibo.ports import Engine
from huibo.storage.cells import Cell
from huibo.storage.database import Database
from huibo.storage.tokens import Role

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a process that its operators' API speaks to, and what is configured of it."""

    database: Database
    clock: Clock
    engine: Engine
    desk: Desk
    admission: Admission
    about: Callable[[], Cell]
    trunks: TrunkBook
    pushes_owed: Callable[[], None]
    base_url: str
    max_talk_s: int
    keep_old_secret_s: int
    max_body_bytes: int
    max_import_bytes: int
    body_timeout_s: float


class Office:
    """The office for one request: units of work, changes in the name of the token's bearer."""

    def __init__(self, parts: Parts, author: Author, role: Role) -> None:
        self.parts = parts
        self.author = author
        self.role = role

    @property
    def now(self) -> int:
        return self.author.at

    async def read(
        self, unit: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.parts.database.read(lambda connection: unit(connection, *args, **kwargs))

    async def write(
        self, unit: Callable[Concatenate[Connection, Author, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.parts.database.write(
            lambda connection: unit(connection, self.author, *args, **kwargs)
        )


class Paging(BaseModel, extra="forbid"):
    """Which page of a list: the `next` of the one before it."""

    cursor: Annotated[str, Field(max_length=500)] | None = None
    limit: Limit = DEFAULT_LIMIT


_bearer = HTTPBearer(auto_error=False, description="a token of `huibo token add`")


def _office(needed: Role) -> Callable[[Request], Awaitable[Office]]:
    async def office(request: Request, _shown: Annotated[object, Security(_bearer)] = None) -> Office:
        token: Token = request.state.token
        if not token.role.covers(needed):
            raise HTTPException(
                HTTPStatus.FORBIDDEN, f"this needs the role {needed}, and the token is of a {token.role}"
            )
        return Office(request.app.state.parts, request.state.author, token.role)

    return office


Viewer = Annotated[Office, Depends(_office(Role.VIEWER))]
Operator = Annotated[Office, Depends(_office(Role.OPERATOR))]
Admin = Annotated[Office, Depends(_office(Role.ADMIN))]

Key = Annotated[str, Path(max_length=64)]
