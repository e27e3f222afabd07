"""When a target is to get no pushes any more, by how its attempts end. Pure: reads no clock, writes nothing.

Of a target that works there is nothing to say, and most of them do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from huibo.push.sender import Outcome
from huibo.storage.outbox import OwedPush
from huibo.storage.push_targets import Failure, Key, PushTarget, key_of

_HOUR_MS = 3_600_000
_TELL_MS = _HOUR_MS  # so often the time of the last failure is written down
STALE_MS = 48 * _HOUR_MS  # a failure so long ago says nothing of now; the longest wait is 29 hours


class News(NamedTuple):
    """What has changed with the targets: those that failed, and those that work again."""

    failed: list[Failure]
    works: set[Key]

    def __bool__(self) -> bool:
        return bool(self.failed or self.works)


class Judge:
    """`disable_after_s`: of nothing but failures."""

    def __init__(self, disable_after_s: float) -> None:
        self._after_ms = round(disable_after_s * 1000)
        self._reason = f"nothing but failures for {disable_after_s / 3600:g} h"

    def news(
        self, known: Mapping[Key, PushTarget], over: Iterable[tuple[OwedPush, Outcome]], now: int
    ) -> News:
        """What attempts that have ended at `now` (UNIX ms) change about what is known."""
        failed: dict[Key, Failure] = {}
        works: set[Key] = set()
        for push, outcome in over:
            if outcome.error is None:
                works.add(key_of(push.app_id, push.url))
            elif not outcome.final or outcome.gone:  # a URL that is none is no target
                key = key_of(push.app_id, push.url)
                if key not in failed or outcome.gone:
                    failed[key] = self._failure(known.get(key), key, outcome, now)
        enabled = {key for key in known if known[key].disabled_at is None}
        told = [
            failure
            for key, failure in failed.items()
            if (key not in known or key in enabled)
            and (failure.disable is not None or (key not in works and _is_news(known.get(key), failure)))
        ]
        return News(told, works & enabled)

    def _failure(self, before: PushTarget | None, key: Key, outcome: Outcome, now: int) -> Failure:
        error = outcome.error or ""
        going_on = before is not None and before.failed_at > now - STALE_MS
        since = before.failing_since if before is not None and going_on else now
        if outcome.gone:
            return Failure(key, now, error, since, error)
        if since <= now - self._after_ms:
            return Failure(key, now, error, since, f"{self._reason}, the last: {error}")
        return Failure(key, now, error, since)


def _is_news(before: PushTarget | None, failure: Failure) -> bool:
    return before is None or failure.at - before.failed_at >= _TELL_MS
