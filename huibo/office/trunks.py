"""Trunks, as an operator sees and changes them. A password goes in and never comes out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from sqlalchemy import Connection

from huibo import model
from huibo.model import NumberFormat, Transport, TrunkState
from huibo.office.author import Author
from huibo.office.errors import Invalid, NotFound, first_of
from huibo.office.fields import Address, Count, Host, Name, Printable, no_defaults
from huibo.office.page import DEFAULT_LIMIT, Page, cursor, key_of
from huibo.office.patterns import Pattern
from huibo.storage import catalog
from huibo.storage.catalog import Conflict

_KIND = "trunk"
_LISTS = ("more_addresses", "prefixes")

Codec = Literal["alaw", "ulaw"]  # what the engine is configured to load
Credential = Annotated[Printable, Field(max_length=80)]


class TrunkFields(BaseModel):
    """What a trunk has beside its name and host."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    port: Annotated[int, Field(ge=1, le=65535)] = 5060
    more_addresses: Annotated[list[Address], Field(max_length=10)] = Field(
        [], description="host:port, in use while OPTIONS says that those before are down"
    )
    transport: Transport = Transport.UDP
    verify_tls: bool = True
    codecs: Annotated[list[Codec], Field(min_length=1, max_length=8)] = Field(
        ["alaw", "ulaw"], description="the most wanted first"
    )
    username: Annotated[Credential, Field(min_length=1)] | None = Field(
        None, description="for digest authentication"
    )
    register_: bool = Field(False, alias="register", description="REGISTER with the carrier")
    from_domain: Host | None = Field(None, description="the host in From, where the carrier insists on one")
    caller_format: NumberFormat = Field(NumberFormat.NATIONAL, description="of the number that is shown")
    dial_format: NumberFormat = Field(NumberFormat.NATIONAL, description="of the number that is dialled")
    dial_prefix: Annotated[str, Field(pattern=r"^[0-9*#]{0,10}$")] = ""
    prefixes: Annotated[list[Pattern], Field(max_length=2000)] = Field(
        [], description="of the numbers it serves; none: all"
    )
    state: TrunkState = Field(
        TrunkState.ACTIVE, description="draining: keeps its calls and takes no new ones; off: not in use"
    )
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = Field(0, description="lower goes first")
    weight: Count = Field(1, description="its share among those of equal priority and cost")
    cost: Annotated[int, Field(ge=0, le=10**12)] = Field(0, description="1/1000 fen a minute")
    channels: Count | None = Field(None, description="legs at once")
    calls_per_second: Count | None = Field(None, description="INVITEs in any second")
    options_s: Annotated[int, Field(ge=0, le=3600)] = Field(
        30, description="between two OPTIONS; 0: none are sent"
    )
    min_answered: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="percent of calls; below it the trunk is locked for a time"
    )
    direct_media: bool = Field(
        False, description="calls whose trunks both have it may have the carrier's ends exchange the audio"
    )

    @field_validator("codecs", "prefixes", "more_addresses")
    @classmethod
    def _once_each(cls, items: list[Any]) -> list[Any]:
        return list(dict.fromkeys(items))


class _Secret(TrunkFields):
    password: Annotated[SecretStr, Field(max_length=80)] | None = Field(
        None, description="for digest authentication; never shown again"
    )

    @field_validator("password")
    @classmethod
    def _one_line(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and not password.get_secret_value().isprintable():
            raise ValueError("control characters")
        return password


class NewTrunk(_Secret):
    """A trunk that is to be added."""

    name: Name = Field(examples=["carrier-1"])
    host: Host = Field(description="address or name of the carrier's SIP server")


class TrunkChange(_Secret):
    """What is to be changed of a trunk; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=no_defaults)

    host: Host = ""


class Trunk(TrunkFields):
    """A SIP line towards a carrier."""

    name: str
    host: Host
    has_password: bool = Field(False, description="the password itself is never shown")


def page(connection: Connection, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Trunk]:
    """Trunks by name. Raises `Invalid` for a bad cursor."""
    key = key_of(after, str) or ("",)
    every = sorted(catalog.list_trunks(connection), key=lambda trunk: trunk.name)
    found = [trunk for trunk in every if trunk.name > str(key[0])]
    shown = [_shown(trunk) for trunk in found[:limit]]
    return Page(items=shown, next=cursor(shown[-1].name) if len(found) > limit else None)


def find(connection: Connection, name: str) -> Trunk:
    """Raises `NotFound`."""
    return _shown(_known(connection, name))


def add(connection: Connection, by: Author, new: NewTrunk) -> Trunk:
    """Calls use it at once. Raises `Conflict` when there is one, `Invalid` for what does not fit."""
    password = new.password.get_secret_value() if new.password else None
    trunk = _read(new.model_dump(exclude={"password"}) | {"has_password": bool(password)})
    catalog.add_trunk(connection, _stored(trunk, password), by.at)
    by.note(connection, "add", _KIND, trunk.name, after=trunk)
    return trunk


def change(connection: Connection, by: Author, name: str, changes: TrunkChange) -> Trunk:
    """Change what is given; what talks on it goes on. Raises `NotFound`, `Invalid`.

    A password that is null is taken away; so is one without a user name.
    """
    stored = _known(connection, name)
    before, given = _shown(stored), changes.model_dump(exclude_unset=True)
    password = stored.password
    if "password" in given:
        password = changes.password.get_secret_value() if changes.password else None
        del given["password"]
    elif "username" in given and given["username"] is None:
        password = None
    trunk = _read(before.model_dump() | given | {"has_password": bool(password)})
    changed = _stored(trunk, password)
    if changed == replace(stored, password=stored.password or None):
        return trunk
    catalog.change_trunk(connection, changed)
    action = "change" if trunk != before else "password"
    by.note(connection, action, _KIND, name, before, trunk)
    return trunk


def remove(connection: Connection, by: Author, name: str) -> None:
    """Calls that are up on it stay. Raises `NotFound`, and `Conflict` while a number names it."""
    before = find(connection, name)
    shown_on = [one.number for one in catalog.list_numbers(connection) if name in one.trunks]
    if shown_on:
        more = f" and {len(shown_on) - 3} more" if len(shown_on) > 3 else ""
        raise Conflict(f"trunk {name} is named by number {', '.join(shown_on[:3])}{more}: change them first")
    catalog.remove_trunk(connection, name)
    by.note(connection, "remove", _KIND, name, before)


def _known(connection: Connection, name: str) -> model.Trunk:
    found = catalog.find_trunk(connection, name)
    if found is None:
        raise NotFound(_KIND, name)
    return found


def _read(values: dict[str, Any]) -> Trunk:
    """A trunk put together, if its parts fit: one that is only shown may be as it is."""
    try:
        trunk = Trunk.model_validate(values)
    except ValidationError as error:
        raise first_of(error) from None
    if trunk.has_password and trunk.username is None:
        raise Invalid("password", "needs a username")
    if trunk.register_ and trunk.username is None:
        raise Invalid("register", "needs a username")
    if trunk.more_addresses and not trunk.options_s:
        raise Invalid("more_addresses", "need options_s, else nobody notices that an address is down")
    return trunk


def _shown(trunk: model.Trunk) -> Trunk:
    values = {field.name: getattr(trunk, field.name) for field in fields(model.Trunk)}
    values |= {name: list(values[name]) for name in _LISTS}
    values["codecs"] = trunk.codecs.split(",")
    values["register_"] = values.pop("register")
    return Trunk.model_construct(**values | {"has_password": bool(values.pop("password"))})


def _stored(trunk: Trunk, password: str | None) -> model.Trunk:
    values = trunk.model_dump(exclude={"has_password"})
    values |= {name: tuple(values[name]) for name in _LISTS}
    return model.Trunk(**values | {"codecs": ",".join(trunk.codecs), "password": password or None})
