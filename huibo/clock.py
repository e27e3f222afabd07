"""The time of day in milliseconds, for a program whose timers must not jump.

Anchored once to the wall clock and carried on by the monotonic one, so that a step of the system's clock
neither cuts nor prolongs a call; small drifts (NTP slewing) are followed.
"""

from __future__ import annotations

import time

_DRIFT_MS = 1000  # a larger difference is a step, and is not followed while the process lives


class Clock:
    """Reads UNIX milliseconds; never runs backwards."""

    def __init__(self) -> None:
        self._offset_ms = self._wall() - self._steady()
        self._last = 0

    def now_ms(self) -> int:
        drift = self._wall() - self._steady() - self._offset_ms
        if abs(drift) < _DRIFT_MS:
            self._offset_ms += drift
        self._last = max(self._last, int(self._steady() + self._offset_ms))
        return self._last

    def _wall(self) -> float:
        return time.time() * 1000

    def _steady(self) -> float:
        return time.monotonic() * 1000
