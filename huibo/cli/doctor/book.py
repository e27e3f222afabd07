"""Doctor: what operators entered and what became of it: apps, numbers, money, pushes, recordings."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from huibo.cli.output import Failed
from huibo.cli.store import author, read
from huibo.config import Settings
from huibo.findings import Finding, fail, ok, warn
from huibo.model import App, AppState, DisplayMode, TrunkState
from huibo.storage import catalog
from huibo.storage.accounts import find_account
from huibo.storage.locks import list_locks
from huibo.storage.outbox import DEAD
from huibo.storage.rates import list_rates
from huibo.storage.recordings import FAILED
from huibo.storage.tables import pushes, recordings
from huibo.yuan import shown

_NAMED = 5  # how many of many are told by name


def examine(settings: Settings) -> Iterator[Finding]:
    def work(connection: Connection) -> list[Finding]:
        return [
            *_apps(connection),
            *_numbers(connection),
            *_locks(connection),
            *_leftovers(connection),
            *_links(connection, settings),
        ]

    try:
        yield from read(work)
    except Failed as error:
        yield fail("database", str(error))


def _apps(connection: Connection) -> Iterator[Finding]:
    apps = [app for app in catalog.list_apps(connection) if app.state is AppState.ACTIVE]
    if not apps:
        yield warn("apps", "there is none that may call", "`huibo app add`")
        return
    found = [finding for app in apps for finding in _app(connection, app)]
    yield from found
    if not found:
        yield ok("apps", f"{len(apps)}, each with what it needs to call")


def _app(connection: Connection, app: App) -> Iterator[Finding]:
    own, name = app.settings, app.app_id
    needs_numbers = own.display in (DisplayMode.POOL, DisplayMode.CALLEE)
    if needs_numbers and not catalog.numbers_of(connection, name):
        hint = f"`huibo number add` with --app {name}, or display=mutual"
        yield warn("apps", f"{name} has no number to show: its calls are refused (-102)", hint)
    if not app.allowed_ips:
        yield warn("apps", f"{name} may ask from nowhere", f"`huibo app set {name} allow-ip=`")
    if own.rate_plan and not list_rates(connection, own.rate_plan, limit=1):
        hint = f"`huibo rate add --plan {own.rate_plan}`"
        yield fail("apps", f"{name} pays by the plan {own.rate_plan}, which has no rates", hint)
    if own.prepaid and (left := find_account(connection, name).available) <= 0:
        hint = f"`huibo account credit {name}`"
        yield warn("apps", f"{name} is prepaid and has {shown(left)} yuan left: -105", hint)


def _numbers(connection: Connection) -> Iterator[Finding]:
    trunks = catalog.list_trunks(connection)
    if not any(trunk.state is TrunkState.ACTIVE for trunk in trunks):
        yield fail("trunks", "there is none that takes calls", "`huibo trunk add`, or `huibo trunk on`")
    known = {trunk.name for trunk in trunks}
    for number in catalog.list_numbers(connection):
        if unknown := sorted(set(number.trunks) - known):
            hint = f"`huibo number set {number.number} trunks=…`"
            yield warn("numbers", f"{number.number} names trunks that are not there: {_some(unknown)}", hint)


def _locks(connection: Connection) -> Iterator[Finding]:
    for kind, locks in _by_kind(connection).items():
        if kind != "trunk":  # the server tells these
            hint = "`huibo lock list`, `huibo lock lift`"
            yield warn("locks", f"{len(locks)} locked, {kind}: {_some(locks)}", hint)


def _by_kind(connection: Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for lock in list_locks(connection, author().at):
        found.setdefault(lock.kind, []).append(lock.subject)
    return found


def _leftovers(connection: Connection) -> Iterator[Finding]:
    dead = select(func.count()).where(pushes.c.state == DEAD)
    if count := connection.scalars(dead).one():
        hint = "`huibo push list --state dead`, `huibo push replay`"
        yield warn("pushes", f"{count} were given up: customers have not got them", hint)
    else:
        yield ok("pushes", "none was given up")
    failed = select(func.count()).where(recordings.c.state == FAILED)
    if count := connection.scalars(failed).one():
        yield warn("recordings", f"{count} failed", "`huibo recording list --state failed` says why")


def _links(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Links to recordings begin with an address that customers must reach."""
    if settings.http.public_url:
        return
    wants = [app.app_id for app in catalog.list_apps(connection) if app.record_url]
    recorded = connection.scalar(select(recordings.c.call_id).limit(1))
    if wants or recorded:
        text = f"links to them begin with {settings.http.base_url}, as [http] public_url is not set"
        yield warn("recordings", text, "set what customers reach this server under")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
