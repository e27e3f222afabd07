"""Chinese telephone numbers: which are valid, and the forms they are written in.

Owns the way between national digits and E.164. Does no I/O and knows nothing of the wire: a prefix such as
0086 is the wire's word and is gone before a number comes here.
"""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, PhoneNumberFormat, PhoneNumberType

from huibo.model import NumberFormat


def _pattern_of_mobiles() -> re.Pattern[str]:
    plan = PhoneMetadata.metadata_for_region("CN")
    assert plan is not None
    assert plan.mobile is not None
    assert plan.mobile.national_number_pattern
    return re.compile(plan.mobile.national_number_pattern, re.ASCII)


_COUNTRY = "+86"
# The library's own words for a mobile number. It would take what they match through its whole plan and back,
# and leave it as it is; most numbers are of this kind.
_MOBILE = _pattern_of_mobiles()
_DIGITS = re.compile(r"[0-9]{7,12}")
_SEPARATORS = re.compile(r"[\s().-]+")
# A mobile number, or a landline with trunk 0: area codes of two digits have eight-digit numbers.
_SUBSCRIBER = re.compile(r"1[3-9][0-9]{9}|0(?:10|2[0-9])[0-9]{8}|0[3-9][0-9]{2}[0-9]{7,8}")


def parse_caller(digits: str) -> str | None:
    """E.164 of a mobile number in national digits (13800138000); None when it is not one."""
    return _COUNTRY + digits if _MOBILE.fullmatch(digits) else None


def parse_callee(digits: str) -> str | None:
    """E.164 of a mobile number, or of a landline with trunk 0 and area code (01088880000); else None."""
    return parse_caller(digits) or (_parse_landline(digits) if _DIGITS.fullmatch(digits) else None)


@lru_cache(maxsize=8192)  # callers are many, the landlines that they are connected with few
def _parse_landline(digits: str) -> str | None:
    try:
        number = phonenumbers.parse(_COUNTRY + digits)
    except NumberParseException:
        return None
    if phonenumbers.number_type(number) != PhoneNumberType.FIXED_LINE:
        return None
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    # The library forgives a missing trunk 0 before an area code, and carrier prefixes. One form per number,
    # so that what a request wrote can be given back exactly.
    return e164 if national(e164) == digits else None


def pattern(text: str) -> str | None:
    """A number or its beginning as it is compared with others: the digits of E.164 without the plus.

    Takes +86138, 0086138, 86138, 138, 010; "" is the beginning of every number. None: it is neither.
    """
    digits = _SEPARATORS.sub("", text)
    if digits == "":
        return ""
    found = re.fullmatch(r"(\+|00)?([0-9]{1,19})", digits)
    if found is None:
        return None
    international, rest = found.groups()
    if international or rest.startswith("86"):
        return rest
    return "86" + rest.removeprefix("0")


def beginnings(e164: str) -> list[str]:
    """All patterns that a number begins with, the longest (its own) first, "" last."""
    digits = e164.removeprefix("+")
    return [digits[:length] for length in range(len(digits), -1, -1)]


def national(e164: str) -> str:
    """National digits of an E.164 number: 13800138000, 01088880000 with trunk 0.

    Raises ValueError when `e164` is no telephone number.
    """
    if e164.startswith(_COUNTRY) and _MOBILE.fullmatch(e164, len(_COUNTRY)):
        return e164.removeprefix(_COUNTRY)
    return _formatted(e164)


@lru_cache(maxsize=8192)  # every push writes both numbers of its call again
def _formatted(e164: str) -> str:
    try:
        number = phonenumbers.parse(e164)
    except NumberParseException as error:
        raise ValueError(f"not an E.164 number: {error}") from error
    written = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    return "".join(char for char in written if char.isdigit())


def written(e164: str, form: NumberFormat) -> str:
    """An E.164 number as a carrier wants it dialled. Raises ValueError when it is no telephone number."""
    digits = e164.removeprefix("+")
    match form:
        case NumberFormat.NATIONAL:
            return national(e164)
        case NumberFormat.BARE:
            return digits.removeprefix("86")
        case NumberFormat.E164:
            return f"+{digits}"
        case NumberFormat.PLAIN:
            return digits
        case NumberFormat.DOUBLE_ZERO:
            return f"00{digits}"


def shown(number: str, form: NumberFormat) -> str:
    """National digits, as a phone is to show them, as a carrier wants them in From.

    What is not a subscriber's number, such as 95588 or 4001360123, has no other form than its own.
    """
    return written(_COUNTRY + number.removeprefix("0"), form) if _SUBSCRIBER.fullmatch(number) else number


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
