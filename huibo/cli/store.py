"""How commands reach the settings and the database, and in whose name they change something."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Concatenate, ParamSpec, TypeVar

import typer
from pydantic import BaseModel
from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from huibo import config
from huibo.cli.output import Failed, hint
from huibo.clock import Clock
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.page import MAX_LIMIT, Page
from huibo.storage.catalog import Conflict
from huibo.storage.database import open_engine
from huibo.storage.migrate import is_current, migrate

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", bound=BaseModel)

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]
After = Annotated[str | None, typer.Option(help="Those behind: what the page before said.")]

# What lists things of a kind, where it is not the command of that name.
_LISTS = {"call": "calls", "push secret": "secret list APP", "push target": "push targets"}


def settings() -> config.Settings:
    try:
        return config.load()
    except config.BadSettings as error:
        raise Failed(str(error)) from error


def author() -> Author:
    """Whoever runs the command, by the name that the system knows."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # in a container, as a rule
        name = str(user)
    return Author(f"cli:{name}", "cli", Clock().now_ms())


def read(unit: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a unit of work that only reads."""
    with database() as engine, engine.execution_options(reading=True).connect() as connection:
        return unit(connection, *args, **kwargs)


def change(unit: Callable[Concatenate[Connection, Author, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a unit of work that changes something in the caller's name."""
    with database() as engine, engine.begin() as connection:
        return unit(connection, author(), *args, **kwargs)


def every(fetch: Callable[[Connection, str | None, int], Page[Item]]) -> list[Item]:
    """All items of a list that comes in pages."""

    def work(connection: Connection) -> list[Item]:
        page = fetch(connection, None, MAX_LIMIT)
        found = page.items
        while page.next is not None:
            page = fetch(connection, page.next, MAX_LIMIT)
            found += page.items
        return found

    return read(work)


def listed(
    fetch: Callable[[Connection, str | None, int], Page[Item]], limit: int, after: str | None
) -> list[Item]:
    """So many items of a list that may be long; says how the next ones are seen."""

    def work(connection: Connection) -> Page[Item]:
        page = fetch(connection, after, min(limit, MAX_LIMIT))
        found = page.items
        while page.next is not None and len(found) < limit:
            page = fetch(connection, page.next, min(limit - len(found), MAX_LIMIT))
            found += page.items
        return Page(items=found, next=page.next)

    page = read(work)
    if page.next is not None:
        hint(f"there are more: --after {page.next}")
    return page.items


@contextmanager
def database() -> Iterator[Engine]:
    """The database, brought to its schema. What goes wrong with it, or in it, is one line."""
    url = settings().database_url
    try:
        shown = repr(make_url(url))  # without the password
        engine = open_engine(url)
    except (ArgumentError, ImportError) as error:
        raise Failed(f"database_url: {error} (set HUIBO_DATABASE_URL or database_url)") from error
    try:
        if not is_current(engine):
            _bring_up(engine, shown)
        yield engine
    except DBAPIError as error:
        raise Failed(f"database {shown}: {error.orig} (set HUIBO_DATABASE_URL or database_url)") from error
    except NotFound as error:
        shows = _LISTS.get(error.kind, f"{error.kind} list")
        raise Failed(f"{error}: `huibo {shows}` shows those there are") from error
    except Invalid as error:
        raise Failed(f"{error.field.replace('_', '-')}: {error.message}") from error
    except Conflict as error:
        raise Failed(str(error)) from error
    finally:
        engine.dispose()


def _bring_up(engine: Engine, shown: str) -> None:
    from alembic.util import CommandError

    try:
        migrate(engine)
    except CommandError as error:
        raise Failed(f"database {shown} belongs to a newer huibo ({error}): upgrade this one") from error
