"""Chinese telephone numbers: which are valid, and the forms they are written in.

Owns the way between national digits and E.164. Does no I/O and knows nothing of the wire: a prefix such as
0086 is the wire's word and is gone before a number comes here.
"""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

_COUNTRY = "+86"
_DIGITS = re.compile(r"[0-9]{7,12}")
_MOBILE = frozenset({PhoneNumberType.MOBILE})
_ANY_PHONE = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE})


def parse_caller(digits: str) -> str | None:
    """E.164 of a mobile number in national digits (13800138000); None when it is not one."""
    return _parse(digits, _MOBILE)


def parse_callee(digits: str) -> str | None:
    """E.164 of a mobile number, or of a landline with trunk 0 and area code (01088880000); else None."""
    return _parse(digits, _ANY_PHONE)


def _parse(digits: str, types: frozenset[int]) -> str | None:
    if not _DIGITS.fullmatch(digits):
        return None
    try:
        number = phonenumbers.parse(_COUNTRY + digits)
    except NumberParseException:
        return None
    if phonenumbers.number_type(number) not in types:
        return None
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    # The library forgives a trunk 0 before a mobile, a missing one before an area code, and carrier
    # prefixes. One form per number, so that what a request wrote can be given back exactly.
    return e164 if national(e164) == digits else None


@lru_cache(maxsize=8192)  # every push writes both numbers of its call again
def national(e164: str) -> str:
    """National digits of an E.164 number: 13800138000, 01088880000 with trunk 0.

    Raises ValueError when `e164` is no telephone number.
    """
    try:
        number = phonenumbers.parse(e164)
    except NumberParseException as error:
        raise ValueError(f"not an E.164 number: {error}") from error
    written = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    return "".join(char for char in written if char.isdigit())


def mask(number: str) -> str:
    """For logs: the first 3 and last 2 digits of the national form, the rest as stars; E.164 or digits in.

    Five characters or fewer show nothing. Never raises.
    """
    try:
        shown = national(number)
    except ValueError:
        shown = number
    if len(shown) <= 5:
        return "*" * len(shown)
    return f"{shown[:3]}{'*' * (len(shown) - 5)}{shown[-2:]}"
