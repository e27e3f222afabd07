"""`huibo trunk`: the SIP lines to carriers. Never shows a password."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from huibo.cli.output import AsJson, Failed, one, read, remove, say, table, unknown, write
from huibo.clock import Clock
from huibo.model import Trunk
from huibo.storage import catalog

commands = typer.Typer(no_args_is_help=True, help="Trunks: SIP lines to carriers.")


@commands.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.")],
    host: Annotated[str, typer.Option(help="Address or name of the carrier's SIP server.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5060,
    codecs: Annotated[str, typer.Option(help="Most wanted first.")] = "alaw,ulaw",
    username: Annotated[str | None, typer.Option(help="For digest authentication.")] = None,
    password: Annotated[
        str | None, typer.Option(help="For digest authentication; asked for when left out.")
    ] = None,
    priority: Annotated[int, typer.Option(help="The lowest is used first.")] = 0,
) -> None:
    """Add a trunk. Calls use it at once."""
    if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 40):
        raise Failed(f"{name}: a trunk's name is up to 40 letters, digits, - and _")
    if username and password is None:
        password = typer.prompt("password", hide_input=True)
    trunk = Trunk(name, host, port, codecs, username, password, priority)
    write(lambda connection: catalog.add_trunk(connection, trunk, Clock().now_ms()))
    say(f"trunk {name} added")


@commands.command("list")
def show_all(as_json: AsJson = False) -> None:
    """List the trunks, the one used first in front."""
    trunks = read(catalog.list_trunks)
    table(
        ("name", "address", "codecs", "username", "priority", "state"),
        [(t.name, f"{t.host}:{t.port}", t.codecs, t.username, t.priority, t.state.value) for t in trunks],
        [_shown(t) for t in trunks] if as_json else None,
    )


@commands.command("show")
def show(name: str, as_json: AsJson = False) -> None:
    """Show one trunk, without its password."""
    trunk = next((t for t in read(catalog.list_trunks) if t.name == name), None)
    if trunk is None:
        raise unknown("trunk", name)
    one(_shown(trunk), as_json)


@commands.command("remove")
def forget(name: str) -> None:
    """Remove a trunk. Calls that are up on it stay."""
    remove("trunk", name, catalog.remove_trunk)


def _shown(trunk: Trunk) -> dict[str, Any]:
    return asdict(trunk) | {"password": "***" if trunk.password else None}
