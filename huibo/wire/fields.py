"""Rules for single values of a request: how long, which characters, what a URL is.

Owns no field by name: the caller says which one it checks. Pure; raises nothing but `Refused`, whose
message names the field. "" always means "not given".
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NoReturn
from urllib.parse import urlsplit

from huibo.errors import Refusal, Refused
from huibo.wire.body import Fields, text_of

MAX_URL_CHARS = 2048

_DECIMAL = re.compile(r"[0-9]{1,18}")
DISPLAY_NUMBER = re.compile(r"[0-9]{3,20}")
BIZ_ID = re.compile(r"[A-Za-z0-9]{1,64}")
_UNFIT_FOR_URL = re.compile(r"[\s\\]")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(:(?P<port>[0-9]{0,5}))?")
_HOST = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def required(fields: Fields, name: str) -> str:
    """A text that must be there; -2 when it is missing or ""."""
    value = text_of(fields, name)
    if not value:
        _refuse(Refusal.PARAMETER, name, "required")
    return value


def counted(fields: Fields, name: str, max_bytes: int) -> str:
    """A text of at most `max_bytes` in UTF-8; -2 when it is longer."""
    value = text_of(fields, name)
    if len(value.encode()) > max_bytes:
        _refuse(Refusal.PARAMETER, name, f"longer than {max_bytes} bytes")
    return value


def whole(fields: Fields, name: str, low: int = 0, high: int = 10**18) -> int | None:
    """A decimal integer from `low` to `high`, None when not given; -2 for anything else."""
    value = text_of(fields, name)
    if not value:
        return None
    if not _DECIMAL.fullmatch(value):
        _refuse(Refusal.PARAMETER, name, "not a whole number")
    if not low <= int(value) <= high:
        _refuse(Refusal.PARAMETER, name, f"not from {low} to {high}")
    return int(value)


def display_number(fields: Fields, name: str) -> str | None:
    """National digits of a number to be shown, None when not given; -102 unless 3 to 20 digits."""
    value = text_of(fields, name)
    if value and not DISPLAY_NUMBER.fullmatch(value):
        _refuse(Refusal.DISPLAY_NUMBER, name, "not 3 to 20 digits")
    return value or None


def biz_id(fields: Fields, name: str) -> str:
    """ASCII letters and digits, at most 64; else -104."""
    value = text_of(fields, name)
    if value and not BIZ_ID.fullmatch(value):
        _refuse(Refusal.BIZ_ID, name, "not up to 64 letters and digits")
    return value


def url(fields: Fields, name: str) -> str | None:
    """An absolute http(s) URL (RFC 3986) without user information, None when not given; else -103.

    Where it leads is not looked at: names are resolved, and addresses judged, when a push connects.
    """
    value = text_of(fields, name)
    if not value:
        return None
    if len(value) > MAX_URL_CHARS:
        _refuse(Refusal.URL, name, f"longer than {MAX_URL_CHARS} characters")
    if not _is_web_address(value):
        _refuse(Refusal.URL, name, "not an absolute http or https url")
    return value


@lru_cache(maxsize=1024)  # an app names the same few with every call
def _is_web_address(value: str) -> bool:
    # Programs disagree on where the host ends when spaces, backslashes or "@" are about: none is let in.
    if _UNFIT_FOR_URL.search(value):
        return False
    try:
        parts = urlsplit(value)
        authority = _AUTHORITY.fullmatch(parts.netloc)
        if parts.scheme not in ("http", "https") or authority is None:
            return False
        return _is_host(authority["host"]) and 0 < int(authority["port"] or 80) < 65536
    except ValueError:  # from urlsplit, ipaddress or the idna codec
        return False


def _is_host(host: str) -> bool:
    """A name or an address; raises ValueError for some of what is neither."""
    if host.startswith("["):
        return IPv6Address(host[1:-1]).scope_id is None
    ascii_host = host.encode("idna")
    return bool(_HOST.fullmatch(ascii_host.decode("ascii")) and ascii_host.decode("idna"))


def _refuse(refusal: Refusal, name: str, why: str) -> NoReturn:
    raise Refused(refusal, f"{name}: {why}")
