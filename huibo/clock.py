"""The time of day in milliseconds, for a program whose timers must not jump.

Anchored once to the wall clock and carried on by the monotonic one, so that a step of the system's clock
neither cuts nor prolongs a call; small drifts (NTP slewing) are followed. Processes that share a database
follow the clock of that instead: what one writes is compared by another.
"""

from __future__ import annotations

import time

_DRIFT_MS = 1000  # a larger difference is a step, and is not followed while the process lives


class Clock:
    """Reads UNIX milliseconds; never runs backwards."""

    def __init__(self) -> None:
        self._offset_ms = self._wall() - self._steady()
        self._lead_ms: float | None = None  # of the clock that is followed, before the wall clock
        self._last = 0

    def steady_ms(self) -> float:
        """Milliseconds since some moment, for `follow`."""
        return self._steady()

    def follow(self, theirs_ms: float, steady_ms: float) -> None:
        """Go by another clock, which showed `theirs_ms` (UNIX ms) when `steady_ms()` was this.

        The first time at once, before any time has been told that matters; after that as the wall clock was
        followed: drifts, not steps.
        """
        offset = theirs_ms - steady_ms
        if self._lead_ms is None:
            self._offset_ms, self._last = offset, 0
        self._lead_ms = offset - (self._wall() - self._steady())

    def now_ms(self) -> int:
        steady = self._steady()
        drift = self._wall() - steady + (self._lead_ms or 0) - self._offset_ms
        if abs(drift) < _DRIFT_MS:
            self._offset_ms += drift
        self._last = max(self._last, int(steady + self._offset_ms))
        return self._last

    def _wall(self) -> float:
        return time.time() * 1000

    def _steady(self) -> float:
        return time.monotonic() * 1000
