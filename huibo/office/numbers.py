"""Display numbers, as an operator sees and changes them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from huibo.model import DisplayNumber
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound
from huibo.office.fields import Key, Line, Name, ShownNumber, no_defaults
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.storage import catalog
from huibo.storage.catalog import Conflict

_KIND = "number"


class NumberFields(BaseModel, extra="forbid"):
    """What a display number has beside its digits."""

    area: Line = Field("", description="for people")
    enabled: bool = True
    trunks: Annotated[list[Name], Field(max_length=100)] = Field(
        [], description="those it may be shown on; none: all"
    )
    apps: Annotated[list[Key], Field(max_length=1000)] = Field([], description="those that may show it")


class Number(NumberFields):
    """A number that phones may show: national digits."""

    number: ShownNumber


class NumberChange(NumberFields):
    """What is to be changed of a number; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=no_defaults)


def page(
    connection: Connection, app_id: str | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[Number]:
    """Numbers in their order, all or those of an app. Raises `Invalid` for a bad cursor."""
    key = key_of(after, str) or ("",)
    found = catalog.list_numbers(connection, str(key[0]), limit + 1, app_id)
    shown = [_shown(number) for number in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].number) if len(found) > limit else None)


def find(connection: Connection, number: str) -> Number:
    """Raises `NotFound`."""
    found = catalog.find_number(connection, number)
    if found is None:
        raise NotFound(_KIND, number)
    return _shown(found)


def add(connection: Connection, by: Author, number: Number) -> Number:
    """Raises `Conflict` when there is one, `Invalid` for an app or trunk that is not there."""
    _check(connection, number)
    added = _in_order(number)
    catalog.add_number(connection, _stored(added), by.at)
    by.note(connection, "add", _KIND, number.number, after=added)
    return added


def change(connection: Connection, by: Author, number: str, changes: NumberChange) -> Number:
    """Change what is given. Raises `NotFound`, `Invalid`, `Conflict` where an app shows it always."""
    before = find(connection, number)
    after = _in_order(before.model_copy(update=changes.model_dump(exclude_unset=True)))
    if after == before:
        return after
    _check(connection, after, changes.model_fields_set)
    _keep_for_its_apps(connection, number, set(before.apps) - set(after.apps))
    catalog.change_number(connection, _stored(after))
    by.note(connection, "change", _KIND, number, before, after)
    return after


def remove(connection: Connection, by: Author, number: str) -> None:
    """Raises `NotFound`, and `Conflict` where an app shows it always."""
    before = find(connection, number)
    _keep_for_its_apps(connection, number, set(before.apps))
    catalog.remove_number(connection, number)
    by.note(connection, "remove", _KIND, number, before)


def _check(
    connection: Connection, number: Number, changed: set[str] | frozenset[str] = frozenset({"apps", "trunks"})
) -> None:
    for trunk in number.trunks if "trunks" in changed else ():
        if catalog.find_trunk(connection, trunk) is None:
            raise Invalid("trunks", f"there is no trunk {trunk}")
    for app_id in number.apps if "apps" in changed else ():
        if catalog.find_app(connection, app_id) is None:
            raise Invalid("apps", f"there is no app {app_id}")


def _keep_for_its_apps(connection: Connection, number: str, losing: set[str]) -> None:
    """Refuse to take a number from an app that is set to show it."""
    for app_id in sorted(losing):
        app = catalog.find_app(connection, app_id)
        if app and number in (app.settings.caller_number, app.settings.callee_number):
            raise Conflict(f"app {app_id} shows {number} as its fixed number: change the app first")


def _in_order(number: Number) -> Number:
    ordered = {"apps": sorted(set(number.apps)), "trunks": list(dict.fromkeys(number.trunks))}
    return number.model_copy(update=ordered)


def _shown(number: DisplayNumber) -> Number:
    return Number.model_construct(
        **asdict(number) | {"trunks": list(number.trunks), "apps": list(number.apps)}
    )


def _stored(number: Number) -> DisplayNumber:
    return DisplayNumber(number.number, number.area, number.enabled, tuple(number.trunks), tuple(number.apps))
