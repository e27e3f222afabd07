"""So many requests a second from one address, and a cheap answer to the others: no database, no body, no log
line each.

Knows no API: how a request is refused it is told. What it keeps of addresses is bounded.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection
from time import monotonic

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from huibo.http.origin import origin

log = structlog.get_logger()

_MAX_ADDRESSES = 65536
_TELL_EVERY_S = 10.0


class Rate:
    """Requests of each address: `per_s` a second, and as many at once after a pause (GCRA)."""

    def __init__(self, per_s: int, now: Callable[[], float] = monotonic) -> None:
        self._gap = 1 / per_s
        self._burst = 1.0 - self._gap / 2  # a whole second, whatever the rounding
        self._now = now
        self._due: OrderedDict[str, float] = OrderedDict()  # when the next one of each is on time

    def __len__(self) -> int:
        return len(self._due)

    def wait_s(self, whose: str) -> float:
        """0 for a request that may pass and is counted, else how long until one may."""
        now = self._now()
        due = max(self._due.get(whose, 0.0), now)
        if due - now > self._burst:
            return due - now - self._burst
        self._due[whose] = due + self._gap
        self._due.move_to_end(whose)
        while len(self._due) > _MAX_ADDRESSES or next(iter(self._due.values())) < now:
            self._due.popitem(last=False)
        return 0.0


class FloodGate:
    """ASGI middleware. `refusal`: what those beyond the rate are answered, by path and seconds to wait."""

    def __init__(
        self, app: ASGIApp, per_s: int, refusal: Callable[[str, int], Response], open_to_all: Collection[str]
    ) -> None:
        self._app = app
        self._rate = Rate(per_s)
        self._refusal = refusal
        self._open = frozenset(open_to_all)
        self._refused = 0
        self._told_at = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            host = scope["client"][0] if scope.get("client") else ""
            if (wait_s := self._rate.wait_s(origin(host))) > 0:
                self._tell(host)
                await self._refusal(scope["path"], math.ceil(wait_s))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _tell(self, host: str) -> None:
        self._refused += 1
        if monotonic() - self._told_at >= _TELL_EVERY_S:
            log.warning("too many requests", remote_ip=host, refused=self._refused)
            self._refused, self._told_at = 0, monotonic()
