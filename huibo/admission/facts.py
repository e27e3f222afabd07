"""What admission decides upon: a request and all that must be known of the world, read in one transaction.

Plain data. Checks are functions of it, so that none of them does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from huibo.model import App, CallRequest, DisplayNumber, Leg, Trunk, Usage
from huibo.rating import Rate


@dataclass(frozen=True, slots=True)
class Facts:
    """`pool`: the app's display numbers, by number. `trunks`: all trunks; `closed`: those that take no call
    now, and why; `room`: the free channels of those that count them.
    `now`: UNIX ms; `local`: the same in the app's time zone. `available`: what the app can spend, 1/1000 fen.
    """

    request: CallRequest
    call_id: str  # what chance among equal trunks hangs on
    app: App | None
    now: int
    local: datetime
    pool: Mapping[str, DisplayNumber]
    trunks: tuple[Trunk, ...]
    engine_ready: bool
    max_talk_s: int
    callee_ring_s: int
    closed: dict[str, str]
    room: dict[str, int]
    app_locked: bool = False  # by the platform itself
    listed: Leg | None = None  # which party is on the blacklist
    usage: Usage = field(default_factory=Usage)
    avoid: frozenset[str] = frozenset()  # the trunks of the last call: others go first
    caller_rate: Rate | None = None
    callee_rate: Rate | None = None
    available: int = 0
    draining: bool = False  # this process is to take no more calls
