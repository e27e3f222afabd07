"""Apps, display numbers and trunks: units of work over what the operator enters.

Each function takes a `Connection` inside a transaction. Knows nothing of calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from huibo.model import App, AppSettings, AppState, DisplayNumber, Trunk
from huibo.storage.notices import tell
from huibo.storage.tables import app_numbers, apps, numbers, trunks

_settings = TypeAdapter(AppSettings)
_trunk = TypeAdapter(Trunk)
_TRUNK_COLUMNS = {"name", "host", "port", "codecs", "username", "password", "priority", "state"}


TRUNKS_CHANGED = "trunks"  # a notice


class Conflict(Exception):
    """What was to be added is there already, or what it refers to is not."""


def add_app(connection: Connection, app: App, at: int) -> None:
    """Raises `Conflict` when the app exists."""
    _add(connection, apps, _app_row(app) | {"created_at": at}, f"app {app.app_id} exists already")


def change_app(connection: Connection, app: App) -> None:
    """Write an app that exists anew."""
    connection.execute(update(apps).where(apps.c.app_id == app.app_id).values(_app_row(app)))


def find_app(connection: Connection, app_id: str, lock: bool = False) -> App | None:
    """An app; with `lock` nobody else decides upon its limits until the transaction ends."""
    query = _find_app.with_for_update() if lock else _find_app
    row = connection.execute(query, {"of_app": app_id}).mappings().first()
    return _app(row) if row else None


def list_apps(connection: Connection, after: str = "", limit: int = -1) -> list[App]:
    """Apps by app_id, behind `after`; `limit` -1: all."""
    query = select(apps).where(apps.c.app_id > after).order_by(apps.c.app_id)
    return [_app(row) for row in connection.execute(query.limit(limit) if limit >= 0 else query).mappings()]


def remove_app(connection: Connection, app_id: str) -> bool:
    return connection.execute(delete(apps).where(apps.c.app_id == app_id)).rowcount > 0


def add_number(connection: Connection, number: DisplayNumber, at: int) -> None:
    """Raises `Conflict` when the number exists, and for an unknown app."""
    row = _number_row(number) | {"created_at": at}
    _add(connection, numbers, row, f"number {number.number} exists already")
    _give(connection, number.number, number.apps)


def change_number(connection: Connection, number: DisplayNumber) -> None:
    """Write a number that exists anew. Raises `Conflict` for an unknown app."""
    connection.execute(update(numbers).where(numbers.c.number == number.number).values(_number_row(number)))
    connection.execute(delete(app_numbers).where(app_numbers.c.number == number.number))
    _give(connection, number.number, number.apps)


def find_number(connection: Connection, number: str) -> DisplayNumber | None:
    row = connection.execute(select(numbers).where(numbers.c.number == number)).first()
    return _number(row, _holders(connection, [number])) if row else None


def list_numbers(
    connection: Connection, after: str = "", limit: int = -1, app_id: str | None = None
) -> list[DisplayNumber]:
    """Numbers in their order, behind `after`, each with the apps that may show it; `limit` -1: all.

    `app_id`: only those that this app may show.
    """
    query = select(numbers).where(numbers.c.number > after).order_by(numbers.c.number)
    if app_id is not None:
        held = select(app_numbers.c.number).where(app_numbers.c.app_id == app_id)
        query = query.where(numbers.c.number.in_(held))
    rows = connection.execute(query.limit(limit) if limit >= 0 else query).all()
    holders = _holders(connection, [row.number for row in rows] if limit >= 0 else None)
    return [_number(row, holders) for row in rows]


def numbers_of(connection: Connection, app_id: str) -> list[DisplayNumber]:
    """The display numbers in use of an app, in their order."""
    return [_number(row, {}) for row in connection.execute(_pool, {"of_app": app_id})]


def remove_number(connection: Connection, number: str) -> bool:
    return connection.execute(delete(numbers).where(numbers.c.number == number)).rowcount > 0


def add_trunk(connection: Connection, trunk: Trunk, at: int) -> None:
    """Raises `Conflict` when the trunk exists."""
    row = _trunk_row(trunk) | {"created_at": at}
    _add(connection, trunks, row, f"trunk {trunk.name} exists already")
    tell(connection, TRUNKS_CHANGED)


def change_trunk(connection: Connection, trunk: Trunk) -> None:
    """Write a trunk that exists anew."""
    connection.execute(update(trunks).where(trunks.c.name == trunk.name).values(_trunk_row(trunk)))
    tell(connection, TRUNKS_CHANGED)


def find_trunk(connection: Connection, name: str) -> Trunk | None:
    row = connection.execute(select(trunks).where(trunks.c.name == name)).mappings().first()
    return _trunk_of(row) if row else None


def list_trunks(connection: Connection) -> list[Trunk]:
    """All trunks, the one to be tried first in front."""
    return [_trunk_of(row) for row in connection.execute(_all_trunks).mappings()]


def lock_trunks(connection: Connection, names: Iterable[str]) -> None:
    """Nobody else counts the channels of these trunks until the transaction ends."""
    rows = select(trunks.c.name).where(trunks.c.name.in_(names)).order_by(trunks.c.name)
    connection.execute(rows.with_for_update())


def remove_trunk(connection: Connection, name: str) -> bool:
    tell(connection, TRUNKS_CHANGED)
    return connection.execute(delete(trunks).where(trunks.c.name == name)).rowcount > 0


_find_app = select(apps).where(apps.c.app_id == bindparam("of_app"))
_all_trunks = select(trunks).order_by(trunks.c.priority, trunks.c.name)
_pool = (
    select(numbers)
    .join(app_numbers, app_numbers.c.number == numbers.c.number)
    .where(app_numbers.c.app_id == bindparam("of_app"), numbers.c.enabled)
    .order_by(numbers.c.number)
)


def _trunk_of(row: RowMapping) -> Trunk:
    columns = {name: row[name] for name in _TRUNK_COLUMNS}
    return _trunk.validate_python(columns | row["settings"])


def _trunk_row(trunk: Trunk) -> dict[str, Any]:
    every = _trunk.dump_python(trunk, mode="json", exclude_defaults=True)
    columns = {name: getattr(trunk, name) for name in _TRUNK_COLUMNS}
    return columns | {"settings": {k: v for k, v in every.items() if k not in _TRUNK_COLUMNS}}


def _number_row(number: DisplayNumber) -> dict[str, Any]:
    return {
        "number": number.number,
        "area": number.area,
        "enabled": number.enabled,
        "trunks": list(number.trunks),
    }


def _number(row: Any, holders: dict[str, list[str]]) -> DisplayNumber:
    apps_of = tuple(holders.get(row.number, ()))
    return DisplayNumber(row.number, row.area, row.enabled, tuple(row.trunks), apps_of)


def _holders(connection: Connection, of: list[str] | None) -> dict[str, list[str]]:
    """Which apps may show which number; `of` None: all numbers."""
    query = select(app_numbers.c.number, app_numbers.c.app_id).order_by(app_numbers.c.app_id)
    if of is not None:
        query = query.where(app_numbers.c.number.in_(of))
    found: dict[str, list[str]] = {}
    for number, app_id in connection.execute(query):
        found.setdefault(number, []).append(app_id)
    return found


def _give(connection: Connection, number: str, app_ids: tuple[str, ...]) -> None:
    for app_id in dict.fromkeys(app_ids):
        _add(connection, app_numbers, {"app_id": app_id, "number": number}, f"no app {app_id}")


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
        "state": app.state,
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
        state=AppState(row["state"]),
    )


def _add(connection: Connection, table: Table, row: dict[str, Any], conflict: str) -> None:
    try:
        connection.execute(insert(table).values(row))
    except IntegrityError as error:
        raise Conflict(conflict) from error
