"""KEY=VALUE on the command line, for all that an operator changes: what there is, the office's models say."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from huibo import yuan
from huibo.cli.output import Failed

M = TypeVar("M", bound=BaseModel)

MONEY = ("cost", "per_minute", "setup")  # fields that people write in yuan
# Other words for a field; what is not here is written as it is called, with - in place of _.
ALIASES = {"allow_ip": "allowed_ips", "trunk": "trunks", "app": "apps", "prefix": "prefixes"}
_SHOWN = {"allowed_ips": "allow_ip"}
_LONG = 80  # a value that is longer is not said again in full
_NOTHING = "none"  # an empty list, where nothing at all means something else

# What a text must look like, in words.
_PATTERNS = {
    r"^[A-Za-z0-9_-]{1,40}$": "up to 40 letters, digits, - and _",
    r"^[A-Za-z0-9_.-]{1,64}$": "up to 64 letters, digits, ., - and _",
    r"^[!-~]{1,64}$": "up to 64 characters without spaces",
    r"^[0-9]{3,20}$": "3 to 20 digits, e.g. 02131264133",
    r"^[0-9*#]{0,10}$": "up to 10 digits, * and #",
    r"\S": "must not be empty",
}


def keys(model: type[BaseModel], leave_out: Iterable[str] = ()) -> str:
    """The keys that a model knows, as a help text."""
    return ", ".join(word(name) for name in _fields(model) if name not in leave_out)


def read(model: type[M], words: Iterable[str], given: dict[str, Any] | None = None) -> M:
    """A model of the KEY=VALUE words, and of what else is given by its names; None in `given` is left out.

    An empty value is the default. Raises `Failed`.
    """
    fields = _fields(model)
    values = {name: value for name, value in (given or {}).items() if value is not None}
    for change in words:
        key, equals, value = change.partition("=")
        if not equals:
            raise Failed(f"{change}: write it as {key}=VALUE")
        name = key.strip().lower().replace("-", "_")
        name = name if name in fields else ALIASES.get(name, name)
        if name not in fields:
            raise Failed(f"{key}: there is no such setting; there are {keys(model)}")
        values[name] = _value(name, fields[name], key, value)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Failed(said(error)) from None


def said(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    place, value = first["loc"], first["input"]
    name = word(str(place[0])) if place else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        message = _PATTERNS.get(first["ctx"]["pattern"], message)
    if isinstance(value, str) and not value.strip():
        return f"{name}: must not be empty"
    if name in ("password", "secret") or not isinstance(value, str | int):
        return f"{name}: {message}" if name else message
    text = str(value)
    short = text if text.isprintable() and len(text) <= _LONG else repr(text[:_LONG])
    return f"{name} {short}: {message}"


def shown(item: BaseModel) -> dict[str, Any]:
    """The fields of something for people: money in yuan."""
    fields = item.model_dump(mode="json")
    return {
        key: yuan.shown(value) if key in MONEY and isinstance(value, int) else value
        for key, value in fields.items()
    }


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def word(name: str) -> str:
    """How a field is called on the command line."""
    return _SHOWN.get(name, name).replace("_", "-")


def _value(name: str, field: FieldInfo, key: str, text: str) -> Any:
    if not text:
        return field.get_default(call_default_factory=True)
    if name in MONEY:
        try:
            return yuan.parse(text)
        except ValueError as error:
            raise Failed(f"{key}={text}: {error}") from None
    if _is_list(field.annotation):
        return [] if text == _NOTHING else [part.strip() for part in text.split(",")]
    return text


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return any(map(_is_list, get_args(annotation)))
    if hasattr(annotation, "__metadata__"):
        return _is_list(get_args(annotation)[0])
    return get_origin(annotation) is list
