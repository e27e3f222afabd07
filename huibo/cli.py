"""The command line: `huibo serve`, and what an operator enters (apps, numbers, trunks).

Owns words, tables and exit codes; every change goes through the same units of work as everywhere else.
Exit codes: 0 done, 1 it could not be done (one line says why and what to do), 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from alembic.util import CommandError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from huibo import __version__, config, log
from huibo.clock import Clock
from huibo.engine.install import InstallError
from huibo.engine.install.settings import install_settings
from huibo.model import App, DisplayMode, Leg, RingSound, Trunk
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
        errors.print(f"huibo: {error}", style="red", markup=False, emoji=False, soft_wrap=True)
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
    with _database():  # one that cannot be used is told in one line
        pass
    log.configure(settings.log)
    Huibo(settings).serve()


Display = Annotated[
    DisplayMode | None,
    typer.Option(help="What phones show when the request names no number: pool, mutual or callee."),
]
RingTime = Annotated[int | None, typer.Option(min=1, max=600, help="Seconds that this phone may ring.")]
Sound = Annotated[RingSound | None, typer.Option(help="What the caller hears while the callee is dialled.")]
WarnWhom = Annotated[
    str | None, typer.Option(help="Who is warned before the end: none, caller, callee, both.")
]
KeepDays = Annotated[int | None, typer.Option(min=1, max=3650, help="How long recordings are kept.")]
StatusUrl = Annotated[str | None, typer.Option(help="Where status pushes go by default.")]
CdrUrl = Annotated[str | None, typer.Option(help="Where CDR pushes go by default.")]
RecordUrl = Annotated[str | None, typer.Option(help="Where recording pushes go by default.")]
AllowIp = Annotated[
    list[str] | None, typer.Option(help="Address or network it may call from; default: loopback only.")
]

_WARNED = {"none": (), "caller": (Leg.CALLER,), "callee": (Leg.CALLEE,), "both": (Leg.CALLER, Leg.CALLEE)}


@app_cli.command("add")
def app_add(
    app_id: Annotated[str, typer.Argument(help="The appId that requests carry.")],
    url_id: Annotated[
        str | None, typer.Option(help="The `id` of its request URLs; default: the appId.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    allow_ip: AllowIp = None,
    status_url: StatusUrl = None,
    cdr_url: CdrUrl = None,
    record_url: RecordUrl = None,
    display: Display = None,
    caller_ring_s: RingTime = None,
    callee_ring_s: RingTime = None,
    ring_sound: Sound = None,
    warn: WarnWhom = None,
    keep_days: KeepDays = None,
) -> None:
    """Add an application."""
    own = _app_settings(display, caller_ring_s, callee_ring_s, ring_sound, warn, keep_days)
    app = _changed(App(app_id, app_id), url_id, name, allow_ip, status_url, cdr_url, record_url, own)
    _write(lambda connection: catalog.add_app(connection, app, Clock().now_ms()))
    _say(f"app {app_id} added: its requests go to /201511v3/callBack?id={app.url_id}")


@app_cli.command("set")
def app_set(
    app_id: str,
    url_id: Annotated[str | None, typer.Option(help="The `id` of its request URLs.")] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    allow_ip: AllowIp = None,
    status_url: StatusUrl = None,
    cdr_url: CdrUrl = None,
    record_url: RecordUrl = None,
    display: Display = None,
    caller_ring_s: RingTime = None,
    callee_ring_s: RingTime = None,
    ring_sound: Sound = None,
    warn: WarnWhom = None,
    keep_days: KeepDays = None,
) -> None:
    """Change an application; what is not named stays as it is. Calls under way are not changed."""
    own = _app_settings(display, caller_ring_s, callee_ring_s, ring_sound, warn, keep_days)

    def change(connection: Connection) -> None:
        app = catalog.find_app(connection, app_id)
        if app is None:
            raise Failed(f"no app {app_id}: `huibo app list` shows those there are")
        changed = _changed(app, url_id, name, allow_ip, status_url, cdr_url, record_url, own)
        catalog.change_app(connection, changed)

    _write(change)
    _say(f"app {app_id} changed")


def _changed(
    app: App,
    url_id: str | None,
    name: str | None,
    allow_ip: list[str] | None,
    status_url: str | None,
    cdr_url: str | None,
    record_url: str | None,
    own: dict[str, Any],
) -> App:
    """The app with all that was given on the command line."""
    for entry in allow_ip or []:
        try:
            ip_network(entry, strict=False)
        except ValueError:
            raise Failed(f"--allow-ip {entry}: not an address or network") from None
    given = {
        "url_id": url_id,
        "name": name,
        "allowed_ips": tuple(allow_ip) if allow_ip else None,
        "status_url": status_url,
        "cdr_url": cdr_url,
        "record_url": record_url,
    }
    fields = {key: value for key, value in given.items() if value is not None}
    return replace(app, settings=replace(app.settings, **own), **fields)  # type: ignore[arg-type]


def _app_settings(
    display: DisplayMode | None,
    caller_ring_s: int | None,
    callee_ring_s: int | None,
    ring_sound: RingSound | None,
    warn: str | None,
    keep_days: int | None,
) -> dict[str, Any]:
    """Those of the app's own settings that were given."""
    if warn is not None and warn not in _WARNED:
        raise Failed(f"--warn {warn}: not none, caller, callee or both")
    given = {
        "display": display,
        "caller_ring_s": caller_ring_s,
        "callee_ring_s": callee_ring_s,
        "ring_sound": ring_sound,
        "warn": None if warn is None else _WARNED[warn],
        "keep_days": keep_days,
    }
    return {key: value for key, value in given.items() if value is not None}


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
    _say(f"number {number} added")


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
    _say(f"trunk {name} added")


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
    _say(f"{kind} {key} removed")


def _read(work: Callable[[Connection], T]) -> T:
    with _database() as engine, engine.connect() as connection:
        return work(connection)


def _write(work: Callable[[Connection], T]) -> T:
    with _database() as engine, engine.begin() as connection:
        return work(connection)


@contextmanager
def _database() -> Iterator[Engine]:
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


def _say(text: str) -> None:
    """Print a line as it is: names may look like markup."""
    console.print(text, markup=False, emoji=False, soft_wrap=True)


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]], as_json: object) -> None:
    if as_json is not None:
        console.print_json(json.dumps(as_json))
        return
    table = Table(*(Column(head, overflow="fold") for head in heads), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)


def _one(fields: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps(fields))
        return
    table = Table(Column(), Column(overflow="fold"), box=None, pad_edge=False, show_header=False)
    for key, value in fields.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        table.add_row(key, Text("" if shown is None else str(shown)))
    console.print(table)
