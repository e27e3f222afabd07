"""The command line: `huibo serve`, and what an operator enters (apps, numbers, trunks).

Owns words, tables and exit codes; every change goes through the same units of work as everywhere else.
Exit codes: 0 done, 1 it could not be done (one line says why and what to do), 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from huibo import __version__, config, log
from huibo.clock import Clock
from huibo.engine.install import InstallError
from huibo.engine.install.settings import install_settings
from huibo.model import App, Trunk
from huibo.stack import folders
from huibo.stack.children import ChildFailed
from huibo.storage import catalog
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate

T = TypeVar("T")

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Self-hosted click-to-call on your own SIP trunk.",
)
app_cli = typer.Typer(no_args_is_help=True, help="Applications: who may call.")
number_cli = typer.Typer(no_args_is_help=True, help="Display numbers: what phones show.")
trunk_cli = typer.Typer(no_args_is_help=True, help="Trunks: SIP lines to carriers.")
cli.add_typer(app_cli, name="app")
cli.add_typer(number_cli, name="number")
cli.add_typer(trunk_cli, name="trunk")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Failed(Exception):
    """The command could not do what was asked. The message is one line and says what to do."""


def main() -> None:
    """Entry point: turns every expected failure into one line and an exit code."""
    try:
        cli()
    except (Failed, catalog.Conflict, ChildFailed, InstallError, config.BadSettings) as error:
        errors.print(f"huibo: {error}", style="red", markup=False, soft_wrap=True)
        raise SystemExit(1) from None


@cli.callback()
def root(
    instance: Annotated[
        str | None,
        typer.Option(
            envvar="HUIBO_INSTANCE", help='"newest": talk to the stack that `huibo up` started last.'
        ),
    ] = None,
) -> None:
    if instance is None:
        return
    if instance != "newest":
        raise Failed(f'--instance {instance}: only "newest" is known; set HUIBO_CONFIG for another one')
    folder = folders.newest(install_settings().cache)
    if folder is None:
        raise Failed("no stack is running here: start one with ./dev up")
    os.environ["HUIBO_CONFIG"] = str(folder / "huibo.toml")


@cli.command()
def up(
    ready_file: Annotated[
        Path | None, typer.Option(help="Write one JSON object here when everything answers.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the HTTP API; default: a free one.")] = None,
) -> None:
    """Start a whole huibo with a sandbox carrier on this machine, and keep it running."""
    from huibo.stack.up import up as run  # the other commands need none of it, and start faster

    asyncio.run(run(console, ready_file, port))


@cli.command()
def demo() -> None:
    """Place one real call between two sandbox phones and show it step by step."""
    from huibo.stack.demo import DemoFailed
    from huibo.stack.demo import demo as run

    try:
        asyncio.run(run(console))
    except DemoFailed as error:
        raise Failed(str(error)) from error


@cli.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


@cli.command()
def serve() -> None:
    """Run the control plane until it is told to stop."""
    from huibo.app import Huibo  # the other commands need none of it, and start faster

    settings = config.load()
    log.configure(settings.log)
    Huibo(settings).serve()


@app_cli.command("add")
def app_add(
    app_id: Annotated[str, typer.Argument(help="The appId that requests carry.")],
    url_id: Annotated[str, typer.Option(help="The `id` of its request URLs.")] = "",
    name: Annotated[str, typer.Option(help="For people.")] = "",
    allow_ip: Annotated[
        list[str] | None, typer.Option(help="Address or network it may call from; default: loopback only.")
    ] = None,
    status_url: Annotated[str | None, typer.Option(help="Where status pushes go by default.")] = None,
    cdr_url: Annotated[str | None, typer.Option(help="Where CDR pushes go by default.")] = None,
) -> None:
    """Add an application."""
    for entry in allow_ip or []:
        try:
            ip_network(entry, strict=False)
        except ValueError:
            raise Failed(f"--allow-ip {entry}: not an address or network") from None
    app = App(app_id, url_id or app_id, name, status_url=status_url, cdr_url=cdr_url)
    if allow_ip:
        app = App(app_id, url_id or app_id, name, tuple(allow_ip), status_url, cdr_url)
    _write(lambda connection: catalog.add_app(connection, app, Clock().now_ms()))
    console.print(f"app {app_id} added: its requests go to /201511v3/callBack?id={app.url_id}")


@app_cli.command("list")
def app_list(as_json: AsJson = False) -> None:
    """List the applications."""
    apps = _read(catalog.list_apps)
    _table(
        ("appId", "id", "name", "allowed addresses", "status URL", "CDR URL"),
        [(a.app_id, a.url_id, a.name, ", ".join(a.allowed_ips), a.status_url, a.cdr_url) for a in apps],
        [asdict(a) for a in apps] if as_json else None,
    )


@app_cli.command("show")
def app_show(app_id: str, as_json: AsJson = False) -> None:
    """Show one application and its numbers."""
    app = _read(lambda connection: catalog.find_app(connection, app_id))
    if app is None:
        raise Failed(f"no app {app_id}: `huibo app list` shows those there are")
    numbers = _read(lambda connection: catalog.numbers_of(connection, app_id))
    _one(asdict(app) | {"numbers": numbers}, as_json)


@app_cli.command("remove")
def app_remove(app_id: str) -> None:
    """Remove an application. Its calls and records stay."""
    _remove("app", app_id, catalog.remove_app)


@number_cli.command("add")
def number_add(
    number: Annotated[str, typer.Argument(help="As phones show it: national digits, e.g. 02131264133.")],
    app: Annotated[list[str] | None, typer.Option(help="An app that may show it; may be repeated.")] = None,
) -> None:
    """Add a display number."""
    if not (number.isascii() and number.isdigit() and 3 <= len(number) <= 20):
        raise Failed(f"{number}: a display number is 3 to 20 digits, e.g. 02131264133")
    _write(lambda connection: catalog.add_number(connection, number, tuple(app or ()), Clock().now_ms()))
    console.print(f"number {number} added")


@number_cli.command("list")
def number_list(as_json: AsJson = False) -> None:
    """List the display numbers and the apps that may show them."""
    found = _read(catalog.list_numbers)
    _table(
        ("number", "apps"),
        [(number, ", ".join(apps)) for number, apps in found],
        [{"number": number, "apps": apps} for number, apps in found] if as_json else None,
    )


@number_cli.command("show")
def number_show(number: str, as_json: AsJson = False) -> None:
    """Show one display number."""
    found = dict(_read(catalog.list_numbers))
    if number not in found:
        raise Failed(f"no number {number}: `huibo number list` shows those there are")
    _one({"number": number, "apps": found[number]}, as_json)


@number_cli.command("remove")
def number_remove(number: str) -> None:
    """Remove a display number."""
    _remove("number", number, catalog.remove_number)


@trunk_cli.command("add")
def trunk_add(
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
    _write(lambda connection: catalog.add_trunk(connection, trunk, Clock().now_ms()))
    console.print(f"trunk {name} added")


@trunk_cli.command("list")
def trunk_list(as_json: AsJson = False) -> None:
    """List the trunks, the one used first in front."""
    trunks = _read(catalog.list_trunks)
    _table(
        ("name", "address", "codecs", "username", "priority", "in use"),
        [(t.name, f"{t.host}:{t.port}", t.codecs, t.username, t.priority, t.enabled) for t in trunks],
        [_shown(t) for t in trunks] if as_json else None,
    )


@trunk_cli.command("show")
def trunk_show(name: str, as_json: AsJson = False) -> None:
    """Show one trunk, without its password."""
    trunk = next((t for t in _read(catalog.list_trunks) if t.name == name), None)
    if trunk is None:
        raise Failed(f"no trunk {name}: `huibo trunk list` shows those there are")
    _one(_shown(trunk), as_json)


@trunk_cli.command("remove")
def trunk_remove(name: str) -> None:
    """Remove a trunk. Calls that are up on it stay."""
    _remove("trunk", name, catalog.remove_trunk)


def _shown(trunk: Trunk) -> dict[str, Any]:
    return asdict(trunk) | {"password": "***" if trunk.password else None}


def _remove(kind: str, key: str, remove: Callable[[Connection, str], bool]) -> None:
    if not _write(lambda connection: remove(connection, key)):
        raise Failed(f"no {kind} {key}: `huibo {kind} list` shows those there are")
    console.print(f"{kind} {key} removed")


def _read(work: Callable[[Connection], T]) -> T:
    with _database() as engine, engine.connect() as connection:
        return work(connection)


def _write(work: Callable[[Connection], T]) -> T:
    with _database() as engine, engine.begin() as connection:
        return work(connection)


@contextmanager
def _database() -> Any:
    url = config.load().database_url
    engine = open_engine(url)
    try:
        migrate(engine)
        yield engine
    except OperationalError as error:
        raise Failed(
            f"database {engine.url!r}: {error.orig} (set HUIBO_DATABASE_URL or database_url)"
        ) from error
    finally:
        engine.dispose()


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]], as_json: object) -> None:
    if as_json is not None:
        console.print_json(json.dumps(as_json))
        return
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def _one(fields: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps(fields))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in fields.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        table.add_row(key, "" if shown is None else str(shown))
    console.print(table)
