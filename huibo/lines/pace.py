"""Lets things happen no more than so often in any second. Knows nothing of what they are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from huibo.errors import EngineError

WINDOW_MS = 1050  # a second, and what sending an INVITE may vary by
LONGEST_WAIT_MS = 10_000


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Pace:
    """Lets through at most so many in any window, in the order in which they come."""

    def __init__(
        self,
        now: Callable[[], float] = _loop_time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now = now
        self._sleep = sleep
        self._went: deque[float] = deque()
        self._queue = asyncio.Lock()
        self._waiting = 0

    async def turn(self, per_second: int) -> None:
        """Wait for one's turn. Raises `EngineError` at once when it would be too long in coming."""
        if self._waiting >= per_second * LONGEST_WAIT_MS / 1000:
            raise EngineError("too many calls wait for this trunk")
        self._waiting += 1
        try:
            async with self._queue:
                while (rest := self._rest(per_second)) > 0:
                    await self._sleep(rest)
                self._went.append(self._now())
        finally:
            self._waiting -= 1

    def _rest(self, per_second: int) -> float:
        """How long until one more may go; forgets what is out of the window."""
        gone = self._now() - WINDOW_MS / 1000
        while self._went and self._went[0] <= gone:
            self._went.popleft()
        return self._went[-per_second] - gone if len(self._went) >= per_second else 0.0
