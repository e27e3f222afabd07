"""When the engine's events happened, by huibo's clock: what is read late has not happened late.

Every event of Asterisk bears a stamp. How far its clock is from ours is learnt from the events that came
soonest; one that came later than they by more than a second has waited to be read, and is so much older.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

_LATE_MS = 1000
_STEP_MS = 60_000  # what is later than this is no delay: one of the clocks has been set
_SPAN_MS = 60_000  # clocks drift: a difference counts for one to two spans


class Stamps:
    """The stamps of one connection."""

    def __init__(self) -> None:
        self._least: float | None = None  # of now minus stamp, in this span and the one before it
        self._before: float | None = None
        self._span_ends = 0

    def moment(self, event: dict[str, Any], now: int) -> int:
        """When it happened (UNIX ms); `now` is when it was read."""
        try:
            stamp = datetime.fromisoformat(event["timestamp"]).timestamp() * 1000
        except (KeyError, TypeError, ValueError):
            return now
        apart = now - stamp
        if now >= self._span_ends:
            self._before, self._least, self._span_ends = self._least, None, now + _SPAN_MS
        least = min((one for one in (self._least, self._before) if one is not None), default=apart)
        late = apart - least
        if late > _STEP_MS:
            self._before = self._least = apart
            return now
        self._least = apart if self._least is None else min(self._least, apart)
        return now - round(late) if late > _LATE_MS else now
