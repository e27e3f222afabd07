"""Spares a target that fails all the time: one attempt at a time and growing pauses, until one succeeds.

Pure bookkeeping, of this process alone. What it holds back is neither attempted nor counted as an attempt,
and no other target notices.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto

from huibo.storage.push_targets import Key

FAILURES = 10  # in a row: then it is spared
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 1_000, 15_000
_SPREAD_MS = 2_000  # what is held back comes after the attempt that shows how the target is, not all at once
_STATUS_LIFE_MS = 60_000  # a status push has its tries within this time, or not at all
_LEAST_HOLD_MS, _LONGEST_HOLD_MS = 5_000, 1_800_000  # of all others: by how long it has gone on
_REMEMBERED = 10_000  # targets; one that is forgotten is only hit more often


class Turn(Enum):
    """What the end of an attempt changed."""

    SPARED = auto()  # from now on
    BACK = auto()  # it answers again


@dataclass(slots=True)
class _Failing:
    since: int
    failures: int = 0
    pause: int = _FIRST_PAUSE_MS
    probe: int | None = None  # the push that is attempted to see how the target is
    probe_at: int = 0  # not before


class Breaker:
    """The targets whose last attempts have failed. Times in UNIX ms."""

    def __init__(self) -> None:
        self._failing: dict[Key, _Failing] = {}

    def __len__(self) -> int:
        return len(self._failing)

    def may_go(self, key: Key, push_id: int, now: int) -> bool:
        """Whether an attempt may begin; if so it must begin, and its end be told by `over`."""
        target = self._failing.get(key)
        if target is None or target.failures < FAILURES:
            return True
        if target.probe is not None or now < target.probe_at:
            return False
        target.probe, target.probe_at = push_id, now + target.pause
        target.pause = min(2 * target.pause, _LONGEST_PAUSE_MS)
        return True

    def over(self, key: Key, push_id: int, succeeded: bool, now: int) -> Turn | None:
        """An attempt has ended."""
        if succeeded:
            before = self._failing.pop(key, None)
            return Turn.BACK if before is not None and before.failures >= FAILURES else None
        target = self._failing.setdefault(key, _Failing(now))
        target.failures += 1
        if target.probe == push_id:
            target.probe = None
        if len(self._failing) > _REMEMBERED:
            del self._failing[next(iter(self._failing))]
        if target.failures == FAILURES:
            target.probe_at = now + target.pause
            return Turn.SPARED
        return None

    def again_at(self, key: Key, is_status: bool, owed_at: int, now: int) -> int | None:
        """When a push that may not go is to be looked at again; None: it has had its time.

        A status push is worthless late: it has a minute from when it was owed. All others have days.
        """
        target = self._failing[key]
        if not is_status:
            hold = min(max((now - target.since) // 4, _LEAST_HOLD_MS), _LONGEST_HOLD_MS)
            return now + round(hold * random.uniform(0.8, 1.2))
        if now - owed_at >= _STATUS_LIFE_MS:
            return None
        return max(target.probe_at, now) + round(random.uniform(0.1, 1) * _SPREAD_MS)
