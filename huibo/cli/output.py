"""What the command line says and how it reaches the database.

Owns the consoles, tables, JSON and the one-line failure; no command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from alembic.util import CommandError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from huibo import config
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate

T = TypeVar("T")

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Failed(Exception):
    """The command could not do what was asked. The message is one line and says what to do."""


def remove(kind: str, key: str, remover: Callable[[Connection, str], bool]) -> None:
    """Remove something by its key and say so, or fail when it is not there."""
    if not write(lambda connection: remover(connection, key)):
        raise unknown(kind, key)
    say(f"{kind} {key} removed")


def unknown(kind: str, key: str) -> Failed:
    return Failed(f"no {kind} {key}: `huibo {kind} list` shows those there are")


def read(work: Callable[[Connection], T]) -> T:
    with database() as engine, engine.connect() as connection:
        return work(connection)


def write(work: Callable[[Connection], T]) -> T:
    with database() as engine, engine.begin() as connection:
        return work(connection)


@contextmanager
def database() -> Iterator[Engine]:
    url = config.load().database_url
    try:
        shown = repr(make_url(url))  # without the password
        engine = open_engine(url)
    except (ArgumentError, ImportError) as error:
        raise Failed(f"database_url: {error} (set HUIBO_DATABASE_URL or database_url)") from error
    try:
        migrate(engine)
        yield engine
    except CommandError as error:
        raise Failed(f"database {shown} belongs to a newer huibo ({error}): upgrade this one") from error
    except DBAPIError as error:
        raise Failed(f"database {shown}: {error.orig} (set HUIBO_DATABASE_URL or database_url)") from error
    finally:
        engine.dispose()


def say(text: str) -> None:
    """Print a line as it is: names may look like markup."""
    console.print(text, markup=False, emoji=False, soft_wrap=True)


def table(heads: Iterable[str], rows: Iterable[Iterable[object]], as_json: object) -> None:
    if as_json is not None:
        console.print_json(json.dumps(as_json))
        return
    shown = Table(*(Column(head, overflow="fold") for head in heads), box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(shown)


def one(fields: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps(fields))
        return
    table = Table(Column(), Column(overflow="fold"), box=None, pad_edge=False, show_header=False)
    for key, value in fields.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        table.add_row(key, Text("" if shown is None else str(shown)))
    console.print(table)
