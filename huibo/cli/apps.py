"""`huibo app`: the applications and their settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from huibo.cli import changes
from huibo.cli.output import AsJson, one, print_json, say, table
from huibo.cli.store import change, every, read
from huibo.office import apps
from huibo.office.apps import AppChange, NewApp
from huibo.storage.catalog import numbers_of

commands = typer.Typer(no_args_is_help=True)

_BOTH = "caller,callee"
_HELP = (
    f"{changes.keys(AppChange)}. Lists with commas. KEY= alone: as it is by default. "
    "display=pool|fixed|mutual|callee, ring-sound=all|none|fail, warn=none|caller|callee|both."
)


def _words(words: list[str] | None) -> list[str]:
    return [f"warn={_BOTH}" if word == "warn=both" else word for word in words or []]


@commands.command("add")
def add(
    app_id: Annotated[str, typer.Argument(help="The appId that requests carry.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=_HELP)] = None,
    url_id: Annotated[
        str | None, typer.Option(help="The `id` of its request URLs; default: the appId.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    allow_ip: Annotated[
        list[str] | None, typer.Option(help="Address or network it may call from; default: loopback only.")
    ] = None,
    status_url: Annotated[str | None, typer.Option(help="Where status pushes go by default.")] = None,
    cdr_url: Annotated[str | None, typer.Option(help="Where CDR pushes go by default.")] = None,
    record_url: Annotated[str | None, typer.Option(help="Where recording pushes go by default.")] = None,
) -> None:
    """Add an application; `huibo app set` changes it."""
    given: dict[str, Any] = {
        "app_id": app_id,
        "url_id": url_id,
        "name": name,
        "allowed_ips": allow_ip or None,
    }
    given |= {"status_url": status_url, "cdr_url": cdr_url, "record_url": record_url}
    app = change(apps.add, changes.read(NewApp, _words(words), given))
    say(f"app {app_id} added: its requests go to /201511v3/callBack?id={app.url_id}")


@commands.command("set")
def set_(
    app_id: str, words: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help=_HELP)]
) -> None:
    """Change an application. Calls under way go on as they began."""
    change(apps.change, app_id, changes.read(AppChange, _words(words)))
    say(f"app {app_id} changed")


@commands.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the applications."""
    found = every(apps.page)
    if as_json:
        print_json([app.model_dump(mode="json") for app in found])
        return
    table(
        ("appId", "id", "name", "state", "allowed addresses", "rates", "status URL", "CDR URL"),
        [
            (a.app_id, a.url_id, a.name, a.state.value, a.allowed_ips, a.rate_plan, a.status_url, a.cdr_url)
            for a in found
        ],
    )


@commands.command("show")
def show(app_id: str, as_json: AsJson = False) -> None:
    """Show one application, its settings and its numbers."""

    def work(connection: Connection) -> dict[str, Any]:
        app = apps.find(connection, app_id)
        first = {"app_id": app.app_id, "url_id": app.url_id}
        shown = first | app.model_dump(mode="json")
        return shown | {"numbers": [number.number for number in numbers_of(connection, app_id)]}

    shown = read(work)
    if as_json:
        print_json(shown)
        return
    shown["warn"] = "none" if shown["warn"] == [] else shown["warn"]
    one({changes.word(key): value for key, value in shown.items()})


@commands.command("remove")
def remove(app_id: str) -> None:
    """Remove an application. Its calls, records and account stay."""
    change(apps.remove, app_id)
    say(f"app {app_id} removed")
