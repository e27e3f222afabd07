"""`huibo app`: the applications, who may call, and what each has otherwise than the configuration."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from ipaddress import ip_network
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from huibo.cli.output import AsJson, Failed, one, read, remove, say, table, unknown, write
from huibo.clock import Clock
from huibo.model import App, AppSettings, Leg
from huibo.storage import catalog

commands = typer.Typer(no_args_is_help=True, help="Applications: who may call.")

_WARNED = {"none": (), "caller": (Leg.CALLER,), "callee": (Leg.CALLEE,), "both": (Leg.CALLER, Leg.CALLEE)}
_TEXTS = ("url_id", "name", "status_url", "cdr_url", "record_url")
_OWN = tuple(field.name for field in fields(AppSettings))
_settings = TypeAdapter(AppSettings)

Changes = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY=VALUE...",
        help="url-id, name, allow-ip (a comma list), status-url, cdr-url, record-url; "
        "display=pool|mutual|callee, caller-ring-s, callee-ring-s, ring-sound=all|none|fail, "
        "warn=none|caller|callee|both, keep-days. "
        "KEY= alone: as the configuration says.",
    ),
]


@commands.command("add")
def add(
    app_id: Annotated[str, typer.Argument(help="The appId that requests carry.")],
    url_id: Annotated[
        str | None, typer.Option(help="The `id` of its request URLs; default: the appId.")
    ] = None,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    allow_ip: Annotated[
        list[str] | None, typer.Option(help="Address or network it may call from; default: loopback only.")
    ] = None,
    status_url: Annotated[str | None, typer.Option(help="Where status pushes go by default.")] = None,
    cdr_url: Annotated[str | None, typer.Option(help="Where CDR pushes go by default.")] = None,
    record_url: Annotated[str | None, typer.Option(help="Where recording pushes go by default.")] = None,
) -> None:
    """Add an application; `huibo app set` gives it ways of its own."""
    app = App(app_id, url_id or app_id, name, status_url=status_url, cdr_url=cdr_url, record_url=record_url)
    if allow_ip:
        app = replace(app, allowed_ips=_addresses(allow_ip))
    write(lambda connection: catalog.add_app(connection, app, Clock().now_ms()))
    say(f"app {app_id} added: its requests go to /201511v3/callBack?id={app.url_id}")


@commands.command("set")
def change(app_id: str, changes: Changes) -> None:
    """Change an application. Calls under way go on as they began."""

    def work(connection: Connection) -> None:
        app = catalog.find_app(connection, app_id)
        if app is None:
            raise unknown("app", app_id)
        for one_change in changes:
            app = _changed(app, one_change)
        catalog.change_app(connection, app)

    write(work)
    say(f"app {app_id} changed")


@commands.command("list")
def show_all(as_json: AsJson = False) -> None:
    """List the applications."""
    apps = read(catalog.list_apps)
    table(
        ("appId", "id", "name", "allowed addresses", "status URL", "CDR URL"),
        [(a.app_id, a.url_id, a.name, ", ".join(a.allowed_ips), a.status_url, a.cdr_url) for a in apps],
        [asdict(a) for a in apps] if as_json else None,
    )


@commands.command("show")
def show(app_id: str, as_json: AsJson = False) -> None:
    """Show one application, its settings and its numbers."""
    app = read(lambda connection: catalog.find_app(connection, app_id))
    if app is None:
        raise unknown("app", app_id)
    shown = asdict(app) | {
        "numbers": [n.number for n in read(lambda connection: catalog.numbers_of(connection, app_id))]
    }
    if not as_json:
        own = shown.pop("settings")
        warned = {legs: word for word, legs in _WARNED.items()}
        shown |= {key.replace("_", "-"): value for key, value in own.items()}
        shown["warn"] = None if own["warn"] is None else warned[own["warn"]]
    one(shown, as_json)


@commands.command("remove")
def forget(app_id: str) -> None:
    """Remove an application. Its calls and records stay."""
    remove("app", app_id, catalog.remove_app)


def _changed(app: App, change: str) -> App:
    """The app with one KEY=VALUE applied."""
    key, equals, value = change.partition("=")
    name = key.replace("-", "_")
    if not equals:
        raise Failed(f"{change}: write it as {key}=VALUE")
    if name in _TEXTS:
        if name == "url_id" and not value:
            raise Failed("url-id: must not be empty")
        return replace(app, **{name: value or (None if name.endswith("_url") else "")})  # type: ignore[arg-type]
    if name == "allow_ip":
        return replace(app, allowed_ips=_addresses(value.split(",")))
    if name in _OWN:
        return replace(app, settings=_with_own(app.settings, name, value))
    known = ", ".join(key.replace("_", "-") for key in (*_TEXTS, "allow_ip", *_OWN))
    raise Failed(f"{key}: no such setting of an app; there are {known}")


def _with_own(settings: AppSettings, name: str, value: str) -> AppSettings:
    if not value:
        return replace(settings, **{name: getattr(AppSettings(), name)})
    if name == "warn" and value not in _WARNED:
        raise Failed(f"warn={value}: not none, caller, callee or both")
    given: Any = _WARNED[value] if name == "warn" else value
    try:
        return _settings.validate_python(asdict(settings) | {name: given})
    except ValidationError as error:
        raise Failed(f"{name.replace('_', '-')}={value}: {error.errors()[0]['msg']}") from None


def _addresses(entries: list[str]) -> tuple[str, ...]:
    for entry in entries:
        try:
            ip_network(entry.strip(), strict=False)
        except ValueError:
            raise Failed(f"allow-ip {entry}: not an address or network") from None
    return tuple(entry.strip() for entry in entries)
