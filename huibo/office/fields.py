"""What single values of the office must be: texts, addresses, URLs, times. Types that pydantic checks.

Each says what was wrong in words that an operator understands.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from huibo.admission.access import networks
from huibo.admission.hours import read_window
from huibo.numbers import parse_callee

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_IPV4_LIKE = re.compile(r"[0-9.]+")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(:(?P<port>[0-9]{1,5}))?")
_MOST_TIME = 2**53  # what every JSON reader holds exactly


def _printable(text: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("control characters")
    return text


def _host(text: str) -> str:
    if ":" in text:
        try:
            if IPv6Address(text).scope_id is None:
                return text
        except AddressValueError:
            pass
        raise ValueError("not a host name or address (a port has a field of its own)")
    if _IPV4_LIKE.fullmatch(text):
        try:
            return str(IPv4Address(text))
        except AddressValueError:
            raise ValueError("not an IPv4 address") from None
    if not _HOST.fullmatch(text):
        raise ValueError("not a host name or address")
    return text


def _address(text: str) -> str:
    """host:port, an IPv6 address in brackets."""
    found = _AUTHORITY.fullmatch(text)
    if found is None or found["port"] is None or not 0 < int(found["port"]) < 65536:
        raise ValueError("not host:port, like sip2.example.com:5060")
    _host(found["host"].strip("[]"))
    return text


def _url(text: str) -> str:
    # programs disagree on where the host ends when spaces, backslashes or "@" are about: none is let in
    try:
        parts = urlsplit(text) if not any(char.isspace() or char == "\\" for char in text) else None
        authority = parts and _AUTHORITY.fullmatch(parts.netloc)
        if parts is None or parts.scheme not in ("http", "https") or not authority:
            raise ValueError
        if not 0 < int(authority["port"] or 80) < 65536:
            raise ValueError
        _host(authority["host"].strip("[]").encode("idna").decode().rstrip("."))
    except ValueError:
        raise ValueError("not an absolute http or https URL without user name") from None
    return text


def _network(text: str) -> str:
    try:
        networks((text,))
    except ValueError:
        raise ValueError("not an address or network, like 203.0.113.7 or 10.0.0.0/8") from None
    return text


def _window(text: str) -> str:
    read_window(text)
    return text.strip().lower()


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except Exception:  # many kinds: it is a path below the folder of zones
        raise ValueError("no such time zone; one is called like Asia/Shanghai") from None
    return name


def _phone(text: str) -> str:
    text = text.strip()  # a plus sign in a query arrives as a space
    digits = re.sub(r"^(\+86|0086|86)0?", "", text)
    found = parse_callee(text) or parse_callee(digits) or parse_callee(f"0{digits}")
    if found is None:
        raise ValueError("not a Chinese mobile or landline number, like 13800138000, 01088880000 or +86…")
    return found


Printable = Annotated[str, AfterValidator(_printable)]
Line = Annotated[Printable, Field(max_length=200)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
ShownNumber = Annotated[str, Field(pattern=r"^[0-9]{3,20}$", examples=["02131264133"])]
Phone = Annotated[str, Field(max_length=24, examples=["13800138000"]), AfterValidator(_phone)]
Host = Annotated[str, Field(max_length=253, examples=["sip.example.com"]), AfterValidator(_host)]
Address = Annotated[str, Field(max_length=260, examples=["sip2.example.com:5060"]), AfterValidator(_address)]
Url = Annotated[str, Field(max_length=2048, examples=["https://example.com/calls"]), AfterValidator(_url)]
Network = Annotated[str, Field(max_length=50, examples=["203.0.113.7"]), AfterValidator(_network)]
Window = Annotated[str, Field(max_length=40, examples=["mon-fri 09:00-21:00"]), AfterValidator(_window)]
Timezone = Annotated[str, Field(max_length=60, examples=["Asia/Shanghai"]), AfterValidator(_timezone)]
Time = Annotated[int, Field(ge=0, le=_MOST_TIME, description="UNIX time in ms")]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


def no_defaults(schema: dict[str, Any]) -> None:
    """For `json_schema_extra` of what only changes what is given: what is left out stays as it is."""
    for field in schema.get("properties", {}).values():
        field.pop("default", None)
