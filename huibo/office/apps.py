"""Apps, as an operator sees and changes them: the settings stand beside the rest."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy import Connection

from huibo import model
from huibo.model import AppSettings, AppState, DisplayMode, Leg, RingSound
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound, first_of
from huibo.office.fields import (
    Count,
    Key,
    Line,
    Name,
    Network,
    ShownNumber,
    Timezone,
    Url,
    Window,
    no_defaults,
)
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.storage import catalog
from huibo.storage.accounts import find_account
from huibo.storage.catalog import Conflict
from huibo.storage.rates import list_rates
from huibo.storage.usage import live_calls

_KIND = "app"
_SETTINGS = tuple(field.name for field in fields(AppSettings))
_OPEN = model.App("", "").allowed_ips

RingSeconds = Annotated[int, Field(ge=1, le=600)]
UrlId = Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
Party = Literal["caller", "callee"]


class AppFields(BaseModel, extra="forbid"):
    """What an app has beside its name. A setting that is null is as configured, or no limit."""

    name: Line = Field("", description="for people")
    allowed_ips: Annotated[list[Network], Field(max_length=200)] = Field(
        list(_OPEN), description="addresses and networks that it may ask from"
    )
    status_url: Url | None = Field(None, description="where pushes go when the request names no URL")
    cdr_url: Url | None = None
    record_url: Url | None = None
    state: AppState = AppState.ACTIVE
    display: DisplayMode = Field(DisplayMode.POOL, description="which numbers phones show")
    caller_number: ShownNumber | None = Field(None, description="with fixed: what the caller's phone shows")
    callee_number: ShownNumber | None = None
    caller_ring_s: RingSeconds | None = None
    callee_ring_s: RingSeconds | None = None
    ring_sound: RingSound | None = None
    warn: list[Party] | None = Field(None, description="who hears the tone before the talk limit")
    keep_days: Annotated[int, Field(ge=1, le=3650)] | None = Field(None, description="of recordings")
    calls_per_second: Count | None = None
    calls_at_once: Count | None = None
    callee_per_hour: Count | None = Field(None, description="calls to one callee in any hour")
    callee_per_day: Count | None = None
    hours: Annotated[list[Window], Field(max_length=50)] = Field(
        [], description="when calls may be placed; none: always"
    )
    timezone: Timezone = Field("Asia/Shanghai", description="of these hours")
    rate_plan: Name | None = Field(None, description="whose rates its calls cost; null: nothing")
    prepaid: bool = Field(False, description="nothing is spent that is not there")

    @field_validator("allowed_ips", "warn", "hours")
    @classmethod
    def _once_each(cls, items: list[Any] | None) -> list[Any] | None:
        return items and list(dict.fromkeys(items))


class NewApp(AppFields):
    """An app that is to be added."""

    app_id: Key = Field(examples=["1400000001"])
    url_id: UrlId | None = Field(None, description="the id in its request URLs; null: its app_id")


class AppChange(AppFields):
    """What is to be changed of an app; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=no_defaults)

    url_id: UrlId = ""


class App(AppFields):
    """An app."""

    app_id: str
    url_id: UrlId


def page(connection: Connection, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[App]:
    """Apps by app_id. Raises `Invalid` for a bad cursor."""
    key = key_of(after, str) or ("",)
    found = catalog.list_apps(connection, str(key[0]), limit + 1)
    shown = [_shown(app) for app in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].app_id) if len(found) > limit else None)


def find(connection: Connection, app_id: str) -> App:
    """Raises `NotFound`."""
    return _shown(_known(connection, app_id))


def add(connection: Connection, by: Author, new: NewApp) -> App:
    """Raises `Conflict` when there is one, `Invalid` for what does not fit."""
    app = _read(new.model_dump() | {"url_id": new.url_id or new.app_id})
    _check(connection, app, {name for name in new.model_fields_set if name in AppFields.model_fields})
    catalog.add_app(connection, _stored(app), by.at)
    by.note(connection, "add", _KIND, app.app_id, after=app)
    return app


def change(connection: Connection, by: Author, app_id: str, changes: AppChange) -> App:
    """Change what is given; calls under way go on as they began. Raises `NotFound`, `Invalid`."""
    before = _shown(_known(connection, app_id, lock=True))
    app = _read(before.model_dump() | changes.model_dump(exclude_unset=True))
    if app == before:
        return app
    _check(connection, app, changes.model_fields_set)
    catalog.change_app(connection, _stored(app))
    by.note(connection, "change", _KIND, app_id, before, app)
    return app


def remove(connection: Connection, by: Author, app_id: str) -> None:
    """Its calls, records and account stay. Raises `NotFound`, and `Conflict` while it calls."""
    before = _shown(_known(connection, app_id, lock=True))
    if live := live_calls(connection, app_id):
        raise Conflict(f"app {app_id} has {live} calls under way: block it and wait until they are over")
    if find_account(connection, app_id).held:
        raise Conflict(f"app {app_id} has money held for calls: wait until they are settled")
    catalog.remove_app(connection, app_id)
    by.note(connection, "remove", _KIND, app_id, before)


def _known(connection: Connection, app_id: str, lock: bool = False) -> model.App:
    found = catalog.find_app(connection, app_id, lock)
    if found is None:
        raise NotFound(_KIND, app_id)
    return found


def _check(connection: Connection, app: App, changed: set[str]) -> None:
    """What an app names must be there. Only what is changed is looked at: the rest was right in its time."""
    for field in {"caller_number", "callee_number"} & changed:
        named = getattr(app, field)
        number = named and catalog.find_number(connection, named)
        if named and (number is None or app.app_id not in number.apps):
            raise Invalid(field, f"{named} is not a number of this app: give it to the app first")
    plan = app.rate_plan
    if "rate_plan" in changed and plan and not list_rates(connection, plan, limit=1):
        raise Invalid("rate_plan", f"there is no rate in plan {plan}: add one first")


def _read(values: dict[str, Any]) -> App:
    """An app put together, if its parts fit: one that is only shown may be as it is."""
    try:
        app = App.model_validate(values)
    except ValidationError as error:
        raise first_of(error) from None
    if app.prepaid and app.rate_plan is None:
        raise Invalid("prepaid", "needs a rate_plan, else there is nothing to pay")
    if app.display is DisplayMode.FIXED and not (app.caller_number or app.callee_number):
        raise Invalid("display", "fixed needs caller_number or callee_number")
    return app


def _shown(app: model.App) -> App:
    own = asdict(app.settings)
    warn = app.settings.warn
    own["warn"] = None if warn is None else [leg.name.lower() for leg in warn]
    own["hours"] = list(app.settings.hours)
    return App.model_construct(
        app_id=app.app_id,
        url_id=app.url_id,
        name=app.name,
        allowed_ips=list(app.allowed_ips),
        status_url=app.status_url,
        cdr_url=app.cdr_url,
        record_url=app.record_url,
        state=app.state,
        **own,
    )


def _stored(app: App) -> model.App:
    own = {name: getattr(app, name) for name in _SETTINGS}
    own["warn"] = None if app.warn is None else tuple(Leg[name.upper()] for name in app.warn)
    own["hours"] = tuple(app.hours)
    return model.App(
        app_id=app.app_id,
        url_id=app.url_id,
        name=app.name,
        allowed_ips=tuple(app.allowed_ips),
        status_url=app.status_url,
        cdr_url=app.cdr_url,
        record_url=app.record_url,
        settings=AppSettings(**own),
        state=app.state,
    )
