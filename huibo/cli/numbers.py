"""`huibo number`: the display numbers, and the apps that may show them."""

from __future__ import annotations

from typing import Annotated

import typer

from huibo.cli import changes
from huibo.cli.output import AsJson, one, print_json, say, table
from huibo.cli.store import change, every, read
from huibo.office import numbers
from huibo.office.numbers import Number, NumberChange

commands = typer.Typer(no_args_is_help=True)

_HELP = f"{changes.keys(NumberChange)}. Lists with commas. KEY= alone: as it is by default."


@commands.command("add")
def add(
    number: Annotated[str, typer.Argument(help="As phones show it: national digits, e.g. 02131264133.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=_HELP)] = None,
    app: Annotated[list[str] | None, typer.Option(help="An app that may show it; may be repeated.")] = None,
    trunk: Annotated[
        list[str] | None, typer.Option(help="A trunk it may be shown on; may be repeated. None: all.")
    ] = None,
) -> None:
    """Add a display number."""
    given = {"number": number, "apps": app or None, "trunks": trunk or None}
    change(numbers.add, changes.read(Number, words or [], given))
    say(f"number {number} added")


@commands.command("set")
def set_(
    number: str, words: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help=_HELP)]
) -> None:
    """Change a display number."""
    change(numbers.change, number, changes.read(NumberChange, words))
    say(f"number {number} changed")


@commands.command("list")
def list_(
    app: Annotated[str | None, typer.Option(help="Only those that this app may show.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the display numbers and the apps that may show them."""
    found = every(lambda connection, after, limit: numbers.page(connection, app, after, limit))
    if as_json:
        print_json([number.model_dump(mode="json") for number in found])
        return
    table(
        ("number", "apps", "area", "in use", "trunks"),
        [(n.number, n.apps, n.area, n.enabled, n.trunks or "all") for n in found],
    )


@commands.command("show")
def show(number: str, as_json: AsJson = False) -> None:
    """Show one display number."""
    found = {"number": number} | read(numbers.find, number).model_dump(mode="json")
    if as_json:
        print_json(found)
    else:
        one(found)


@commands.command("remove")
def remove(number: str) -> None:
    """Remove a display number."""
    change(numbers.remove, number)
    say(f"number {number} removed")
