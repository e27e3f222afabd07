"""How a telephone number is grouped when it is read out: 138 0013 8000, 400 136 0123, 021 6400 0000. Pure."""

from __future__ import annotations

import re


def groups_of(number: str) -> list[str]:
    """The groups of digits of a written telephone number, in order; no digit is lost.

    Separators that are written count; a number without any is grouped by its kind.
    """
    parts = re.findall(r"\d+", number)
    if len(parts) == 1:
        return _grouped(parts[0])
    return [group for part in parts for group in (_halved(part) if len(part) > 5 else [part])]


def _grouped(digits: str) -> list[str]:
    prefix = re.match(r"(?:00)?86(?=(?:1[3-9]\d{9}|0\d{9,11})$)", digits)
    if prefix:
        return [prefix[0], *_grouped(digits[prefix.end() :])]
    if re.fullmatch(r"1[3-9]\d{9}", digits):
        return [digits[:3], digits[3:7], digits[7:]]
    if re.fullmatch(r"[48]00\d{7}", digits):
        return [digits[:3], digits[3:6], digits[6:]]
    if re.fullmatch(r"0\d{9,11}", digits):  # 010 and 02x are the area codes of three digits
        area = 3 if digits[1] in "12" else 4
        return [digits[:area], *_halved(digits[area:])]
    return _halved(digits)


def _halved(digits: str) -> list[str]:
    """Groups of three and four digits, the last one of four: 64000000 → 6400 0000, 6400000 → 640 0000."""
    groups: list[str] = []
    while len(digits) > 5:
        groups.insert(0, digits[-4:])
        digits = digits[:-4]
    return [digits, *groups]
