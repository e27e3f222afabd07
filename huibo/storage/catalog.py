"""Apps, display numbers and trunks: units of work over what the operator enters.

Each function takes a `Connection` inside a transaction. Knows nothing of calls.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from huibo.model import App, AppSettings, Trunk
from huibo.storage.tables import app_numbers, apps, numbers, trunks

_settings = TypeAdapter(AppSettings)


class Conflict(Exception):
    """What was to be added is there already, or what it refers to is not."""


def add_app(connection: Connection, app: App, at: int) -> None:
    """Raises `Conflict` when the app exists."""
    _add(connection, apps, _app_row(app) | {"created_at": at}, f"app {app.app_id} exists already")


def change_app(connection: Connection, app: App) -> None:
    """Write an app that exists anew."""
    connection.execute(update(apps).where(apps.c.app_id == app.app_id).values(_app_row(app)))


def find_app(connection: Connection, app_id: str) -> App | None:
    row = connection.execute(select(apps).where(apps.c.app_id == app_id)).mappings().first()
    return _app(row) if row else None


def list_apps(connection: Connection) -> list[App]:
    return [_app(row) for row in connection.execute(select(apps).order_by(apps.c.app_id)).mappings()]


def remove_app(connection: Connection, app_id: str) -> bool:
    return connection.execute(delete(apps).where(apps.c.app_id == app_id)).rowcount > 0


def add_number(connection: Connection, number: str, app_ids: tuple[str, ...], at: int) -> None:
    """Add a display number and give it to apps; one that is known is given to further apps.

    Raises `Conflict` for a known number without a new app, and for an unknown app.
    """
    holders = dict(list_numbers(connection)).get(number)
    if holders is None:
        _add(connection, numbers, {"number": number, "created_at": at}, f"number {number} exists already")
    elif not set(app_ids) - set(holders):
        raise Conflict(f"number {number} exists already")
    for app_id in set(app_ids) - set(holders or ()):
        row = {"app_id": app_id, "number": number}
        _add(connection, app_numbers, row, f"no app {app_id}")


def list_numbers(connection: Connection) -> list[tuple[str, list[str]]]:
    """Each number with the apps that may show it."""
    found: dict[str, list[str]] = {}
    joined = numbers.outerjoin(app_numbers, numbers.c.number == app_numbers.c.number)
    query = select(numbers.c.number, app_numbers.c.app_id).select_from(joined)
    for number, app_id in connection.execute(query.order_by(numbers.c.number, app_numbers.c.app_id)):
        found.setdefault(number, []).extend([app_id] if app_id else [])
    return list(found.items())


def numbers_of(connection: Connection, app_id: str) -> list[str]:
    """The display numbers of an app, sorted."""
    query = select(app_numbers.c.number).where(app_numbers.c.app_id == app_id)
    return sorted(connection.scalars(query))


def remove_number(connection: Connection, number: str) -> bool:
    return connection.execute(delete(numbers).where(numbers.c.number == number)).rowcount > 0


def add_trunk(connection: Connection, trunk: Trunk, at: int) -> None:
    """Raises `Conflict` when the trunk exists."""
    row = {
        "name": trunk.name,
        "host": trunk.host,
        "port": trunk.port,
        "codecs": trunk.codecs,
        "username": trunk.username,
        "password": trunk.password,
        "priority": trunk.priority,
        "enabled": trunk.enabled,
        "created_at": at,
    }
    _add(connection, trunks, row, f"trunk {trunk.name} exists already")


def list_trunks(connection: Connection) -> list[Trunk]:
    """All trunks, the one to be tried first in front."""
    query = select(trunks).order_by(trunks.c.priority, trunks.c.name)
    return [trunk_of(row) for row in connection.execute(query).mappings()]


def remove_trunk(connection: Connection, name: str) -> bool:
    return connection.execute(delete(trunks).where(trunks.c.name == name)).rowcount > 0


def trunk_of(row: RowMapping) -> Trunk:
    return Trunk(
        name=row["name"],
        host=row["host"],
        port=row["port"],
        codecs=row["codecs"],
        username=row["username"],
        password=row["password"],
        priority=row["priority"],
        enabled=row["enabled"],
    )


def _app_row(app: App) -> dict[str, Any]:
    return {
        "app_id": app.app_id,
        "url_id": app.url_id,
        "name": app.name,
        "allowed_ips": list(app.allowed_ips),
        "status_url": app.status_url,
        "cdr_url": app.cdr_url,
        "record_url": app.record_url,
        "settings": _settings.dump_python(app.settings, mode="json", exclude_defaults=True),
    }


def _app(row: RowMapping) -> App:
    return App(
        app_id=row["app_id"],
        url_id=row["url_id"],
        name=row["name"],
        allowed_ips=tuple(row["allowed_ips"]),
        status_url=row["status_url"],
        cdr_url=row["cdr_url"],
        record_url=row["record_url"],
        settings=_settings.validate_python(row["settings"]),
    )


def _add(connection: Connection, table: Table, row: dict[str, Any], conflict: str) -> None:
    try:
        connection.execute(insert(table).values(row))
    except IntegrityError as error:
        raise Conflict(conflict) from error
