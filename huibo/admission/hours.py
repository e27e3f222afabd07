"""When an app may call: windows like "mon-fri 09:00-21:00" or "22:00-02:00" (then over midnight).

Pure. A window takes in its beginning and not its end; without days it is every day's.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from huibo.admission.facts import Facts
from huibo.errors import Refusal, Refused

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? )?"
    r"(?P<start>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2})"
)
_DAY_MIN = 24 * 60


def hours(facts: Facts) -> None:
    """The app may call at this time of the day and week (-423)."""
    windows = facts.app.settings.hours if facts.app else ()
    if windows and not any(is_within(window, facts.local) for window in windows):
        raise Refused(Refusal.BLOCKED, "outside the calling hours of this appId")


def is_within(window: str, local: datetime) -> bool:
    """Whether a local time is in a window. Raises ValueError for a window that cannot be read."""
    days, start, end = read_window(window)
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if start < end:
        return day in days and start <= minute < end
    return (day in days and minute >= start) or ((day - 1) % 7 in days and minute < end)


@lru_cache(maxsize=1024)
def read_window(window: str) -> tuple[frozenset[int], int, int]:
    """Days (0: Monday), beginning and end in minutes. Raises ValueError saying what is wrong."""
    found = _WINDOW.fullmatch(window.strip().lower())
    if found is None:
        raise ValueError(f"{window}: not like mon-fri 09:00-21:00")
    first, last = (_day(found[part], window) for part in ("first", "last"))
    if first is None:
        days = frozenset(range(7))
    else:
        until = first if last is None else last
        days = frozenset((first + n) % 7 for n in range((until - first) % 7 + 1))
    return days, _minutes(found["start"], window), _minutes(found["end"], window)


def _day(name: str | None, window: str) -> int | None:
    if name is None:
        return None
    if name not in _DAYS:
        raise ValueError(f"{window}: no such day: {name}")
    return _DAYS.index(name)


def _minutes(text: str, window: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if minute >= 60 or hour * 60 + minute > _DAY_MIN:
        raise ValueError(f"{window}: no such time: {text}")
    return hour * 60 + minute
