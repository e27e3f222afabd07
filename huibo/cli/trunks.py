"""`huibo trunk`: the SIP lines to carriers. Never shows a password."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from huibo import yuan
from huibo.cli import changes
from huibo.cli.output import AsJson, one, print_json, say, table
from huibo.cli.store import change, every, read
from huibo.model import TrunkState
from huibo.office import trunks
from huibo.office.trunks import NewTrunk, TrunkChange

commands = typer.Typer(no_args_is_help=True)

_HELP = (
    f"{changes.keys(TrunkChange)}. Lists with commas; cost in yuan a minute. "
    "KEY= alone: as it is by default. transport=udp|tcp|tls, "
    "caller-format and dial-format=national|bare|+86|86|0086, state=active|draining|off."
)
Words = Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help=_HELP)]


@commands.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.")],
    host: Annotated[str, typer.Option(help="Address or name of the carrier's SIP server.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=_HELP)] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 5060.")] = None,
    codecs: Annotated[str | None, typer.Option(help="Most wanted first; default: alaw,ulaw.")] = None,
    username: Annotated[str | None, typer.Option(help="For digest authentication.")] = None,
    password: Annotated[
        str | None, typer.Option(help="For digest authentication; asked for when left out.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="The lowest is used first; default: 0.")] = None,
) -> None:
    """Add a trunk. Calls use it at once."""
    given: dict[str, Any] = {"name": name, "host": host, "port": port, "priority": priority}
    given |= {"username": username, "codecs": codecs.split(",") if codecs else None, "password": password}
    new = changes.read(NewTrunk, words or [], given)
    if new.username and new.password is None:
        given["password"] = typer.prompt("password", hide_input=True)
        new = changes.read(NewTrunk, words or [], given)
    change(trunks.add, new)
    say(f"trunk {name} added")


@commands.command("set")
def set_(
    name: str,
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=_HELP)] = None,
    ask_password: Annotated[bool, typer.Option(help="Ask for a new password.")] = False,
) -> None:
    """Change a trunk. What talks on it goes on; the next call finds it changed."""
    given = {"password": typer.prompt("password", hide_input=True) if ask_password else None}
    change(trunks.change, name, changes.read(TrunkChange, words or [], given))
    say(f"trunk {name} changed")


@commands.command("on")
def on(name: str) -> None:
    """Have a trunk take calls."""
    _turn(name, TrunkState.ACTIVE, "takes calls")


@commands.command("drain")
def drain(name: str) -> None:
    """Have a trunk take no more calls; those on it go on."""
    _turn(name, TrunkState.DRAINING, "takes no new calls; those on it go on")


@commands.command("off")
def off(name: str) -> None:
    """Take a trunk out of use. What talks on it goes on."""
    _turn(name, TrunkState.OFF, "is off; what talks on it goes on")


@commands.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the trunks, the one used first in front."""
    found = sorted(every(trunks.page), key=lambda trunk: (trunk.priority, trunk.name))
    if as_json:
        print_json([trunk.model_dump(mode="json") for trunk in found])
        return
    table(
        ("name", "address", "codecs", "username", "priority", "weight", "cost", "channels", "state"),
        [
            (
                *(t.name, f"{t.transport.value}:{t.host}:{t.port}", t.codecs, t.username),
                *(t.priority, t.weight, yuan.shown(t.cost), t.channels, t.state.value),
            )
            for t in found
        ],
    )


@commands.command("show")
def show(name: str, as_json: AsJson = False) -> None:
    """Show one trunk, without its password. How it is at this moment: `huibo health`."""
    found = read(trunks.find, name)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        one({"name": found.name, "host": found.host} | changes.shown(found))


@commands.command("remove")
def remove(name: str) -> None:
    """Remove a trunk. Calls that are up on it stay."""
    change(trunks.remove, name)
    say(f"trunk {name} removed")


def _turn(name: str, state: TrunkState, said: str) -> None:
    change(trunks.change, name, TrunkChange(state=state))
    say(f"trunk {name} {said}")
