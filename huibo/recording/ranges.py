"""Byte ranges and entity tags of downloads (RFC 9110, 13.1 and 14). Pure.

One range is served; several at once are answered with the whole, as 14.2 allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e]*")')


@dataclass(frozen=True, slots=True)
class Part:
    """What of a file is to be sent: from `start` up to, not including, `end`. Bytes."""

    start: int
    end: int


class Unsatisfiable(Exception):
    """The range asked for begins behind the end: 416."""


def part_of(header: str | None, size: int) -> Part | None:
    """The part that a Range header asks for; None for the whole, also where the header is not valid.

    Raises `Unsatisfiable`.
    """
    found = _ONE_RANGE.fullmatch(header) if header is not None else None
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise Unsatisfiable
        return Part(max(0, size - int(suffix)), size)
    start, end = int(first), int(last) + 1 if last else size
    if last and end <= start:
        return None  # not valid, which is another thing than not satisfiable
    if start >= size:
        raise Unsatisfiable
    return Part(start, min(end, size))


def is_current(if_range: str | None, etag: str) -> bool:
    """Whether a range may be served under this If-Range header: only for exactly this file (strong tag)."""
    return if_range is None or if_range.strip() == etag


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this file already, by its If-None-Match header: 304."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)
