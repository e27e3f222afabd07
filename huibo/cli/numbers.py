"""`huibo number`: the display numbers and the apps that may show them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from huibo.cli.output import AsJson, Failed, one, read, remove, say, table, unknown, write
from huibo.clock import Clock
from huibo.model import DisplayNumber
from huibo.storage import catalog

commands = typer.Typer(no_args_is_help=True, help="Display numbers: what phones show.")


@commands.command("add")
def add(
    number: Annotated[str, typer.Argument(help="As phones show it: national digits, e.g. 02131264133.")],
    app: Annotated[list[str] | None, typer.Option(help="An app that may show it; may be repeated.")] = None,
) -> None:
    """Add a display number."""
    if not (number.isascii() and number.isdigit() and 3 <= len(number) <= 20):
        raise Failed(f"{number}: a display number is 3 to 20 digits, e.g. 02131264133")
    added = DisplayNumber(number, apps=tuple(app or ()))
    write(lambda connection: catalog.add_number(connection, added, Clock().now_ms()))
    say(f"number {number} added")


@commands.command("list")
def show_all(as_json: AsJson = False) -> None:
    """List the display numbers and the apps that may show them."""
    found = read(catalog.list_numbers)
    table(
        ("number", "apps"),
        [(n.number, ", ".join(n.apps)) for n in found],
        [asdict(n) for n in found] if as_json else None,
    )


@commands.command("show")
def show(number: str, as_json: AsJson = False) -> None:
    """Show one display number."""
    found = read(lambda connection: catalog.find_number(connection, number))
    if found is None:
        raise unknown("number", number)
    one(asdict(found), as_json)


@commands.command("remove")
def forget(number: str) -> None:
    """Remove a display number."""
    remove("number", number, catalog.remove_number)
