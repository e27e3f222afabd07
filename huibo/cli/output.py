"""What the command line says: lines, tables, JSON, and the one line of a failure. No command, no database."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Failed(Exception):
    """The command could not do what was asked. The message is one line and says what to do."""


@cache
def console() -> Console:
    from rich.console import Console  # takes a while, and most lines do without it

    # a file or a pipe has no edge at which tables would have to be folded
    return Console(highlight=False, width=None if sys.stdout.isatty() else 1000)


def say(text: str) -> None:
    """Print a line as it is."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Say on standard error what went wrong."""
    typer.secho(f"huibo: {text}", fg="red", err=True)


def hint(text: str) -> None:
    """Say something beside the result, so that it is in nobody's way."""
    typer.secho(text, dim=True, err=True)


def print_json(value: Any) -> None:
    say(json.dumps(value, ensure_ascii=False, indent=2))


def table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    shown = Table(*(Column(head, overflow="fold") for head in heads), box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*(Text(cell(value)) for value in row))  # names may look like markup
    console().print(shown)


def one(fields: dict[str, Any]) -> None:
    """The fields of one thing, a line each."""
    from rich.table import Column, Table
    from rich.text import Text

    shown = Table(Column(), Column(overflow="fold"), box=None, pad_edge=False, show_header=False)
    for key, value in fields.items():
        shown.add_row(key.replace("_", "-"), Text(cell(value)))
    console().print(shown)


def cell(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return str(value)


def clock_time(at: int | None) -> str:
    """UNIX ms as the time here."""
    return "" if at is None else f"{datetime.fromtimestamp(at / 1000):%Y-%m-%d %H:%M:%S}"
