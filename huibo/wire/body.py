"""The body of a request: bytes in, a JSON object's fields out.

Owns what counts as readable and what counts as a text value; knows no field by name. Does no I/O and never
raises anything but `Refused` (-2).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import NoReturn

from huibo.errors import Refusal, Refused

Fields = Mapping[str, object]

MAX_DEPTH = 32

# Brackets, and strings so that the brackets inside them are skipped. An unterminated string matches to the
# end and all repeats are possessive: one pass over the text, whatever it holds.
_NESTING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_FRACTION = object()  # stands for every number that is not an integer: none of them is ever read


def decode(raw: bytes) -> Fields:
    """The fields of a JSON object in UTF-8 (RFC 8259), with or without a byte order mark.

    Values are str, None, bool, list, dict or other; integers come as their decimal text.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        _refuse("body: not utf-8")
    if not text.strip():
        _refuse("body: empty")
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError:
        _refuse("body: not json")
    if not isinstance(value, dict):
        _refuse("body: not a json object")
    if "\\u" in text:  # UTF-8 itself holds whole characters only
        _check_unicode(value)
    return value


def text_of(fields: Fields, name: str) -> str:
    """The text of a field; "" when it is missing, null or "". Raises Refused (-2) when it is no text."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        _refuse(f"{name}: must be a string")
    if not value.isprintable() and any(unicodedata.category(char) == "Cc" for char in value):
        _refuse(f"{name}: control characters")
    return value


def _check_depth(text: str) -> None:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for token in _NESTING.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
        if depth > MAX_DEPTH:
            _refuse("body: nested too deeply")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            _refuse(f"{name if _PLAIN_NAME.fullmatch(name) else 'body'}: given twice")
        found[name] = value
    return found


def _check_unicode(value: object) -> None:
    """Half a surrogate pair (written as an escape) cannot be encoded again, so not be given back either."""
    match value:
        case str():
            if _HALF_A_PAIR.search(value):
                _refuse("body: half a surrogate pair")
        case list():
            for item in value:
                _check_unicode(item)
        case dict():
            for name, item in value.items():
                _check_unicode(name)
                _check_unicode(item)


def _refuse(message: str) -> NoReturn:
    raise Refused(Refusal.PARAMETER, message)


_DECODER = json.JSONDecoder(
    parse_int=str,
    parse_float=lambda _: _FRACTION,
    parse_constant=lambda word: _refuse(f"body: {word} is not json"),
    object_pairs_hook=_unique,
)
